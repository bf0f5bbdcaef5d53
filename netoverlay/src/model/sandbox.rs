//! The network side of one task on this node.

use std::net::IpAddr;

use berth_proto::id::{NetworkId, ServiceId, TaskId};

use super::{MacAddr, PublishedPort};

/// Where a task's processes find the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The node's own namespace: no sandbox is made.
    Host,
    /// A namespace with a loopback device and nothing else.
    None,
    /// A namespace with one link per attachment, `eth0` first.
    Networks(Vec<Attachment>),
}

/// A task on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network; it must be among the desired networks.
    pub network: NetworkId,
    /// The task's addresses, each inside one of the network's subnets.
    pub addresses: Vec<IpAddr>,
    /// The link's hardware address; derived from network and address if not set.
    pub mac: Option<MacAddr>,
    /// Further names of this task on this network.
    pub aliases: Vec<String>,
    /// Compose's `gw_priority`: the highest one carries the default route. Equal ones: the first in the list.
    pub gateway_priority: i32,
}

/// Name resolution of a task, as in Compose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers that answer what Berth does not know; the node's own if empty.
    pub servers: Vec<IpAddr>,
    /// Search domains; the node's own if empty, none at all if it is the single entry `.`.
    pub search: Vec<String>,
    /// Resolver options, `ndots:2`.
    pub options: Vec<String>,
}

/// A line for `/etc/hosts` (Compose's `extra_hosts`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// What it stands for.
    pub target: HostTarget,
}

/// What an extra host name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostTarget {
    /// A fixed address.
    Address(IpAddr),
    /// The node itself, seen from the task (`host-gateway`).
    HostGateway,
}

/// Everything about the network side of a task that [`crate::Overlay::attach`] needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxSpec {
    /// The task; the namespace path and link names derive from it.
    pub task: TaskId,
    /// The task's name, `web.1.<id>`: it resolves on each of its networks.
    pub name: String,
    /// The host name inside; it resolves too. Rendered to `/etc/hostname`.
    pub hostname: String,
    /// Compose's `domainname`, if any.
    pub domainname: Option<String>,
    /// The service it is a replica of, if any.
    pub service: Option<ServiceId>,
    /// Where the network comes from.
    pub mode: Mode,
    /// Host-mode ports: node port to this task alone.
    pub ports: Vec<PublishedPort>,
    /// Name resolution.
    pub dns: DnsConfig,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<HostEntry>,
    /// Whether host-mode ports lead to it. Start with `true` when it has no healthcheck.
    pub ready: bool,
}

impl SandboxSpec {
    /// Its attachments, none for host and none modes.
    pub fn attachments(&self) -> &[Attachment] {
        match &self.mode {
            Mode::Networks(list) => list,
            Mode::Host | Mode::None => &[],
        }
    }

    /// The attachment that carries the default route.
    pub fn default_attachment(&self) -> Option<&Attachment> {
        // max_by_key takes the last of equals; the first one is wanted.
        self.attachments().iter().rev().max_by_key(|a| a.gateway_priority)
    }
}
