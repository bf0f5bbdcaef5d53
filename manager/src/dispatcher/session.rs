//! One stream of one agent, from `register` to its end: who it is, its place in the registry, and what comes in.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::NodeDescription;
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::removal;
use berth_trace::Tracer;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::clock;
use crate::raft::{Forward, Proposer};
use crate::store::Hub;

use super::figures::Figures;
use super::floor::Floors;
use super::news::{Acknowledgements, News};
use super::registry::{Registry, Session};
use super::upward::{Reports, describe, descriptions};
use super::{downward, heartbeat, message};

/// An agent that opens a stream must say who it is within this time.
const REGISTER_WAIT: Duration = Duration::from_secs(10);
/// Streams that are let in at the same time: each may cost a write.
pub(super) const OPENING_AT_ONCE: usize = 128;
/// How long a stream waits to be let in, at most twice that; agents that are turned away come back at other times.
const OPENING_WAIT: Duration = Duration::from_secs(2);
/// Part of the heartbeat period by which it is shorter at most, so that agents that came together do not stay together.
const JITTER: f64 = 0.1;
/// Messages on their way to the agent; when it does not take them, changes are put together until it does.
pub(super) const OUTBOX: usize = 16;
/// Status batches that wait for the log; beyond them the stream is not read, so that the agent waits.
const REPORTS: usize = 8;

/// What every session needs.
#[derive(Clone)]
pub struct Context {
    /// Where commits are published.
    pub hub: Hub,
    /// Takes writes.
    pub proposer: Proposer,
    /// Finds out what is committed.
    pub forward: Forward,
    /// True while this manager has lost the others.
    pub cut_off: watch::Receiver<bool>,
    /// The sessions there are.
    pub registry: Registry,
    /// Wakes those that should look.
    pub news: News,
    /// What all nodes have taken in.
    pub floors: Floors,
    /// What tasks use.
    pub figures: Figures,
    /// Streams that are let in at the same time, so that all agents coming back at once wait in line.
    pub opening: Arc<Semaphore>,
    /// Complete sets that are made at the same time.
    pub gate: Arc<Semaphore>,
    /// Where spans go.
    pub tracer: Tracer,
    /// The manager stops.
    pub stop: CancellationToken,
}

/// What an agent sends.
pub type Inbound = BoxStream<'static, Result<pb::AgentMessage, Status>>;
/// What an agent is sent.
pub type Outbox = mpsc::Sender<Result<pb::ManagerMessage, Status>>;

/// The other end of a stream.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its IP address; empty when it has none.
    pub address: String,
    /// The node that the connection proves it to be; `None` when it proves nothing.
    pub node: Option<NodeId>,
}

/// Serves one stream until either side ends it.
pub async fn serve(context: Context, mut inbound: Inbound, peer: Peer, outbox: Outbox) {
    let ended = async {
        let register = first(&mut inbound).await?;
        run(&context, inbound, register, peer, &outbox).await
    };
    let mut cut_off = context.cut_off.clone();
    let status = tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = context.stop.cancelled() => Status::unavailable("this manager is stopping"),
        // Cancel-safe: it is looked at anew. The leader hears of the agent through another manager.
        Ok(_) = cut_off.wait_for(|cut_off| *cut_off) => Status::unavailable("this manager has lost the others: try another one"),
        // Cancel-safe: a channel stays closed. An agent that is gone need not be let in.
        () = outbox.closed() => return,
        // Dropped only when the manager stops or the agent has gone.
        ended = ended => match ended {
            Ok(()) => return,
            Err(status) => status,
        },
    };
    tracing::debug!(%status, "session ended");
    // An agent that is gone needs no reason.
    let _ = outbox.try_send(Err(status));
}

async fn first(inbound: &mut Inbound) -> Result<pb::Register, Status> {
    let first = tokio::time::timeout(REGISTER_WAIT, inbound.next()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("the agent did not say which node it is"))?;
    match first.transpose()?.and_then(|first| first.message) {
        Some(FromAgent::Register(register)) => Ok(register),
        _ => Err(Status::failed_precondition("a session begins with `register`")),
    }
}

