//! A service as the data plane and the name server see it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};

use super::MacAddr;

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// How a service is reached by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointMode {
    /// One virtual address per network, balanced over the ready backends.
    Vip,
    /// The name gives the addresses of the ready backends.
    Dnsrr,
}

/// Who answers on a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishMode {
    /// All ready backends of the service.
    Ingress,
    /// The one task whose spec carries the port.
    Host,
}

/// A port of the node that leads to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// Transport.
    pub proto: Proto,
    /// The node's address it is bound to; every local one if not set.
    pub host_ip: Option<IpAddr>,
    /// Port on the node.
    pub published: u16,
    /// Port in the task.
    pub target: u16,
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}/{}", self.published, self.proto),
            Some(ip) => write!(f, "{ip}:{}/{}", self.published, self.proto),
            None => write!(f, "{}/{}", self.published, self.proto),
        }
    }
}

/// One task that answers for a service, on this node or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The task.
    pub task: TaskId,
    /// The task's name, `web.1.<id>`.
    pub name: String,
    /// The task's host name.
    pub hostname: String,
    /// The node it runs on; `None` means this one.
    pub node: Option<NodeId>,
    /// Its addresses on each network.
    pub addresses: BTreeMap<NetworkId, Vec<IpAddr>>,
    /// Hardware addresses that are not derived from the first address.
    pub macs: BTreeMap<NetworkId, MacAddr>,
    /// Those of its addresses that it is reached at from outside its networks; none if there is no way out of them.
    pub outside: Vec<IpAddr>,
    /// Whether it may get new connections: running, healthy and not about to stop.
    pub ready: bool,
    /// Whether its names are answered. Before it has started, and while it stops, only its place is of interest.
    pub named: bool,
}

/// A service with a name, perhaps virtual addresses and published ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// The full name, `<stack>_<service>` for a stack's service.
    pub name: String,
    /// Names on each network besides the full one: the short name in the stack, and Compose's aliases.
    pub aliases: BTreeMap<NetworkId, Vec<String>>,
    /// What the name gives.
    pub mode: EndpointMode,
    /// The virtual addresses on each network; empty for dnsrr.
    pub vips: BTreeMap<NetworkId, Vec<IpAddr>>,
    /// Every task of it that runs or is about to.
    pub backends: Vec<Backend>,
    /// Ingress-mode ports: node port to all ready backends.
    pub ports: Vec<PublishedPort>,
}

impl Service {
    /// The addresses on a network of those backends that may get new connections.
    pub fn ready_on(&self, network: NetworkId) -> Vec<IpAddr> {
        let ready = self.backends.iter().filter(|b| b.ready);
        ready.flat_map(|b| b.addresses.get(&network).into_iter().flatten().copied()).collect()
    }
}

/// What translates virtual addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServiceBackend {
    /// The packet filter in each task's namespace.
    #[default]
    Nft,
    /// Programs that run when a task's socket asks for an address, and the packet filter for what they leave ([`crate::ebpf`]).
    Ebpf,
}
