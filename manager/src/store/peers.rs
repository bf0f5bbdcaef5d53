//! Nodes as the data plane of others sees them: kept beside the nodes, so that thousands of sessions share one map, and
//! what changed between two states is found without looking at all nodes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::{Node, TunnelKey};
use imbl::OrdMap;
use ipnet::IpNet;

/// A node as the data plane of others sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Where its tunnels end.
    pub address: IpAddr,
    /// Its addresses on the ingress network, IPv4 first.
    pub ingress: Vec<IpNet>,
    /// What encrypted networks reach it by, oldest first.
    pub keys: Vec<TunnelKey>,
}

/// Some nodes, by id. A clone is O(1).
pub type Peers = OrdMap<NodeId, Arc<Peer>>;

/// The node as others see it; `None` while its address is not known.
pub fn peer(node: &Node) -> Option<Peer> {
    let keys = node.description.as_ref().map(|said| said.tunnel_keys.clone()).unwrap_or_default();
    Some(Peer { node: node.id, address: ip(&node.status.address)?, ingress: node.ingress.clone(), keys })
}

/// Whether others see another node than before.
pub fn differs(old: &Node, new: &Node) -> bool {
    let keys = |node: &Node| node.description.as_ref().map(|said| said.tunnel_keys.clone()).unwrap_or_default();
    old.status.address != new.status.address || old.ingress != new.ingress || keys(old) != keys(new)
}

/// Lets the map follow a node that was written.
pub(super) fn follow(peers: &mut Peers, node: &Node) {
    match peer(node) {
        Some(new) => {
            if peers.get(&node.id).is_none_or(|known| **known != new) {
                peers.insert(node.id, Arc::new(new));
            }
        }
        None => drop(peers.remove(&node.id)),
    }
}

/// The IP address of `IP:PORT`, or of an address without a port.
fn ip(address: &str) -> Option<IpAddr> {
    let with_port = address.parse::<SocketAddr>().map(|address| address.ip());
    with_port.or_else(|_| address.parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (text, expected) in [
            ("10.0.0.1:4777", Some("10.0.0.1")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("[fd00::1]:4777", Some("fd00::1")),
            ("fd00::1", Some("fd00::1")),
            ("", None),
            ("host:4777", None),
        ] {
            assert_eq!(ip(text).map(|address| address.to_string()).as_deref(), expected, "{text}");
        }
    }
}
