//! What the kernel holds of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_proto::id::TaskId;
use ipnet::IpNet;

use super::{MacAddr, PublishedPort, ServiceBackend};
use crate::ebpf::TranslatorState;
use crate::names::LinkName;
use crate::nft::TableState;
use crate::plan::{Route, SourceRule};

/// Everything of this instance that was found on the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Bridges.
    pub bridges: BTreeMap<LinkName, BridgeState>,
    /// The node's ends of task links, and the bridge each is plugged into.
    pub veths: BTreeMap<LinkName, VethState>,
    /// Namespaces.
    pub sandboxes: BTreeMap<TaskId, SandboxState>,
    /// The node's packet filter table.
    pub table: TableState,
    /// Published ports that this process holds: only these may be translated.
    pub held: BTreeSet<PublishedPort>,
    /// Whether the node forwards packets, per family: IPv4, IPv6.
    pub forwarding: (bool, bool),
    /// Tunnels to other nodes.
    pub tunnels: BTreeMap<LinkName, TunnelState>,
    /// How replies find back to the node that a client called.
    pub returns: BTreeSet<ReturnWay>,
    /// Ways to tasks of nodes on the same link.
    pub direct: BTreeSet<DirectWay>,
    /// Where probes go that go straight.
    pub probes: BTreeSet<ProbeWay>,
    /// The node's own links by their addresses.
    pub underlay: BTreeMap<IpAddr, Underlay>,
    /// By what virtual addresses are to be translated here: what was asked for, as far as this kernel can.
    pub service_backend: ServiceBackend,
    /// The programs for virtual addresses, if any are there.
    pub translator: Option<TranslatorState>,
}

impl Observed {
    /// The node's link that has this address.
    pub fn underlay_of(&self, address: IpAddr) -> Option<&Underlay> {
        self.underlay.get(&address)
    }
}

/// One of the node's own links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    /// The device.
    pub link: LinkName,
    /// What it reaches without a router.
    pub range: IpNet,
    /// Payload size, bytes.
    pub mtu: u32,
}

/// What tunnels to other nodes go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The node's own link.
    pub below: Underlay,
    /// The node's end of the ingress network and its payload size; `None` while there is none.
    pub tunnel: Option<(LinkName, u32)>,
}

/// Part of where probes go that go straight ([`crate::plan::PROBE_MARK`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeWay {
    /// Marked packets of a family look into the table of these routes.
    Rule {
        /// IPv6 instead of IPv4.
        v6: bool,
    },
    /// A node of the same link.
    Route {
        /// Its address on the ingress network.
        to: IpAddr,
        /// Its own address.
        via: IpAddr,
        /// The link.
        device: LinkName,
    },
}

impl ProbeWay {
    /// Where a route leads.
    pub fn destination(&self) -> Option<IpAddr> {
        match self {
            Self::Rule { .. } => None,
            Self::Route { to, .. } => Some(*to),
        }
    }
}

/// A route to one task on a node of the same link; the network's bridge answers for its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectWay {
    /// The task's address.
    pub address: IpAddr,
    /// Its node.
    pub via: IpAddr,
    /// The link that the node is on.
    pub device: LinkName,
    /// The network's bridge.
    pub bridge: LinkName,
}

/// A VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelState {
    /// Administratively up.
    pub up: bool,
    /// Payload size, bytes.
    pub mtu: u32,
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The node's end. None: whatever the route says, which is how tunnels of encrypted networks are.
    pub local: Option<IpAddr>,
    /// Hardware address.
    pub mac: MacAddr,
    /// The bridge it is plugged into.
    pub bridge: Option<LinkName>,
    /// As a bridge's port it asks for no addresses that are known, and learns none.
    pub quiet: bool,
    /// Addresses with their prefix lengths, link-local ones left out.
    pub addresses: BTreeSet<IpNet>,
    /// Where its frames go.
    pub ways: BTreeSet<Way>,
}

/// Part of a way to a task or node behind a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Frames whose destination is not known go to this node too.
    Flood {
        /// The node's end of the tunnel.
        via: IpAddr,
    },
    /// A hardware address is on a node.
    Station {
        /// The hardware address.
        mac: MacAddr,
        /// The node's end of the tunnel.
        via: IpAddr,
    },
    /// To the bridge, a hardware address is behind the tunnel.
    Port {
        /// The hardware address.
        mac: MacAddr,
    },
    /// Nobody needs to ask for the hardware address of an IP address. Of the bridge, or of the tunnel where it has none.
    Neighbour {
        /// The IP address.
        address: IpAddr,
        /// The hardware address.
        mac: MacAddr,
    },
}

impl Way {
    /// Whether the other one cannot stay beside this one: the same address leads elsewhere.
    pub fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Station { mac, .. }, Self::Station { mac: other, .. }) => mac == other,
            (Self::Neighbour { address, .. }, Self::Neighbour { address: other, .. }) => address == other,
            _ => false,
        }
    }
}

/// One of the things by which replies to clients of a published port go back to the node that the client called: that node's
/// number is kept with the tracked connection and made the destination of each reply (`crate::nft::stamp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReturnWay {
    /// Marked packets leave by the ingress device: a policy rule and a table with a default route.
    Route {
        /// IPv6 instead of IPv4.
        v6: bool,
    },
    /// The device writes the mark into the frame as part of its destination.
    Stamp,
}

/// A bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BridgeState {
    /// Administratively up.
    pub up: bool,
    /// Payload size, bytes.
    pub mtu: u32,
    /// Addresses with their prefix lengths, link-local ones left out.
    pub addresses: BTreeSet<IpNet>,
}

/// The node's end of a task link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VethState {
    /// Administratively up.
    pub up: bool,
    /// The bridge it is plugged into.
    pub bridge: Option<LinkName>,
    /// No frame passes between it and another such end of the same bridge.
    pub apart: bool,
}

/// A task's namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxState {
    /// Links other than loopback.
    pub links: BTreeMap<LinkName, LinkState>,
    /// Routes that Berth made (marked with its protocol number).
    pub routes: BTreeSet<Route>,
    /// Policy rules that Berth made.
    pub rules: BTreeSet<SourceRule>,
    /// Its packet filter table; the name server's elements are left out.
    pub table: TableState,
    /// Whether this process answers names in it.
    pub dns: bool,
}

/// A task's end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// Administratively up.
    pub up: bool,
    /// Payload size, bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: MacAddr,
    /// Addresses with their prefix lengths, link-local ones left out.
    pub addresses: BTreeSet<IpNet>,
}
