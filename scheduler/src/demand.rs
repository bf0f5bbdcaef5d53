//! What one task of a service asks of a node, in the form that the filters read. Computed once per spec version; holds
//! nothing that changes while the tasks of that version live.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use berth_proto::name::ServiceName;
use berth_proto::spec::{
    Affinity, Constraint, Labels, Platform, PortConfig, Preference, Protocol, PublishMode, ServiceSpec,
};

use crate::score::Strategy;

/// What one task of a service asks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// Reserved cpu; 1_000_000_000 is one whole cpu.
    pub nano_cpus: u64,
    /// Reserved memory in bytes.
    pub memory: u64,
    /// Reserved counts of named things, devices among them.
    pub generic: BTreeMap<String, u64>,
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// One must match; empty is any.
    pub platforms: Vec<Platform>,
    /// Attributes to spread over, outermost first.
    pub spread: Vec<String>,
    /// At most this many tasks of the service on one node; 0 is no limit.
    pub max_per_node: u64,
    /// Ports that it takes on the node itself.
    pub host_ports: Vec<HostPort>,
    /// Capabilities that the node's agent must report, e.g. `network:overlay`.
    pub capabilities: Vec<String>,
    /// How the nodes that are left are ranked.
    pub strategy: Strategy,
    /// Higher ones are placed first and may evict lower ones.
    pub priority: i32,
    /// Near to and far from which tasks.
    pub affinity: Vec<Affinity>,
    /// Name of the service, by which rules of others find it.
    pub name: Option<ServiceName>,
    /// Labels of the service, by which rules of others find it.
    pub labels: Labels,
    /// Image reference; nodes that have it are preferred. Empty is none.
    pub image: String,
    /// All tasks of a group are placed, or none.
    pub gang: bool,
    /// Tasks of the service that evictions and moves may make unavailable at the same time; `None` is no limit.
    pub max_unavailable: Option<u64>,
}

/// A port that a task takes on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Protocol.
    pub protocol: Protocol,
    /// Number.
    pub port: u16,
    /// Only on this address; `None` is all of them.
    pub address: Option<IpAddr>,
}

impl HostPort {
    /// The port that a published port takes on the node: host-mode ports with a fixed number do, others do not.
    pub fn of(port: &PortConfig) -> Option<Self> {
        match (port.mode, port.published) {
            (PublishMode::Host, Some(number)) => {
                Some(Self { protocol: port.protocol, port: number, address: port.host_ip })
            }
            _ => None,
        }
    }

    /// True when both cannot be on one node.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let same_address = match (self.address, other.address) {
            (Some(a), Some(b)) => a == b || a.is_unspecified() || b.is_unspecified(),
            _ => true,
        };
        self.protocol == other.protocol && self.port == other.port && same_address
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}/{protocol}", self.port),
            Some(address) => write!(f, "{address}:{}/{protocol}", self.port),
            None => write!(f, "{}/{protocol}", self.port),
        }
    }
}

impl Demand {
    /// Reads a service's spec. `capabilities` are what its networks and volumes need, which the spec only names.
    ///
    /// What may be unavailable at once is what an update may replace at once; tasks of jobs have no such limit. A device
    /// request counts as that many of its first capability (or of its driver); "all" asks for one at least.
    pub fn of(spec: &ServiceSpec, capabilities: Vec<String>) -> Self {
        let reserved = &spec.task.resources.reservations;
        let mut generic = reserved.generic.clone();
        for device in &reserved.devices {
            let name = device.capabilities.first().or(device.driver.as_ref()).map_or("device", String::as_str);
            let count = device.count.unwrap_or_else(|| (device.device_ids.len() as u64).max(1));
            let sum: &mut u64 = generic.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(count);
        }
        generic.retain(|_, count| *count > 0);
        let placement = &spec.task.placement;
        Self {
            nano_cpus: reserved.nano_cpus,
            memory: reserved.memory,
            generic,
            constraints: placement.constraints.clone(),
            platforms: placement.platforms.clone(),
            spread: placement.preferences.iter().map(|Preference::Spread(attribute)| attribute.clone()).collect(),
            max_per_node: placement.max_replicas_per_node,
            host_ports: spec.endpoint.ports.iter().filter_map(HostPort::of).collect(),
            capabilities,
            strategy: placement.strategy.unwrap_or_default(),
            priority: spec.priority,
            affinity: placement.affinity.clone(),
            name: Some(spec.name.clone()),
            labels: spec.labels.clone(),
            image: spec.task.container.image.clone(),
            gang: placement.gang,
            max_unavailable: max_unavailable(spec),
        }
    }

    /// True when it reserves something that can be packed.
    pub fn reserves(&self) -> bool {
        self.nano_cpus > 0 || self.memory > 0 || !self.generic.is_empty()
    }
}

fn max_unavailable(spec: &ServiceSpec) -> Option<u64> {
    let limited = !spec.mode.is_job() && spec.update.parallelism > 0;
    limited.then_some(spec.update.parallelism)
}
