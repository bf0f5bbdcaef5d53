//! Everything that is given out, by whom it is held. Follows the store object by object; telling it of the same object
//! twice changes nothing, so that what was given out in vain is put right by telling it what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::object::{Network, Node, Service, Task};
use berth_proto::spec::{Protocol, PublishMode};
use berth_proto::time::Timestamp;
use berth_scheduler::IdMap;
use ipnet::IpNet;

use super::pool::Pool;
use super::{AllocatorConfig, INGRESS_NETWORK};

/// Everything that is given out.
#[derive(Debug, Clone, Default)]
pub struct Book {
    pub(super) config: AllocatorConfig,
    pub(super) networks: IdMap<NetworkId, NetworkBook>,
    pub(super) vnis: BTreeSet<u32>,
    /// The network that published ports lead through, once it has a subnet.
    pub(super) ingress_network: Option<NetworkId>,
    /// Ports that answer on every node, with the service that has them.
    pub(super) ingress: BTreeMap<(Protocol, u16), ServiceId>,
    /// Host-mode ports by service: they clash with ingress ports but not with each other here.
    pub(super) host: BTreeMap<(Protocol, u16), BTreeSet<ServiceId>>,
    tasks: IdMap<TaskId, Vec<(NetworkId, IpAddr)>>,
    services: IdMap<ServiceId, ServiceBook>,
    nodes: IdMap<NodeId, Vec<(NetworkId, IpAddr)>>,
}

