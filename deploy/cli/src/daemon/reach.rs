//! The way to managers and nodes: over TLS with this node's certificate, and straight through memory to the manager in the
//! same process, while there is one.

use std::sync::{Arc, Mutex, PoisonError};

use berth_agent::{ManagerAddress, Reach};
use berth_manager::identity::Credentials;
use berth_proto::id::NodeId;
use tonic::transport::Channel;

/// Connects this node's agent. Clones share the manager of the process.
#[derive(Clone)]
pub struct NodeReach {
    own: NodeId,
    credentials: Credentials,
    local: Arc<Mutex<Option<Channel>>>,
}

impl NodeReach {
    /// No manager in the process yet.
    pub fn new(own: NodeId, credentials: Credentials) -> Self {
        Self { own, credentials, local: Arc::default() }
    }

    /// The way to the manager in this process from now on; `None` when it has stopped.
    pub fn set_local(&self, channel: Option<Channel>) {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = channel;
    }
}

impl Reach for NodeReach {
    fn manager(&self, manager: &ManagerAddress) -> Result<Channel, String> {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match local {
            Some(channel) if manager.node == Some(self.own) => Ok(channel),
            _ => self.credentials.channel_to_manager(&manager.address),
        }
    }

    fn node(&self, node: NodeId, address: &str) -> Result<Channel, String> {
        self.credentials.channel_to_node(node, address)
    }
}
