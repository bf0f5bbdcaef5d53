//! Session after session, with one manager after another, until shutdown.
//!
//! Owns the choice of the manager and the reconnecting. Without a manager the tasks run on as they are; it gives up only when
//! one says that this node is not part of the cluster any more.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_proto::pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::managers;
use super::stream::{self, Identity, SessionError};
use crate::reach::{ManagerAddress, Reach};
use crate::worker::Board;

/// A manager that does not answer `register` for this long is given up. It may have thousands to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The same while there are others that were not tried yet.
const ANSWER_SOON: Duration = Duration::from_secs(3);
/// Agents that lost their manager come to the next over this part of a heartbeat's period.
const SPREAD: u32 = 4;

/// Takes in what a manager says. Returns when it is recorded and under way; [`Sink::in_force`] says when it is done.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Everything that this node should know, from the managers' state at `index`.
    async fn complete(&self, assignments: Vec<pb::Assignment>, index: u64);
    /// Changes on top of it, from the managers' state at `index`.
    async fn changes(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>, index: u64);
    /// Returns when packets go where everything that was taken in before says: only then the manager is told that it
    /// was.
    async fn in_force(&self);
    /// All other nodes know what they have to of everything up to `index`.
    async fn settled(&self, index: u64);
    /// Who the managers are, and what this node should be.
    async fn membership(&self, membership: pb::Membership);
}

/// The manager that the session is with, and the way to it.
#[derive(Debug, Clone)]
pub struct Link {
    /// Who.
    pub manager: ManagerAddress,
    /// Shared with the session: other calls go on the same connection.
    pub channel: Channel,
}

impl Link {
    /// The connection of the session, once one is up; `None` when this node is stopping.
    pub async fn channel(link: &watch::Receiver<Option<Self>>) -> Option<Channel> {
        let mut link = link.clone();
        let up = link.wait_for(Option::is_some).await.ok()?;
        up.as_ref().map(|link| link.channel.clone())
    }
}

/// What a client is made of.
pub struct ClientSetup {
    /// What sessions tell of the node.
    pub identity: Identity,
    /// Statuses to tell.
    pub board: Arc<Board>,
    /// Takes what is heard.
    pub sink: Arc<dyn Sink>,
    /// Leads to managers.
    pub reach: Arc<dyn Reach>,
    /// Managers that the node was started with; looked at when one is looked for.
    pub given: watch::Receiver<Vec<ManagerAddress>>,
    /// What the managers said last.
    pub membership: watch::Receiver<Option<pb::Membership>>,
    /// Shows the session that is up.
    pub link: watch::Sender<Option<Link>>,
}

/// The session client.
pub struct Client {
    setup: ClientSetup,
    backoff: Backoff,
    /// Of the last session.
    heartbeat: Duration,
}

/// Why a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By the shutdown.
    Stopped,
    /// This node is not part of the cluster any more.
    Removed,
}

/// How an attempt with one manager ended, but by shutdown.
enum Attempt {
    /// No session came up.
    Vain,
    /// One was up, and is no more.
    Lost,
    /// The manager says that this node was removed.
    Removed,
}

/// How a round over all managers ended.
enum Round {
    /// No session came up, or the shutdown fired.
    Vain,
    /// One was up, and is no more.
    Lost(ManagerAddress),
    /// This node was removed.
    Removed,
}

impl Client {
    /// A client without a session.
    pub fn new(setup: ClientSetup) -> Self {
        Self { setup, backoff: Backoff::default(), heartbeat: Duration::ZERO }
    }

    /// Runs until `shutdown`, or until this node is not part of the cluster any more. Dropping it ends the session.
    pub async fn run(mut self, shutdown: CancellationToken) -> Ended {
        let mut lost = None;
        // Rounds without a session.
        let mut vain = 0_u32;
        while !shutdown.is_cancelled() {
            let wait = match self.round(lost.as_ref(), vain == 0, &shutdown).await {
                Round::Removed => return Ended::Removed,
                Round::Lost(manager) => {
                    (lost, vain) = (Some(manager), 0);
                    (self.heartbeat / SPREAD).mul_f64(rand::random())
                }
                Round::Vain => {
                    vain = vain.saturating_add(1);
                    self.backoff.failed(rand::random())
                }
            };
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = shutdown.cancelled() => break,
                // Cancel-safe: a change that is not taken stays one.
                () = super::changed(&mut self.setup.given), if vain > 0 => {}
                // Cancel-safe: nothing is lost with a sleep.
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ended::Stopped
    }

    /// Tries every manager once, until one has let this node in.
    async fn round(&mut self, lost: Option<&ManagerAddress>, hasty: bool, shutdown: &CancellationToken) -> Round {
        let given = self.setup.given.borrow_and_update().clone();
        let told = self.setup.membership.borrow().clone();
        let order = managers::order(self.setup.identity.node, told.as_ref(), &given, lost, rand::random());
        let last = order.len().saturating_sub(1);
        for (at, manager) in order.into_iter().enumerate() {
            let patience = if hasty && at < last { ANSWER_SOON } else { ANSWER };
            match self.attempt(&manager, patience, shutdown).await {
                Some(Attempt::Vain) => {}
                Some(Attempt::Lost) => return Round::Lost(manager),
                Some(Attempt::Removed) => return Round::Removed,
                None => return Round::Vain,
            }
        }
        Round::Vain
    }

    /// One session with one manager; `None` at shutdown.
    async fn attempt(
        &mut self,
        manager: &ManagerAddress,
        patience: Duration,
        shutdown: &CancellationToken,
    ) -> Option<Attempt> {
        let ClientSetup { identity, board, sink, reach, link, .. } = &mut self.setup;
        let channel = match reach.manager(manager) {
            Ok(channel) => channel,
            Err(error) => {
                tracing::info!(address = manager.address, error, "a manager cannot be reached");
                return Some(Attempt::Vain);
            }
        };
        let mut heartbeat = None;
        let up = |period: Duration| {
            tracing::info!(address = manager.address, "a session with a manager is up");
            heartbeat = Some(period);
            link.send_replace(Some(Link { manager: manager.clone(), channel: channel.clone() }));
        };
        let ended = stream::run(channel.clone(), patience, identity, board, sink, shutdown, up).await;
        link.send_replace(None);
        let error: SessionError = ended.err()?;
        if error.says_removed(identity.node) {
            tracing::warn!(address = manager.address, %error, "this node is not part of the cluster any more");
            return Some(Attempt::Removed);
        }
        tracing::info!(address = manager.address, %error, "no session with this manager, tasks run on");
        Some(match heartbeat {
            Some(period) => {
                self.backoff.succeeded();
                self.heartbeat = period;
                Attempt::Lost
            }
            None => Attempt::Vain,
        })
    }
}
