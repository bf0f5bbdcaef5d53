//! One stream of one agent: takes in heartbeats and reports, sends the complete set and then numbered changes.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_proto::id::NodeId;
use berth_proto::object::NodeDescription;
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::time::Timestamp;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::identity::Peer;
use crate::raft::{ProposeError, Proposer};
use crate::store::{Hub, Snapshot, Subscription, WatchError};

use super::assignment::{Assigned, Urgency, assigned, diff, urgency};
use super::registry::{Registry, Session};
use super::{heartbeat, message, report};

/// An agent that opens a stream must say who it is within this time.
const REGISTER_WAIT: Duration = Duration::from_secs(10);
/// Messages on their way to the agent; when it does not take them, changes are put together until it does.
pub(super) const OUTBOX: usize = 16;
/// Status batches that wait for the log; beyond them the stream is not read, so that the agent waits.
const REPORTS: usize = 8;
/// Changes that are not about the node's own tasks are put together for this long.
const SETTLE: Duration = Duration::from_millis(20);

/// What every session needs.
#[derive(Clone)]
pub struct Context {
    /// Where commits are published.
    pub hub: Hub,
    /// Takes writes.
    pub proposer: Proposer,
    /// The sessions there are.
    pub registry: Registry,
    /// Complete sets that are made at the same time, so that all agents coming back at once wait in line.
    pub gate: Arc<Semaphore>,
    /// The manager stops.
    pub stop: CancellationToken,
}

/// Where a stream comes from.
pub struct Caller {
    /// The agent's address; empty within the process.
    pub address: String,
    /// The node that its certificate is of; `None` within the process, where no other than its own node's agent is.
    pub peer: Option<Arc<Peer>>,
}

/// What an agent sends.
pub type Inbound = BoxStream<'static, Result<pb::AgentMessage, Status>>;
/// What an agent is sent.
pub type Outbox = mpsc::Sender<Result<pb::ManagerMessage, Status>>;

/// Serves one stream until either side ends it.
pub async fn serve(context: Context, mut inbound: Inbound, caller: Caller, outbox: Outbox) {
    let ended = async {
        let register = first(&mut inbound).await?;
        run(&context, inbound, register, caller, &outbox).await
    };
    let status = tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = context.stop.cancelled() => Status::unavailable("this manager is stopping"),
        // Dropped only when the manager stops.
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
    caller: Caller,
    outbox: &Outbox,
) -> Result<(), Status> {
    let node: NodeId =
        register.node_id.parse().map_err(|error| Status::invalid_argument(format!("node_id: {error}")))?;
    if let Some(peer) = caller.peer.as_ref().filter(|peer| peer.node != node) {
        tracing::warn!(claimed = %node, node = %peer.node, address = caller.address, "a session was refused");
        return Err(Status::permission_denied(format!("the certificate is node {}'s, not node {node}'s", peer.node)));
    }
    let address = if register.address.is_empty() { caller.address } else { register.address };
    let description = describe(register.description.unwrap_or_default())?;
    if context.hub.snapshot().node(node).is_none() {
        return Err(unknown(node));
    }
    let session = context.registry.open(node, &register.session_id, &context.stop);
    welcome(context, node, &description, &address, caller.peer.as_deref()).await?;
    let period = heartbeat::heartbeat_period(&context.hub.snapshot());
    let heartbeat_period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    send(outbox, ToAgent::Welcome(pb::Welcome { session_id: session.id.clone(), heartbeat_period })).await?;
    let (reports, waiting) = mpsc::channel(REPORTS);
    let inbox = Inbox { context, session: &session, node, address, reports };
    tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = session.end.cancelled() => Err(Status::aborted("a newer session of this node has taken over")),
        // The others are dropped when one ends: nothing of them outlives the stream. A report whose transaction is on
        // its way may still be written; the agent sends it again, which changes nothing.
        ended = inbox.read(inbound) => ended,
        ended = Reports { context, node, waiting, outbox }.write() => ended,
        ended = assign(context, node, outbox) => ended,
    }
}

fn unknown(node: NodeId) -> Status {
    Status::not_found(format!("node {node} is not part of this cluster"))
}

fn describe(description: pb::NodeDescription) -> Result<NodeDescription, Status> {
    description.try_into().map_err(|error| Status::invalid_argument(format!("description: {error}")))
}

async fn send(outbox: &Outbox, message: ToAgent) -> Result<(), Status> {
    let sent = outbox.send(Ok(message::manager_message(message))).await;
    sent.map_err(|_| Status::cancelled("the agent has gone"))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn refused(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::Stopped | ProposeError::Lost => {
            Status::unavailable(error.to_string())
        }
        ProposeError::Conflict(_) | ProposeError::TooLarge { .. } => Status::aborted(error.to_string()),
    }
}