async fn run(
    context: &Context,
    inbound: Inbound,
    register: pb::Register,
    peer: Peer,
    outbox: &Outbox,
) -> Result<(), Status> {
    let (node, session_id) = (node_of(&register.node_id, peer.node)?, register.session_id);
    let address = if register.address.is_empty() { peer.address } else { register.address };
    let description = read(register.description.unwrap_or_default())?;
    let session = {
        let _turn = turn(context).await?;
        check_known(context, node).await?;
        describe(context, node, &description, &address).await?;
        context.registry.open(node, &session_id, &context.stop)
    };
    let period = heartbeat::heartbeat_period(&context.hub.snapshot()).mul_f64(1.0 - JITTER * rand::random::<f64>());
    let heartbeat_period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    send(outbox, ToAgent::Welcome(pb::Welcome { session_id: session.id.clone(), heartbeat_period })).await?;
    let (reports, waiting) = mpsc::channel(REPORTS);
    let (described, newest) = watch::channel(description);
    let mut listener = context.news.listen(node);
    let inbox = Inbox { context, node, session: &session, described, reports, applied: listener.acknowledgements() };
    tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = session.end.cancelled() => Err(Status::aborted("a newer session of this node has taken over")),
        // The others are dropped when one ends: nothing of them outlives the stream. A report whose transaction is on
        // its way may still be written; the agent sends it again, which changes nothing.
        ended = inbox.read(inbound) => ended,
        ended = Reports { context, node, waiting, outbox }.write() => ended,
        ended = descriptions(context, node, &address, newest) => ended,
        ended = downward::tell(context, node, &mut listener, outbox) => ended,
    }
}

/// The node that a caller says it is; no other than the one that the connection proves.
pub(super) fn node_of(node_id: &str, proven: Option<NodeId>) -> Result<NodeId, Status> {
    let node = node_id.parse().map_err(|error| Status::invalid_argument(format!("node_id: {error}")))?;
    match proven {
        Some(proven) if proven != node => {
            Err(Status::permission_denied(format!("the certificate is of node {proven}, not of node {node}")))
        }
        _ => Ok(node),
    }
}

/// Waits in line to be let in.
async fn turn(context: &Context) -> Result<tokio::sync::SemaphorePermit<'_>, Status> {
    let wait = OPENING_WAIT.mul_f64(1.0 + rand::random::<f64>());
    match tokio::time::timeout(wait, context.opening.acquire()).await {
        Ok(turn) => turn.map_err(|_| Status::unavailable("this manager is stopping")),
        Err(_) => {
            Err(Status::unavailable("too many agents come to this manager at once: try again, or try another one"))
        }
    }
}

/// Waits until this manager knows everything that was committed before, so that it takes back nothing that another manager
/// told the agent: by an older state the agent would end newer tasks, and take up again what it has ended. A manager that
/// the others have lost lets nobody in.
async fn check_known(context: &Context, node: NodeId) -> Result<(), Status> {
    catch_up(context).await?;
    match context.hub.snapshot().node(node) {
        Some(_) => Ok(()),
        None => Err(unknown(node)),
    }
}

pub(super) async fn catch_up(context: &Context) -> Result<(), Status> {
    let caught_up = tokio::time::timeout(OPENING_WAIT, context.forward.linearizable()).await;
    let behind = || Status::unavailable("this manager does not reach a leader: try another one");
    caught_up.ok().and_then(Result::ok).ok_or_else(behind)
}

/// To be said only once this manager has caught up: the node ends its tasks.
pub(super) fn unknown(node: NodeId) -> Status {
    removal::status(Code::NotFound, node)
}

fn read(description: pb::NodeDescription) -> Result<NodeDescription, Status> {
    description.try_into().map_err(|error| Status::invalid_argument(format!("description: {error}")))
}

pub(super) async fn send(outbox: &Outbox, message: ToAgent) -> Result<(), Status> {
    let sent = outbox.send(Ok(message::manager_message(message))).await;
    sent.map_err(|_| Status::cancelled("the agent has gone"))
}

/// Takes in what the agent sends.
struct Inbox<'a> {
    context: &'a Context,
    node: NodeId,
    session: &'a Session,
    applied: Acknowledgements,
    described: watch::Sender<NodeDescription>,
    reports: mpsc::Sender<pb::StatusBatch>,
}

impl Inbox<'_> {
    async fn read(self, mut inbound: Inbound) -> Result<(), Status> {
        while let Some(message) = inbound.next().await {
            let message = message?.message;
            self.session.heard();
            match message {
                Some(FromAgent::Heartbeat(_)) | None => {}
                Some(FromAgent::Ack(ack)) => self.applied.note(ack.sequence),
                Some(FromAgent::Status(batch)) => {
                    let queued = self.reports.send(batch).await;
                    queued.map_err(|_| Status::internal("reports are not taken any more"))?;
                }
                Some(FromAgent::Description(description)) => {
                    self.described.send_replace(read(description)?);
                }
                Some(FromAgent::Figures(figures)) => {
                    let state = self.context.hub.snapshot();
                    self.context.figures.take(self.node, figures, &state, clock::now());
                }
                Some(FromAgent::Register(_)) => {
                    return Err(Status::failed_precondition("`register` comes once in a session"));
                }
            }
        }
        Ok(())
    }
}
