//! The way from this node to managers and to other nodes.
//!
//! Owns the trait that the daemon implements, with the node's certificate. Never opens a connection itself.

use berth_proto::id::NodeId;
use berth_proto::pb;
use tonic::transport::Channel;

/// Where one manager is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerAddress {
    /// Its node; `None` where only an address was given, as when a machine joins.
    pub node: Option<NodeId>,
    /// `HOST:PORT`.
    pub address: String,
}

impl ManagerAddress {
    /// As a manager told it; `None` when its node's id cannot be read.
    pub fn from_wire(told: &pb::ManagerAddress) -> Option<Self> {
        Some(Self { node: Some(told.node_id.parse().ok()?), address: told.address.clone() })
    }
}

/// Gives channels that connect when they are first used and again when they broke. They notice a peer that is gone without a
/// word (HTTP/2 keepalive): the session does not look for that itself. Errors are texts for people.
pub trait Reach: Send + Sync + 'static {
    /// To a manager. Asked with this very node's id it may lead to the manager in the same process.
    fn manager(&self, manager: &ManagerAddress) -> Result<Channel, String>;
    /// To what another node offers to nodes. `address` is what the managers know it by, `IP` or `IP:PORT`.
    fn node(&self, node: NodeId, address: &str) -> Result<Channel, String>;
}