/// Writes down what the node says of itself, what its certificate says when it is a new one, and that it is ready.
async fn welcome(
    context: &Context,
    node: NodeId,
    description: &NodeDescription,
    address: &str,
    peer: Option<&Peer>,
) -> Result<(), Status> {
    enum Refused {
        Unknown,
        Propose(ProposeError),
    }
    impl From<ProposeError> for Refused {
        fn from(error: ProposeError) -> Self {
            Self::Propose(error)
        }
    }
    let make = |state: &crate::store::State| {
        heartbeat::registration(state, node, description, address, peer, now()).ok_or(Refused::Unknown)
    };
    match context.proposer.write(make).await {
        Ok(_) => Ok(()),
        Err(Refused::Unknown) => Err(unknown(node)),
        Err(Refused::Propose(error)) => Err(refused(&error)),
    }
}

/// Takes in what the agent sends.
struct Inbox<'a> {
    context: &'a Context,
    session: &'a Session,
    node: NodeId,
    address: String,
    reports: mpsc::Sender<pb::StatusBatch>,
}

impl Inbox<'_> {
    async fn read(self, mut inbound: Inbound) -> Result<(), Status> {
        while let Some(message) = inbound.next().await {
            let message = message?.message;
            self.session.heard();
            match message {
                Some(FromAgent::Heartbeat(_)) | None => {}
                Some(FromAgent::Ack(ack)) => tracing::trace!(node = %self.node, ack.sequence, "applied"),
                Some(FromAgent::Status(batch)) => {
                    let queued = self.reports.send(batch).await;
                    queued.map_err(|_| Status::internal("reports are not taken any more"))?;
                }
                Some(FromAgent::Description(description)) => {
                    welcome(self.context, self.node, &describe(description)?, &self.address, None).await?;
                }
                Some(FromAgent::Register(_)) => {
                    return Err(Status::failed_precondition("`register` comes once in a session"));
                }
            }
        }
        Ok(())
    }
}

/// Writes what the agent reports and says so once it is safe.
struct Reports<'a> {
    context: &'a Context,
    node: NodeId,
    waiting: mpsc::Receiver<pb::StatusBatch>,
    outbox: &'a Outbox,
}

impl Reports<'_> {
    async fn write(mut self) -> Result<(), Status> {
        while let Some(batch) = self.waiting.recv().await {
            let mut sequence = batch.sequence;
            let mut all = batch;
            // Reports that came meanwhile go with it: one acknowledgement of the newest is one of all before.
            while let Ok(next) = self.waiting.try_recv() {
                sequence = sequence.max(next.sequence);
                all.reports.extend(next.reports);
            }
            let (transactions, malformed) = report::transactions(self.node, all, now());
            for (task, error) in malformed {
                tracing::warn!(node = %self.node, task, %error, "a report is not well formed");
            }
            let proposals = transactions.into_iter().map(|transaction| self.context.proposer.propose(transaction));
            for outcome in join_all(proposals).await {
                outcome.map_err(|error| refused(&error))?;
            }
            send(self.outbox, ToAgent::StatusAck(pb::StatusAck { sequence })).await?;
        }
        Ok(())
    }
}

/// Sends the complete set and then changes, each as soon as it is urgent and the agent takes it.
async fn assign(context: &Context, node: NodeId, outbox: &Outbox) -> Result<(), Status> {
    let (mut known, mut commits) = {
        let _turn = context.gate.acquire().await.map_err(|_| Status::unavailable("this manager is stopping"))?;
        let (state, commits) = context.hub.subscribe();
        let set = assigned(&state, node);
        outbox.send(Ok(message::complete(1, &set))).await.map_err(|_| Status::cancelled("the agent has gone"))?;
        (set, commits)
    };
    let mut sequence = 1;
    loop {
        let state = next_state(&mut commits, node).await?;
        if state.node(node).is_none() {
            return Err(Status::not_found(format!("node {node} was removed from the cluster")));
        }
        let wanted: Assigned = assigned(&state, node);
        let changes = diff(&known, &wanted);
        known = wanted;
        if !changes.is_empty() {
            sequence += 1;
            let sent = outbox.send(Ok(message::changes(sequence, &changes))).await;
            sent.map_err(|_| Status::cancelled("the agent has gone"))?;
        }
    }
}

/// Waits for something that the node should hear of; what is not about its own tasks waits for more of its kind.
async fn next_state(commits: &mut Subscription, node: NodeId) -> Result<Snapshot, Status> {
    let stopping = |_| Status::unavailable("this manager is stopping");
    let mut due: Option<Instant> = None;
    loop {
        let commit = match due {
            None => commits.next().await,
            Some(due) => match tokio::time::timeout_at(due, commits.next()).await {
                Ok(commit) => commit,
                Err(_) => return Ok(commits.resync()),
            },
        };
        let urgent = match commit {
            Ok(commit) => commit.events.iter().map(|event| urgency(event, node)).max().unwrap_or(Urgency::Never),
            Err(WatchError::Lagged { .. }) => Urgency::Now,
            Err(closed @ WatchError::Closed) => return Err(stopping(closed)),
        };
        match urgent {
            Urgency::Never => {}
            Urgency::Soon => due = due.or_else(|| Some(Instant::now() + SETTLE)),
            Urgency::Now => return Ok(commits.resync()),
        }
    }
}
