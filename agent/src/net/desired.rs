//! Assignments in the words of `berth-netoverlay`, purely.
//!
//! Owns the mapping. The node's own tasks count as ready by what the node sees, at once; those of others by what the managers
//! say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use berth_netoverlay::model::{
    Attachment, Backend, DnsConfig, Driver, EndpointMode, HostEntry, HostTarget, MacAddr, MacvlanMode, Mode, Network,
    Nodes, Peer, Proto, PublishedPort, SandboxSpec, Service, Subnet,
};
use berth_proto::id::{NetworkId, NodeId, TaskId};
use berth_proto::object;
use berth_proto::spec::{self, ContainerSpec, NetworkDriver, PortConfig, Protocol, PublishMode};
use berth_proto::validate::network_options;

use crate::config::ConfigError;
use crate::task::Work;
use crate::worker::{self, Assignments, ServiceEndpoints};

/// Where packets of encrypted networks go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecureWays {
    /// For each node that there is an encrypted link to, the address that leads into it.
    pub to: BTreeMap<NodeId, Ipv6Addr>,
    /// UDP ports of this node's links.
    pub ports: BTreeSet<u16>,
}

/// Whether what leaves the node on a network is encrypted.
pub fn is_encrypted(network: &object::Network) -> bool {
    let given = network.allocation.as_ref().is_some_and(|given| given.encrypted);
    network.spec.driver == NetworkDriver::Overlay && (given || network.spec.encrypted() == Some(true))
}

/// A network in the overlay's words; `None` while the managers have given it no addresses.
pub fn network(network: &object::Network) -> Option<Network> {
    let encrypted = is_encrypted(network);
    let allocation = network.allocation.clone();
    let driver = match network.spec.driver {
        NetworkDriver::Overlay if network.spec.is_ingress() => Driver::Ingress { vni: allocation.as_ref()?.vni },
        NetworkDriver::Overlay => Driver::Overlay { vni: allocation.as_ref()?.vni },
        NetworkDriver::Bridge => Driver::Bridge,
        NetworkDriver::Macvlan => macvlan(&network.spec)?,
        NetworkDriver::Host => Driver::Host,
        NetworkDriver::None => Driver::None,
    };
    let pools = allocation.unwrap_or_default().pools;
    let mtu = network.spec.options.get(network_options::MTU).and_then(|mtu| network_options::mtu(mtu));
    Some(Network {
        id: network.id,
        name: network.spec.name.to_string(),
        driver,
        subnets: pools.into_iter().map(|(range, gateway)| Subnet { range: range.trunc(), gateway }).collect(),
        internal: network.spec.internal,
        encrypted,
        mtu,
        options: network.spec.options.clone(),
    })
}

/// `None` for one without a parent, which no manager lets in.
fn macvlan(spec: &spec::NetworkSpec) -> Option<Driver> {
    let mode = match spec.options.get(network_options::MACVLAN_MODE).map(String::as_str) {
        Some("vepa") => MacvlanMode::Vepa,
        Some("private") => MacvlanMode::Private,
        Some("passthru") => MacvlanMode::Passthru,
        _ => MacvlanMode::Bridge,
    };
    Some(Driver::Macvlan { parent: spec.options.get(network_options::PARENT)?.clone(), mode })
}

/// All services in the overlay's words. `own` says which of this node's tasks are ready.
pub fn services(assigned: &Assignments, own: &BTreeMap<TaskId, bool>, node: NodeId) -> Vec<Service> {
    let stays = assigned.networks.values().filter(|network| network.spec.driver.stays_on_node());
    let within: BTreeSet<NetworkId> = stays.map(|network| network.id).collect();
    assigned.endpoints.values().map(|endpoints| service(endpoints, own, node, &within)).collect()
}

/// `within` are networks of this node alone: what others have of the same name is another one.
fn service(
    endpoints: &ServiceEndpoints,
    own: &BTreeMap<TaskId, bool>,
    node: NodeId,
    within: &BTreeSet<NetworkId>,
) -> Service {
    let mut vips: BTreeMap<NetworkId, Vec<IpAddr>> = BTreeMap::new();
    for vip in &endpoints.endpoint.virtual_ips {
        vips.entry(vip.network).or_default().push(vip.ip());
    }
    let mut aliases: BTreeMap<NetworkId, Vec<String>> = BTreeMap::new();
    for attachment in endpoints.backends.iter().flat_map(|backend| &backend.attachments) {
        let names = aliases.entry(attachment.network).or_default();
        let wanted = endpoints.short_name().into_iter().chain(attachment.aliases.iter().map(String::as_str));
        for name in wanted {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
    }
    for network in vips.keys() {
        let names = aliases.entry(*network).or_default();
        if let Some(short) = endpoints.short_name().filter(|short| !names.iter().any(|known| known == short)) {
            names.push(short.to_owned());
        }
    }
    let ingress = endpoints.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Ingress);
    Service {
        id: endpoints.service,
        name: endpoints.name.clone(),
        aliases,
        mode: match endpoints.mode {
            spec::EndpointMode::Vip => EndpointMode::Vip,
            spec::EndpointMode::Dnsrr => EndpointMode::Dnsrr,
        },
        vips,
        backends: endpoints
            .backends
            .iter()
            .map(|backend| self::backend(endpoints, backend, own, node, within))
            .collect(),
        ports: ingress.filter_map(published).collect(),
    }
}