/// What is given out on one network.
#[derive(Debug, Clone)]
pub struct NetworkBook {
    /// One for each address family.
    pub pools: Vec<Pool>,
    vni: u32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ServiceBook {
    addresses: Vec<(NetworkId, IpAddr)>,
    ingress: Vec<(Protocol, u16)>,
    host: Vec<(Protocol, u16)>,
}

impl Book {
    /// An empty book.
    pub fn new(config: AllocatorConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// Subnets that are given out.
    pub fn subnets(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.networks.values().flat_map(|network| network.pools.iter().map(Pool::subnet))
    }

    /// Follows a network. Addresses in it are noted as the tasks and services come.
    pub fn upsert_network(&mut self, network: &Network) {
        let Some(allocation) = &network.allocation else { return };
        if self.networks.contains_key(&network.id) {
            return;
        }
        let pool = |(subnet, gateway): &(IpNet, IpAddr)| {
            let asked = network.spec.ipam.iter().find(|asked| asked.subnet == *subnet);
            let aux = asked.into_iter().flat_map(|asked| asked.aux_addresses.values().copied());
            Pool::new(*subnet, asked.and_then(|asked| asked.ip_range), aux.chain([*gateway]))
        };
        let pools = allocation.pools.iter().map(pool).collect();
        self.networks.insert(network.id, NetworkBook { pools, vni: allocation.vni });
        if network.spec.name.as_str() == INGRESS_NETWORK {
            self.ingress_network = Some(network.id);
        }
        if allocation.vni > 0 {
            self.vnis.insert(allocation.vni);
        }
    }

    /// Forgets a network.
    pub fn remove_network(&mut self, id: NetworkId) {
        if let Some(network) = self.networks.remove(&id) {
            self.vnis.remove(&network.vni);
        }
        self.ingress_network = self.ingress_network.filter(|ingress| *ingress != id);
    }

    /// Follows a service: its virtual addresses and its ports. Returns true when it gave something back.
    pub fn upsert_service(&mut self, service: &Service, now: Timestamp) -> bool {
        let mut new = ServiceBook::default();
        if let Some(endpoint) = &service.endpoint {
            new.addresses = endpoint.virtual_ips.iter().map(|vip| (vip.network, vip.ip())).collect();
            for port in &endpoint.ports {
                let Some(number) = port.published else { continue };
                match port.mode {
                    PublishMode::Ingress => new.ingress.push((port.protocol, number)),
                    PublishMode::Host => new.host.push((port.protocol, number)),
                }
            }
        }
        if self.services.get(&service.id) == Some(&new) {
            return false;
        }
        let gave_back = self.remove_service(service.id, now);
        self.note_all(&new.addresses);
        self.ingress.extend(new.ingress.iter().map(|port| (*port, service.id)));
        for port in &new.host {
            self.host.entry(*port).or_default().insert(service.id);
        }
        self.services.insert(service.id, new);
        gave_back
    }

    /// Forgets a service. Returns true when it gave something back.
    pub fn remove_service(&mut self, id: ServiceId, now: Timestamp) -> bool {
        let Some(old) = self.services.remove(&id) else { return false };
        self.give_back_all(&old.addresses, now);
        for port in &old.ingress {
            if self.ingress.get(port) == Some(&id) {
                self.ingress.remove(port);
            }
        }
        for port in &old.host {
            if let Some(holders) = self.host.get_mut(port) {
                holders.remove(&id);
                if holders.is_empty() {
                    self.host.remove(port);
                }
            }
        }
        old != ServiceBook::default()
    }

    /// Follows a task: it holds its addresses until it has ended. Returns true when it gave some back.
    pub fn upsert_task(&mut self, task: &Task, now: Timestamp) -> bool {
        if task.status.state.is_terminal() || task.attachments.is_empty() {
            return self.remove_task(task.id, now);
        }
        let held = || task.attachments.iter().flat_map(|at| at.ips().map(|ip| (at.network, ip)));
        if self.tasks.get(&task.id).is_some_and(|known| known.iter().copied().eq(held())) {
            return false;
        }
        let new: Vec<_> = held().collect();
        let gave_back = self.remove_task(task.id, now);
        self.note_all(&new);
        self.tasks.insert(task.id, new);
        gave_back
    }

    /// Forgets a task. Returns true when it gave something back.
    pub fn remove_task(&mut self, id: TaskId, now: Timestamp) -> bool {
        let Some(held) = self.tasks.remove(&id) else { return false };
        self.give_back_all(&held, now);
        true
    }

    /// Follows a node: it holds its addresses on the ingress network as long as it is there.
    pub fn upsert_node(&mut self, node: &Node, now: Timestamp) {
        let Some(network) = self.ingress_network else { return };
        // The others are derived from the IPv4 address.
        let v4 = node.ingress.iter().map(IpNet::addr).filter(IpAddr::is_ipv4);
        let new: Vec<(NetworkId, IpAddr)> = v4.map(|address| (network, address)).collect();
        if self.nodes.get(&node.id) == Some(&new) {
            return;
        }
        self.remove_node(node.id, now);
        self.note_all(&new);
        if !new.is_empty() {
            self.nodes.insert(node.id, new);
        }
    }

    /// Forgets a node. Returns true when it gave something back.
    pub fn remove_node(&mut self, id: NodeId, now: Timestamp) -> bool {
        let Some(held) = self.nodes.remove(&id) else { return false };
        self.give_back_all(&held, now);
        true
    }

    /// Notes what a task was just given from the pools.
    pub(super) fn hold(&mut self, task: TaskId, held: Vec<(NetworkId, IpAddr)>) {
        self.tasks.insert(task, held);
    }

    pub(super) fn give_back_all(&mut self, held: &[(NetworkId, IpAddr)], now: Timestamp) {
        for (network, address) in held {
            let pools = self.networks.get_mut(network).into_iter().flat_map(|network| &mut network.pools);
            for pool in pools.filter(|pool| pool.subnet().contains(address)) {
                pool.give_back(*address, now);
            }
        }
    }

    fn note_all(&mut self, held: &[(NetworkId, IpAddr)]) {
        for (network, address) in held {
            let pools = self.networks.get_mut(network).into_iter().flat_map(|network| &mut network.pools);
            for pool in pools.filter(|pool| pool.subnet().contains(address)) {
                pool.note(*address);
            }
        }
    }
}
