//! What follows from the assignments: whether this node encrypts, and with whom. Pure.

use std::net::IpAddr;

use berth_proto::id::NodeId;
use berth_tunnel::announce::Other;

use crate::net;
use crate::worker::Assignments;

/// What encrypted links are made from.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// A network of this node is encrypted.
    pub encrypts: bool,
    /// The node's own address, once it is known.
    pub own: Option<IpAddr>,
    /// Other nodes that encrypt.
    pub others: Vec<Other>,
}

impl Seen {
    /// Looks at the assignments of `node`.
    pub fn of(assigned: &Assignments, node: NodeId) -> Self {
        let others = assigned.peers.values().filter(|peer| peer.node != node && !peer.keys.is_empty());
        Self {
            encrypts: assigned.networks.values().any(|network| net::is_encrypted(network)),
            own: assigned.peers.get(&node).map(|own| own.address),
            others: others
                .map(|peer| Other { node: peer.node, address: peer.address, keys: peer.keys.clone() })
                .collect(),
        }
    }
}
