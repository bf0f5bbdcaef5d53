//! Session after session, until shutdown.
//!
//! Owns the reconnecting. Never gives up: without a manager the tasks run on as they are.

use std::sync::Arc;

use async_trait::async_trait;
use berth_proto::pb;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::backoff::Backoff;
use super::stream::{self, Identity};
use crate::worker::Board;

/// Takes assignments in. Returns when they are recorded and under way.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Everything that this node should know.
    async fn complete(&self, assignments: Vec<pb::Assignment>);
    /// Changes on top of it.
    async fn changes(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>);
}

/// The session client.
pub struct Client {
    identity: Identity,
    board: Arc<Board>,
    sink: Arc<dyn Sink>,
    connected: watch::Sender<bool>,
}

impl Client {
    /// A client that tells what `board` has and gives what it hears to `sink`; `connected` shows whether a session is up.
    pub fn new(identity: Identity, board: Arc<Board>, sink: Arc<dyn Sink>, connected: watch::Sender<bool>) -> Self {
        Self { identity, board, sink, connected }
    }

    /// Runs until `shutdown`. The channel reconnects by itself.
    pub async fn run(mut self, channel: Channel, shutdown: CancellationToken) {
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let up = || {
                backoff.succeeded();
                self.connected.send_replace(true);
            };
            let ended = stream::run(channel.clone(), &mut self.identity, &self.board, &self.sink, &shutdown, up).await;
            self.connected.send_replace(false);
            let Err(error) = ended else { return };
            let wait = backoff.failed(rand::random());
            tracing::info!(%error, ?wait, "no session with a manager, tasks run on; trying again");
            tokio::select! {
                biased;
                // Cancel-safe, both.
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
