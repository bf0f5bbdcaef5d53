//! What every handler has at hand: the manager's state, its control API, the way to the nodes' tasks.

use std::sync::{Arc, Mutex};

use berth_manager::api::ControlApi;
use berth_manager::identity::throttle::Throttle;
use berth_manager::manager::ControlHandle;
use berth_proto::pb::node_service_client::NodeServiceClient;
use tonic::transport::Channel;

/// What every handler has at hand. Clones share everything.
#[derive(Clone)]
pub struct Site {
    /// State, watches, and whether reads are linearizable.
    pub manager: ControlHandle,
    /// Does what is asked for.
    pub control: ControlApi,
    /// Logs, terminals, figures and images of tasks and nodes, wherever they are.
    pub node: NodeServiceClient<Channel>,
    /// Served over TLS: cookies are kept from plain HTTP then.
    pub secure: bool,
    /// Wrong tokens by address.
    pub(crate) throttle: Arc<Mutex<Throttle>>,
}

impl Site {
    /// A site of this manager.
    pub fn new(manager: ControlHandle, control: ControlApi, node: NodeServiceClient<Channel>, secure: bool) -> Self {
        Self { manager, control, node, secure, throttle: Arc::default() }
    }
}