fn backend(
    endpoints: &ServiceEndpoints,
    backend: &crate::worker::Backend,
    own: &BTreeMap<TaskId, bool>,
    node: NodeId,
    within: &BTreeSet<NetworkId>,
) -> Backend {
    let here = backend.node == node;
    let outside = backend.attachments.iter().find(|at| at.default_route);
    let mac = |at: &object::Attachment| Some((at.network, at.mac_address.as_deref()?.parse().ok()?));
    let reached = backend.attachments.iter().filter(|at| here || !within.contains(&at.network));
    let addresses = reached.map(|at| (at.network, at.ips().collect())).collect();
    Backend {
        task: backend.task,
        name: backend.name(&endpoints.name),
        hostname: backend.hostname.clone(),
        node: (!here).then_some(backend.node),
        addresses,
        macs: backend.attachments.iter().filter_map(mac).collect(),
        outside: outside.into_iter().flat_map(object::Attachment::ips).collect(),
        ready: if here { own.get(&backend.task).copied().unwrap_or(false) } else { backend.ready },
        named: backend.named,
    }
}

/// This node among the others, in the overlay's words. Packets for tasks of those in `straight` go straight by the link.
pub fn nodes(
    peers: &BTreeMap<NodeId, Arc<worker::Peer>>,
    own: NodeId,
    straight: &BTreeSet<NodeId>,
    secure: &SecureWays,
) -> Nodes {
    let peer = |peer: &worker::Peer| Peer {
        address: peer.address,
        ingress: peer.ingress.clone(),
        direct: straight.contains(&peer.node),
        secure: secure.to.get(&peer.node).copied().map(IpAddr::V6),
    };
    let others = peers.values().filter(|peer| peer.node != own);
    Nodes {
        own: peers.get(&own).map(|own| peer(own)),
        peers: others.map(|other| (other.node, peer(other))).collect(),
        secure_ports: secure.ports.clone(),
    }
}

fn published(port: &PortConfig) -> Option<PublishedPort> {
    let proto = match port.protocol {
        Protocol::Tcp => Proto::Tcp,
        Protocol::Udp => Proto::Udp,
    };
    Some(PublishedPort { proto, host_ip: port.host_ip, published: port.published?, target: port.target })
}

/// The network side of one task; pushes what cannot be honoured onto `errors`.
pub fn sandbox(work: &Work, hostname: &str, assigned: &Assignments, errors: &mut Vec<ConfigError>) -> SandboxSpec {
    let (task, container) = (&work.task, &work.spec.task.container);
    let ports: Vec<_> = task.host_ports.iter().filter_map(published).collect();
    if ports.len() != task.host_ports.len() {
        errors.push(ConfigError::new("ports", "a host-mode port has no published port yet"));
    }
    SandboxSpec {
        task: task.id,
        name: task.name(),
        hostname: hostname.to_owned(),
        domainname: container.domainname.clone(),
        service: Some(task.service),
        mode: mode(work, assigned, errors),
        ports,
        dns: DnsConfig {
            servers: container.dns.nameservers.clone(),
            search: container.dns.search.clone(),
            options: container.dns.options.clone(),
        },
        extra_hosts: extra_hosts(container, errors),
        ready: false,
    }
}

fn mode(work: &Work, assigned: &Assignments, errors: &mut Vec<ConfigError>) -> Mode {
    let asked = &work.spec.task.networks;
    let driver_of = |name: &str| match name {
        "host" => Some(NetworkDriver::Host),
        "none" => Some(NetworkDriver::None),
        _ => assigned.network_named(name).map(|network| network.spec.driver),
    };
    let drivers: Vec<_> = asked.iter().map(|network| driver_of(&network.network)).collect();
    if drivers.contains(&Some(NetworkDriver::Host)) {
        return Mode::Host;
    }
    if work.task.attachments.is_empty() {
        return Mode::None;
    }
    let attachments = work.task.attachments.iter();
    Mode::Networks(attachments.map(|attachment| self::attachment(attachment, errors)).collect())
}

