//! The nodes that this one exchanges packets of networks with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use berth_proto::id::NodeId;
use ipnet::IpNet;

/// Where a node is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where its tunnels end: an address of the machine itself.
    pub address: IpAddr,
    /// Its addresses on the ingress network with their prefix lengths; empty while the managers have given it none.
    pub ingress: Vec<IpNet>,
    /// Packets to its tasks go straight, by a route, and not by a tunnel: it is on the same link, and that link carries packets
    /// of tasks' addresses. Of no meaning for the node itself.
    pub direct: bool,
    /// Where packets of encrypted networks for it go: an address that is routed into an encrypted link to it. None while there is no
    /// such link; nothing of those networks goes to it then. Of no meaning for the node itself.
    pub secure: Option<IpAddr>,
}

impl Peer {
    /// Its IPv4 address on the ingress network: the node's number among the others.
    pub fn number(&self) -> Option<Ipv4Addr> {
        self.ingress.iter().find_map(|net| match net.addr() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its address of that family on the ingress network.
    pub fn entrance(&self, v6: bool) -> Option<IpAddr> {
        self.ingress.iter().map(IpNet::addr).find(|address| address.is_ipv6() == v6)
    }
}

/// This node among the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nodes {
    /// This node; `None` as long as nobody has told it. Its networks end at itself then.
    pub own: Option<Peer>,
    /// The others.
    pub peers: BTreeMap<NodeId, Peer>,
    /// UDP ports of this node's encrypted links; empty while it has none.
    pub secure_ports: BTreeSet<u16>,
}

impl Nodes {
    /// This node, if others can reach it: an address of the loopback device is no end of a tunnel.
    pub fn reachable_own(&self) -> Option<&Peer> {
        self.own.as_ref().filter(|own| !own.address.is_loopback() && !own.address.is_unspecified())
    }

    /// Other nodes that tunnels from this one can lead to: of the same address family.
    pub fn reachable_peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        let v6 = self.reachable_own().map(|own| own.address.is_ipv6());
        let reachable = move |peer: &Peer| v6 == Some(peer.address.is_ipv6()) && !peer.address.is_loopback();
        self.peers.iter().filter(move |(_, peer)| reachable(peer)).map(|(id, peer)| (*id, peer))
    }

    /// One of [`Self::reachable_peers`].
    pub fn reachable_peer(&self, node: NodeId) -> Option<&Peer> {
        let own = self.reachable_own()?;
        self.peers
            .get(&node)
            .filter(|peer| peer.address.is_ipv6() == own.address.is_ipv6() && !peer.address.is_loopback())
    }
}
