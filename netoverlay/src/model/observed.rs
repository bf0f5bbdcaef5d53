//! What the kernel holds of ours.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::id::TaskId;
use ipnet::IpNet;

use super::{MacAddr, PublishedPort};
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