fn attachment(attachment: &object::Attachment, errors: &mut Vec<ConfigError>) -> Attachment {
    let mac = attachment.mac_address.as_deref().and_then(|text| {
        let parsed = text.parse::<MacAddr>();
        parsed.map_err(|error| errors.push(ConfigError::new("mac_address", error))).ok()
    });
    Attachment {
        network: attachment.network,
        addresses: attachment.ips().collect(),
        mac,
        aliases: attachment.aliases.to_vec(),
        gateway_priority: i32::from(attachment.default_route),
    }
}

fn extra_hosts(container: &ContainerSpec, errors: &mut Vec<ConfigError>) -> Vec<HostEntry> {
    let mut entries = Vec::with_capacity(container.extra_hosts.len());
    for entry in &container.extra_hosts {
        let bare = entry.address.trim_start_matches('[').trim_end_matches(']');
        let target = match (entry.address.as_str(), bare.parse()) {
            ("host-gateway", _) => HostTarget::HostGateway,
            (_, Ok(address)) => HostTarget::Address(address),
            (other, Err(_)) => {
                let reason = format!("{other:?} is no address and not host-gateway");
                errors.push(ConfigError::new(format!("extra_hosts.{}", entry.host), reason));
                continue;
            }
        };
        entries.push(HostEntry { name: entry.host.clone(), target });
    }
    entries
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;

    fn endpoints(node: NodeId) -> ServiceEndpoints {
        let attachment = object::Attachment {
            network: NetworkId::from_random(5),
            addresses: vec!["10.0.1.7/24".parse().unwrap()],
            aliases: Arc::from(["api".to_owned()]),
            default_route: true,
            mac_address: None,
        };
        let backend = |task, node, ready| crate::worker::Backend {
            task: TaskId::from_random(task),
            slot: Some(1),
            node,
            hostname: "h".into(),
            attachments: vec![attachment.clone()],
            ready,
            named: true,
        };
        let port = |mode, published| PortConfig {
            name: None,
            protocol: Protocol::Tcp,
            target: 80,
            published,
            mode,
            host_ip: None,
        };
        ServiceEndpoints {
            service: testing::task().service,
            name: "shop_web".into(),
            stack: Some("shop".into()),
            mode: spec::EndpointMode::Vip,
            endpoint: object::Endpoint {
                ports: vec![port(PublishMode::Ingress, Some(8080)), port(PublishMode::Host, Some(9090))],
                virtual_ips: Vec::new(),
            },
            backends: vec![backend(1, node, true), backend(2, NodeId::from_random(99), true)],
        }
    }

    #[test]
    fn own_tasks_count_by_what_the_node_sees() {
        let node = NodeId::from_random(4);
        let ready = |own: &BTreeMap<TaskId, bool>| {
            let service = service(&endpoints(node), own, node, &BTreeSet::new());
            service.backends.iter().map(|backend| backend.ready).collect::<Vec<_>>()
        };
        assert_eq!(ready(&BTreeMap::new()), [false, true]);
        assert_eq!(ready(&BTreeMap::from([(TaskId::from_random(1), true)])), [true, true]);
    }

    #[test]
    fn services_have_short_names_aliases_and_ingress_ports_only() {
        let node = NodeId::from_random(4);
        let service = service(&endpoints(node), &BTreeMap::new(), node, &BTreeSet::new());
        assert_eq!(service.aliases[&NetworkId::from_random(5)], ["web", "api"]);
        assert_eq!(service.ports.iter().map(|port| port.published).collect::<Vec<_>>(), [8080]);
        assert_eq!(service.backends[0].name, format!("shop_web.1.{}", TaskId::from_random(1)));
    }

    #[test]
    fn a_task_elsewhere_is_not_on_this_nodes_bridge_but_behind_its_published_port() {
        let node = NodeId::from_random(4);
        let within = BTreeSet::from([NetworkId::from_random(5)]);
        let service = service(&endpoints(node), &BTreeMap::new(), node, &within);
        assert_eq!(service.backends.iter().map(|b| b.addresses.len()).collect::<Vec<_>>(), [1, 0]);
        assert!(service.backends.iter().all(|backend| backend.outside.len() == 1));
    }

    #[test]
    fn sandboxes_name_what_cannot_be_honoured() {
        let mut service = testing::service();
        let host = |host: &str, address: &str| spec::HostEntry { host: host.into(), address: address.into() };
        service.task.container.extra_hosts =
            vec![host("a", "10.0.0.1"), host("b", "host-gateway"), host("c", "[::1]"), host("d", "nope")];
        let work = Work { task: Arc::new(testing::task()), spec: Arc::new(service) };
        let mut errors = Vec::new();
        let sandbox = sandbox(&work, "h", &Assignments::default(), &mut errors);
        assert_eq!((sandbox.mode, sandbox.extra_hosts.len()), (Mode::None, 3));
        assert_eq!(errors[0].field, "extra_hosts.d");
    }
}
