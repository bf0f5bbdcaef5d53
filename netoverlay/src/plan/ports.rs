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
    /// Backend addresses, both families, in a fixed order.
    pub backends: Vec<IpAddr>,
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
    for (port, owner, backends) in ingress(desired).chain(host_mode(desired)) {
        let holders = owners.entry((port.proto, port.published)).or_default();
        let overlaps = |ip: Option<IpAddr>| ip.is_none() || port.host_ip.is_none() || ip == port.host_ip;
        if let Some((_, winner)) = holders.iter().find(|(ip, _)| overlaps(*ip)) {
            clashes.push(PortClash { port, winner: winner.clone(), loser: owner });
            continue;
        }
        holders.push((port.host_ip, owner));
        frontends.push(Frontend { port, backends });
    }
    (frontends, clashes)
}

fn ingress(desired: &Desired) -> impl Iterator<Item = (PublishedPort, Publisher, Vec<IpAddr>)> + '_ {
    // A service whose tasks use the node's own network serves its ports itself: holding them would take them away from it.
    let has_links = |s: &Service| !s.vips.is_empty() || s.backends.iter().any(|b| !b.addresses.is_empty());
    let linked = move |s: &&Arc<Service>| !s.ports.is_empty() && has_links(s);
    desired.services.values().filter(linked).flat_map(move |service| {
        let backends = ingress_backends(desired, service);
        service
            .ports
            .iter()
            .map(move |port| (*port, Publisher::Service { name: service.name.clone() }, backends.clone()))
    })
}

fn host_mode(desired: &Desired) -> impl Iterator<Item = (PublishedPort, Publisher, Vec<IpAddr>)> + '_ {
    let linked = desired.sandboxes.values().filter(|spec| !spec.attachments().is_empty());
    linked.flat_map(move |spec| {
        let reachable = spec.attachments().iter().find(|a| reachable_network(desired, a.network));
        let backends = reachable.filter(|_| spec.ready).map(|a| a.addresses.clone()).unwrap_or_default();
        spec.ports
            .iter()
            .map(move |port| (*port, Publisher::Task { id: spec.task, name: spec.name.clone() }, backends.clone()))
    })
}

/// Ready backends of a service on this node, each by its addresses on the first network that has a way to the outside.
fn ingress_backends(desired: &Desired, service: &Service) -> Vec<IpAddr> {
    let ready = service.backends.iter().filter(|b| b.ready && b.node.is_none());
    ready
        .filter_map(|backend| backend.addresses.iter().find(|(id, _)| reachable_network(desired, **id)))
        .flat_map(|(_, addresses)| addresses.iter().copied())
        .collect()
}

fn reachable_network(desired: &Desired, id: berth_proto::id::NetworkId) -> bool {
    desired.networks.get(&id).is_some_and(|n| n.driver.has_links() && !n.internal)
}
