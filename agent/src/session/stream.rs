//! One stream to a manager, from `register` to its end.
//!
//! Owns the order on the stream. Never keeps anything of a session beyond it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::{NodeDescription, TunnelKey};
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::pb::{self, agent_message, manager_message};
use berth_proto::removal;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::client::Sink;
use super::outbox::Outbox;
use crate::worker::Board;

/// Messages that wait to be sent; a manager that takes none holds the session up, not the tasks.
const QUEUE: usize = 16;
/// Statuses that change within this time go up together.
const GATHER: Duration = Duration::from_millis(2);
/// A complete set can be large: specs, networks and tasks of a whole node.
const MAX_MESSAGE: usize = 256 << 20;

/// What a session tells of the node.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// What it is, but for its routes, images and keys.
    pub description: NodeDescription,
    /// The ranges that it has routes to, as they change.
    pub routes: watch::Receiver<BTreeSet<IpNet>>,
    /// The references of images that it has whole, as they change.
    pub images: watch::Receiver<BTreeSet<String>>,
    /// Its keys for encrypted networks, as they change.
    pub keys: watch::Receiver<Vec<TunnelKey>>,
    /// What its tasks use, as it is read.
    pub figures: watch::Receiver<pb::Figures>,
    /// Address that others reach it at; empty lets the manager take the stream's.
    pub address: String,
    /// The last session's id; empty for none.
    pub session: String,
}

impl Identity {
    /// What it is now; its routes, images and keys count as told.
    fn describe(&mut self) -> pb::NodeDescription {
        let routes = self.routes.borrow_and_update().clone();
        let images = self.images.borrow_and_update().clone();
        let tunnel_keys = self.keys.borrow_and_update().clone();
        (&NodeDescription { routes, images, tunnel_keys, ..self.description.clone() }).into()
    }

    /// Waits until its routes, images or keys are not those that were told last, or its tasks' use was read, and says so.
    /// Cancel-safe: a change that is not taken stays one.
    async fn news(&mut self) -> agent_message::Message {
        tokio::select! {
            // Cancel-safe, all.
            () = super::changed(&mut self.keys) => {}
            () = super::changed(&mut self.routes) => {}
            () = super::changed(&mut self.images) => {}
            () = super::changed(&mut self.figures) => {
                return agent_message::Message::Figures(self.figures.borrow_and_update().clone());
            }
        }
        agent_message::Message::Description(self.describe())
    }
}

/// How a session ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The manager ended it, or it broke.
    #[error("the session ended: {0}")]
    Ended(#[from] Status),
    /// The manager closed it without a word.
    #[error("the manager closed the session")]
    Closed,
    /// The manager said something out of turn.
    #[error("the manager's changes begin at {found}, {expected} was expected")]
    OutOfOrder {
        /// What came.
        found: u64,
        /// What should have come.
        expected: u64,
    },
    /// No welcome came.
    #[error("the manager did not answer within {0:?}")]
    Silent(Duration),
}

impl SessionError {
    /// The manager has seen, in a state that is no older than what this node has, that `node` was removed from the cluster. One
    /// that is behind or cut off never says so.
    pub fn says_removed(&self, node: NodeId) -> bool {
        matches!(self, Self::Ended(status) if removal::of(status) == Some(node))
    }
}

/// Runs one session until it breaks; ends well only by `shutdown`. A manager that has not answered `register` after `patience` is
/// given up; `up` is called with the heartbeats' period once it has.
pub async fn run(
    channel: Channel,
    patience: Duration,
    identity: &mut Identity,
    board: &Board,
    sink: &Arc<dyn Sink>,
    shutdown: &CancellationToken,
    up: impl FnOnce(Duration),
) -> Result<(), SessionError> {
    let (send, receive) = mpsc::channel(QUEUE);
    let register = pb::Register {
        node_id: identity.node.to_string(),
        description: Some(identity.describe()),
        address: identity.address.clone(),
        session_id: identity.session.clone(),
    };
    let _ = send.try_send(message(agent_message::Message::Register(register)));
    let mut client = DispatcherClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let opening = async {
        let mut stream = client.session(ReceiverStream::new(receive)).await?.into_inner();
        match stream.next().await.transpose()?.and_then(|first| first.message) {
            Some(manager_message::Message::Welcome(welcome)) => Ok((stream, welcome)),
            Some(_) => Err(SessionError::Ended(Status::internal("a session begins with `welcome`"))),
            None => Err(SessionError::Closed),
        }
    };
    let (stream, welcome) = tokio::select! {
        biased;
        // Nothing is kept of a session that did not open.
        () = shutdown.cancelled() => return Ok(()),
        opened = tokio::time::timeout(patience, opening) => opened.map_err(|_| SessionError::Silent(patience))??,
    };
    identity.session = welcome.session_id;
    board.forget_acknowledged();
    let period = Duration::from_nanos(welcome.heartbeat_period).max(Duration::from_millis(10));
    up(period);
    let mut session = Session { send, outbox: Outbox::default(), sequence: None, applying: None };
    session.run(stream, period, identity, board, sink, shutdown).await
}

