//! The gRPC service that agents open their streams to.

use std::pin::Pin;
use std::sync::Arc;

use berth_proto::pb;
use berth_proto::pb::dispatcher_server::{Dispatcher, DispatcherServer};
use berth_proto::state::NodeRole;
use berth_trace::Tracer;
use futures::{Stream, StreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::members::caller::caller;
use crate::raft::RaftNode;

use super::figures::Figures;
use super::floor::Floors;
use super::holders::holders;
use super::leave::leave;
use super::metrics::DispatcherMetrics;
use super::news::News;
use super::registry::Registry;
use super::session::{Context, OPENING_AT_ONCE, OUTBOX, Peer, catch_up, node_of, serve};

/// Complete sets that are made at the same time.
const SETS_AT_ONCE: usize = 32;
/// Largest message that is taken: a batch of status reports.
const MAX_MESSAGE: usize = 16 << 20;

/// The dispatcher; clones share the sessions.
#[derive(Clone)]
pub struct DispatcherService {
    context: Context,
    metrics: DispatcherMetrics,
}

/// What a dispatcher shares with the rest of its manager.
pub struct DispatcherParts {
    /// Its sessions.
    pub registry: Registry,
    /// What of the state is news to whom.
    pub news: News,
    /// Up to where nodes have taken in what they were told.
    pub floors: Floors,
    /// What tasks use, as far as agents were asked.
    pub figures: Figures,
    /// Where spans go.
    pub tracer: Tracer,
    /// What it counts.
    pub metrics: DispatcherMetrics,
}

impl DispatcherService {
    /// A dispatcher without sessions.
    pub fn new(raft: &RaftNode, parts: DispatcherParts, stop: CancellationToken) -> Self {
        let DispatcherParts { registry, news, floors, figures, tracer, metrics } = parts;
        Self {
            metrics,
            context: Context {
                hub: raft.hub().clone(),
                proposer: raft.proposer().clone(),
                forward: raft.forward().clone(),
                cut_off: raft.cut_off(),
                news,
                floors,
                figures,
                registry,
                opening: Arc::new(Semaphore::new(OPENING_AT_ONCE)),
                gate: Arc::new(Semaphore::new(SETS_AT_ONCE)),
                tracer,
                stop,
            },
        }
    }

    /// The same as a tonic service.
    pub fn into_server(self) -> DispatcherServer<Self> {
        DispatcherServer::new(self).max_decoding_message_size(MAX_MESSAGE)
    }
}

#[tonic::async_trait]
impl Dispatcher for DispatcherService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let address = request.remote_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
        let peer = Peer { address, node: caller(&request) };
        let (outbox, messages) = mpsc::channel(OUTBOX);
        // Ends with the stream: reading from it fails, or writing to it does.
        let metrics = self.metrics.clone();
        metrics.opened();
        let inbound = request.into_inner().inspect(move |message| message.iter().for_each(|it| metrics.received(it)));
        tokio::spawn(serve(self.context.clone(), inbound.boxed(), peer, outbox));
        let metrics = self.metrics.clone();
        let outbound = ReceiverStream::new(messages);
        Ok(Response::new(Box::pin(outbound.inspect(move |message| message.iter().for_each(|it| metrics.sent(it))))))
    }

    async fn find_image(
        &self,
        request: Request<pb::FindImageRequest>,
    ) -> Result<Response<pb::FindImageResponse>, Status> {
        let state = self.context.hub.snapshot();
        let holders = holders(&state, &request.get_ref().reference, caller(&request), rand::random());
        Ok(Response::new(pb::FindImageResponse { holders }))
    }

    async fn check_node(
        &self,
        request: Request<pb::CheckNodeRequest>,
    ) -> Result<Response<pb::CheckNodeResponse>, Status> {
        let node = node_of(&request.get_ref().node_id, None)?;
        let says = || {
            let state = self.context.hub.snapshot();
            let known = state.node(node)?;
            let manager = known.spec.role == NodeRole::Manager || known.manager.is_some();
            Some(pb::CheckNodeResponse { known: true, manager })
        };
        let said = match says() {
            Some(said) => said,
            None => {
                // One that came a moment ago may not be known here yet.
                catch_up(&self.context).await?;
                says().unwrap_or_default()
            }
        };
        Ok(Response::new(said))
    }

    async fn leave(&self, request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        let node = node_of(&request.get_ref().node_id, caller(&request))?;
        leave(&self.context, node, request.get_ref().now).await.map(Response::new)
    }
}
