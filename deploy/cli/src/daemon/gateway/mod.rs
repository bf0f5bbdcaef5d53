//! What people ask of tasks, from any manager: each call goes to the node that has the task, and streams come straight back.
//!
//! | file | what |
//! |---|---|
//! | `route.rs` | pure: which node has a task, where tasks of a service are |
//! | `logs.rs` | logs of several nodes as one stream |
//! | `service.rs` | the generated trait: here, there, or on several nodes |
//!
//! Images and volumes are this node's own. Never keeps anything of a call beyond it.

mod logs;
mod route;
mod service;

use std::sync::Arc;

use berth_agent::LocalService;
use berth_agent::Reach;
use berth_manager::store::Hub;
use berth_proto::id::NodeId;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::pb::node_service_server::NodeServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Server};

use super::inprocess;

/// Largest answer that is passed on in one piece.
pub const MAX_ANSWER: usize = 64 << 20;

/// The service of a manager's socket. Clones share everything.
#[derive(Clone)]
pub struct Gateway {
    own: NodeId,
    local: LocalService,
    /// The way to `local` for streams whose first message was read.
    here: Channel,
    hub: Hub,
    reach: Arc<dyn Reach>,
    name_of_user: fn(u32) -> Option<String>,
}

impl Gateway {
    /// Answers for `own` itself and asks other nodes over `reach`. Must be called within a tokio runtime; `stop` ends what it
    /// serves to itself.
    pub fn new(own: NodeId, local: LocalService, hub: Hub, reach: Arc<dyn Reach>, stop: CancellationToken) -> Self {
        let (here, calls) = inprocess::pair();
        let server = Server::builder().add_service(NodeServiceServer::new(local.clone()));
        tokio::spawn(async move {
            if let Err(error) = server.serve_with_incoming_shutdown(calls, stop.cancelled_owned()).await {
                tracing::error!(%error, "this node's tasks can no longer be asked");
            }
        });
        Self { own, local, here, hub, reach, name_of_user: |_| None }
    }

    /// Where the names of users come from who run commands in tasks.
    #[must_use]
    pub fn with_user_names(self, name_of_user: fn(u32) -> Option<String>) -> Self {
        Self { name_of_user, ..self }
    }

    /// A client of the node that has the task. A task that the managers have forgotten may still have its logs here.
    fn node_of(&self, task: &str) -> Result<NodeServiceClient<Channel>, Status> {
        let node = route::node_of(&self.hub.snapshot(), task)?;
        self.client(node.unwrap_or(self.own))
    }

    fn client(&self, node: NodeId) -> Result<NodeServiceClient<Channel>, Status> {
        if node == self.own {
            return Ok(NodeServiceClient::new(self.here.clone()).max_decoding_message_size(MAX_ANSWER));
        }
        let state = self.hub.snapshot();
        let (name, address) = route::address(&state, node)?;
        let channel = self.reach.node(node, &address);
        let channel = channel.map_err(|error| Status::unavailable(format!("cannot reach node {name}: {error}")))?;
        Ok(NodeServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }
}