struct Session {
    send: mpsc::Sender<pb::AgentMessage>,
    outbox: Outbox,
    /// Of the last assignments that were taken in; `None` before the complete set.
    sequence: Option<u64>,
    /// What is being brought into force, up to that sequence. Assignments that come meanwhile are brought into force
    /// together.
    applying: Option<(u64, JoinHandle<()>)>,
}

impl Session {
    async fn run(
        &mut self,
        mut stream: Streaming<pb::ManagerMessage>,
        period: Duration,
        identity: &mut Identity,
        board: &Board,
        sink: &Arc<dyn Sink>,
        shutdown: &CancellationToken,
    ) -> Result<(), SessionError> {
        let mut heartbeat = tokio::time::interval(period);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = shutdown.cancelled() => return Ok(()),
                // Cancel-safe: what is under way is kept.
                sequence = in_force(&mut self.applying) => {
                    self.applying = None;
                    self.send(agent_message::Message::Ack(pb::AssignmentAck { sequence })).await?;
                    if self.sequence.is_some_and(|last| last > sequence) {
                        self.apply(sink);
                    }
                }
                // Cancel-safe: a message is taken whole or not at all.
                next = stream.next() => match next.transpose()? {
                    Some(message) => self.take(message, board, sink).await?,
                    None => return Err(SessionError::Closed),
                },
                // Cancel-safe: a tick that is not taken stays due.
                _ = heartbeat.tick() => self.send(agent_message::Message::Heartbeat(pb::Heartbeat {})).await?,
                // Cancel-safe: a change that is not taken stays one.
                news = identity.news() => self.send(news).await?,
                // Cancel-safe: a permit that is not taken stays.
                () = board.wait() => {
                    tokio::time::sleep(GATHER).await;
                    self.tell(board).await?;
                }
            }
        }
    }

    async fn take(
        &mut self,
        message: pb::ManagerMessage,
        board: &Board,
        sink: &Arc<dyn Sink>,
    ) -> Result<(), SessionError> {
        match message.message {
            Some(manager_message::Message::Complete(set)) => {
                sink.complete(set.assignments, set.index).await;
                self.taken(set.sequence, sink);
                Ok(())
            }
            Some(manager_message::Message::Changes(changes)) => {
                let expected = self.sequence.map_or(0, |last| last + 1);
                // What is missing cannot be guessed: a new session begins with everything.
                if self.sequence.is_none() || changes.sequence != expected {
                    return Err(SessionError::OutOfOrder { found: changes.sequence, expected });
                }
                sink.changes(changes.updates, changes.removals, changes.index).await;
                self.taken(changes.sequence, sink);
                Ok(())
            }
            Some(manager_message::Message::StatusAck(ack)) => {
                self.outbox.acknowledged(ack.sequence, board);
                self.tell(board).await
            }
            Some(manager_message::Message::Membership(membership)) => {
                sink.membership(membership).await;
                Ok(())
            }
            Some(manager_message::Message::Settled(settled)) => {
                sink.settled(settled.index).await;
                Ok(())
            }
            Some(manager_message::Message::Welcome(_)) | None => Ok(()),
        }
    }

    fn taken(&mut self, sequence: u64, sink: &Arc<dyn Sink>) {
        self.sequence = Some(sequence);
        if self.applying.is_none() {
            self.apply(sink);
        }
    }

    /// On its own, so that neither heartbeats nor statuses wait for it, and the end of the session does not end it.
    fn apply(&mut self, sink: &Arc<dyn Sink>) {
        let sink = Arc::clone(sink);
        let applying = |sequence| (sequence, tokio::spawn(async move { sink.in_force().await }));
        self.applying = self.sequence.map(applying);
    }

    async fn tell(&mut self, board: &Board) -> Result<(), SessionError> {
        while let Some(batch) = self.outbox.next(board) {
            self.send(agent_message::Message::Status(batch)).await?;
        }
        Ok(())
    }

    async fn send(&self, content: agent_message::Message) -> Result<(), SessionError> {
        self.send.send(message(content)).await.map_err(|_| SessionError::Closed)
    }
}

/// Waits until what is under way is in force; its sequence. Forever when nothing is under way. Cancel-safe: it is kept.
async fn in_force(applying: &mut Option<(u64, JoinHandle<()>)>) -> u64 {
    let Some((sequence, applying)) = applying else { return std::future::pending().await };
    if let Err(error) = applying.await {
        tracing::error!(%error, "bringing assignments into force died");
    }
    *sequence
}

fn message(content: agent_message::Message) -> pb::AgentMessage {
    pb::AgentMessage { message: Some(content) }
}
