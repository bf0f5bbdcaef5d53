//! A network as this node sees it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_proto::id::NetworkId;
use berth_proto::validate::network_options;
use ipnet::IpNet;

/// What carries a network's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// A bridge on this node alone.
    Bridge,
    /// One network over all nodes: a bridge on each, joined by a tunnel (VXLAN, RFC 7348) as soon as there is a task of it on
    /// another node.
    Overlay {
        /// The VXLAN network identifier given by the managers, 24 bits.
        vni: u32,
    },
    /// How published ports lead from node to node; no task is on it. Each node has an address, see [`super::Peer::ingress`].
    Ingress {
        /// The VXLAN network identifier.
        vni: u32,
    },
    /// Each task is a machine of its own on a link of the node (`macvlan`). The node itself neither routes for it nor reaches it,
    /// nor does it publish ports of it.
    Macvlan {
        /// The node's link.
        parent: String,
        /// Who exchanges frames with whom.
        mode: MacvlanMode,
    },
    /// The node's own network namespace.
    Host,
    /// No network: a loopback device only.
    None,
}

impl Driver {
    /// Whether tasks on such a network get an interface of their own.
    pub const fn has_links(&self) -> bool {
        matches!(self, Self::Bridge | Self::Overlay { .. } | Self::Macvlan { .. })
    }

    /// Whether their other ends are plugged into a bridge of the node.
    pub const fn has_bridge(&self) -> bool {
        matches!(self, Self::Bridge | Self::Overlay { .. })
    }
}

/// Which frames a macvlan link exchanges with others of the same parent (the Linux driver's words).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MacvlanMode {
    /// With all of them, on the node.
    #[default]
    Bridge,
    /// With all of them, by the switch that the parent is plugged into.
    Vepa,
    /// With none.
    Private,
    /// It is the only one and takes the parent over.
    Passthru,
}

/// A subnet of a network, and the address the node's bridge has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    /// The range, with no host bits set.
    pub range: IpNet,
    /// The bridge's address, inside `range`: the tasks' default gateway.
    pub gateway: IpAddr,
}

impl Subnet {
    /// A subnet whose gateway is its first usable address, as Docker gives it.
    pub fn with_first_gateway(range: IpNet) -> Option<Self> {
        let range = range.trunc();
        range.hosts().find(|a| *a != range.network()).map(|gateway| Self { range, gateway })
    }
}

/// A network with tasks on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Identity; link names derive from it.
    pub id: NetworkId,
    /// The name people use, `<stack>_<name>` for a stack's network.
    pub name: String,
    /// What carries it.
    pub driver: Driver,
    /// Its ranges: one IPv4, and an IPv6 one where asked for.
    pub subnets: Vec<Subnet>,
    /// Tasks may speak with each other only, never with the outside or with the node.
    pub internal: bool,
    /// What goes from node to node is encrypted, or does not go. Of networks over all nodes only.
    pub encrypted: bool,
    /// Payload size of the links, in bytes. If not set: 1500, and on a network over all nodes what is left of the node's own link
    /// beside the tunnel's headers.
    pub mtu: Option<u32>,
    /// Driver options as in Compose's `driver_opts`: [`network_options::MASQUERADE`] and [`network_options::ICC`] are honoured
    /// from here.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// Whether packets that leave for the outside take the node's address.
    pub fn masquerade(&self) -> bool {
        !self.internal && self.says(network_options::MASQUERADE) != Some(false)
    }

    /// Whether its tasks reach each other only by published ports, as strangers do.
    pub fn parts_tasks(&self) -> bool {
        self.driver == Driver::Bridge && self.says(network_options::ICC) == Some(false)
    }

    fn says(&self, option: &str) -> Option<bool> {
        network_options::flag(self.options.get(option)?)
    }

    /// The subnet that holds an address.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.range.contains(&address))
    }
}
