//! Which ports the node should publish, and who wins when two want the same one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::TaskId;

use crate::model::{Desired, Proto, PublishedPort, Service};

/// Who publishes a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publisher {
    /// A service, in ingress mode.
    Service {
        /// Its name.
        name: String,
    },
    /// One task, in host mode.
    Task {
        /// The task.
        id: TaskId,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service { name } => write!(f, "service {name}"),
            Self::Task { name, .. } => write!(f, "task {name}"),
        }
    }
}

/// Two publishers want the same port of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {port} is wanted by {loser}, but {winner} already publishes it on this node")]
pub struct PortClash {
    /// The port.
    pub port: PublishedPort,
    /// Who has it.
    pub winner: Publisher,
    /// Who does not get it.
    pub loser: Publisher,
}

/// A published port and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frontend {
    pub port: PublishedPort,
    publisher: Publisher,
    /// Addresses and ports of tasks on this node, both families, in a fixed order.
    pub here: Vec<(IpAddr, u16)>,
    /// Addresses and ports of other nodes, one for each of their tasks.
    pub elsewhere: Vec<(IpAddr, u16)>,
    /// Other nodes send clients of it here.
    pub is_ingress: bool,
}

/// Who has a port, with the address that it is bound to.
type Holder = (Option<IpAddr>, Publisher);

/// Every port that the node should hold, and the clashes among them: the smaller service id, then task id, wins.
pub fn wanted_ports(desired: &Desired) -> (Vec<PublishedPort>, Vec<PortClash>) {
    let (frontends, clashes) = frontends(desired);
    (frontends.into_iter().map(|f| f.port).collect(), clashes)
}

/// Ports with their ready backends.
pub(super) fn frontends(desired: &Desired) -> (Vec<Frontend>, Vec<PortClash>) {
    let mut owners: BTreeMap<(Proto, u16), Vec<Holder>> = BTreeMap::new();
    let (mut frontends, mut clashes) = (Vec::new(), Vec::new());
    for frontend in ingress(desired).chain(host_mode(desired)) {
        let port = frontend.port;
        let holders = owners.entry((port.proto, port.published)).or_default();
        let overlaps = |ip: Option<IpAddr>| ip.is_none() || port.host_ip.is_none() || ip == port.host_ip;
        if let Some((_, winner)) = holders.iter().find(|(ip, _)| overlaps(*ip)) {
            clashes.push(PortClash { port, winner: winner.clone(), loser: frontend.publisher });
        } else {
            holders.push((port.host_ip, frontend.publisher.clone()));
            frontends.push(frontend);
        }
    }
    (frontends, clashes)
}

fn ingress(desired: &Desired) -> impl Iterator<Item = Frontend> + '_ {
    // A service whose tasks use the node's own network serves its ports itself: holding them would take them away from it.
    let has_links =
        |s: &Service| !s.vips.is_empty() || s.backends.iter().any(|b| !b.addresses.is_empty() || !b.outside.is_empty());
    let linked = move |s: &&Arc<Service>| !s.ports.is_empty() && has_links(s);
    desired.services.values().filter(linked).flat_map(move |service| {
        let publisher = Publisher::Service { name: service.name.clone() };
        service.ports.iter().map(move |port| Frontend {
            port: *port,
            publisher: publisher.clone(),
            here: backends_here(service, port.target).collect(),
            elsewhere: backends_elsewhere(desired, service, port.published).collect(),
            is_ingress: true,
        })
    })
}

fn host_mode(desired: &Desired) -> impl Iterator<Item = Frontend> + '_ {
    let linked = desired.sandboxes.values().filter(|spec| !spec.attachments().is_empty());
    linked.flat_map(move |spec| {
        let reachable = spec.attachments().iter().find(|a| reachable_network(desired, a.network));
        let addresses = reachable.filter(|_| spec.ready).map(|a| a.addresses.clone()).unwrap_or_default();
        spec.ports.iter().map(move |port| Frontend {
            port: *port,
            publisher: Publisher::Task { id: spec.task, name: spec.name.clone() },
            here: addresses.iter().map(|address| (*address, port.target)).collect(),
            elsewhere: Vec::new(),
            is_ingress: false,
        })
    })
}

/// Ready tasks of a service on this node.
fn backends_here(service: &Service, target: u16) -> impl Iterator<Item = (IpAddr, u16)> + '_ {
    let ready = service.backends.iter().filter(|b| b.ready && b.node.is_none());
    ready.flat_map(move |backend| backend.outside.iter().map(move |address| (*address, target)))
}

/// For each ready task of a service on another node, that node: it leads what it is sent to one of its own tasks.
fn backends_elsewhere<'a>(
    desired: &'a Desired,
    service: &'a Service,
    published: u16,
) -> impl Iterator<Item = (IpAddr, u16)> + 'a {
    let ready = service.backends.iter().filter(|b| b.ready);
    let on_peers = ready.filter_map(|backend| Some((backend, desired.nodes.reachable_peer(backend.node?)?)));
    on_peers.flat_map(move |(backend, peer)| {
        let families = backend.outside.iter().map(IpAddr::is_ipv6).collect::<std::collections::BTreeSet<_>>();
        families.into_iter().filter_map(move |v6| Some((peer.entrance(v6)?, published)))
    })
}

fn reachable_network(desired: &Desired, id: berth_proto::id::NetworkId) -> bool {
    desired.networks.get(&id).is_some_and(|n| n.driver.has_bridge() && !n.internal)
}
