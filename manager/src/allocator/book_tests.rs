//! Random lives of services and tasks on small networks: whatever the order, nothing is ever held twice, and a book that was
//! built anew from the store goes on as the old one would.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{NetworkId, ServiceId, TaskId};
use berth_proto::object::{Meta, Network, NetworkAllocation, RestartRecord, Service, Slot, Task, TaskStatus};
use berth_proto::spec::{
    ContainerSpec, IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, PortConfig, Protocol, PublishMode,
    ServiceSpec,
};
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;
use proptest::prelude::*;

use super::attach::Attachments;
use super::{AllocatorConfig, Book, endpoint, network};
use crate::orchestrator::{SeededIds, Turn, Work};
use crate::store::{State, Transaction};

const NETWORK: NetworkId = NetworkId::from_random(1);
/// Addresses that services ask for by name: one of them is the gateway, another is reserved.
const FIXED: [&str; 5] = ["10.9.0.1", "10.9.0.2", "10.9.0.5", "10.9.0.9", "10.9.0.30"];
const GATEWAY: &str = "10.9.0.1";
const RESERVED: &str = "10.9.0.5";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A store, and the book that follows it.
struct World {
    state: State,
    book: Book,
    now: Timestamp,
    made: u128,
}

impl World {
    fn new() -> Self {
        let subnet = "10.9.0.0/27".parse().unwrap();
        let aux_addresses = BTreeMap::from([("printer".to_owned(), ip(RESERVED))]);
        let ipam = vec![IpamPool { subnet, ip_range: None, gateway: None, aux_addresses }];
        let name = "small".parse().unwrap();
        let spec = NetworkSpec { name, ipam, driver: NetworkDriver::Overlay, ..network::default_network() };
        let allocation =
            NetworkAllocation { vni: 4096, pools: vec![(subnet, ip(GATEWAY))], ..NetworkAllocation::default() };
        let network =
            Network { id: NETWORK, meta: Meta::default(), spec: Arc::new(spec), allocation: Some(allocation) };
        let mut world = Self {
            state: State::default(),
            book: Book::new(AllocatorConfig::default()),
            now: Timestamp(1_000_000_000_000),
            made: 1,
        };
        world.write(|tx| tx.create(network));
        world.rebuild();
        world
    }

    fn write(&mut self, fill: impl FnOnce(&mut Transaction)) {
        let mut tx = Transaction::new(self.now, "test");
        fill(&mut tx);
        self.state.apply(self.state.index() + 1, &tx).unwrap();
    }

    /// As a manager that begins to lead.
    fn rebuild(&mut self) {
        self.book = Book::new(AllocatorConfig::default());
        self.state.networks().for_each(|network| self.book.upsert_network(network));
        for service in self.state.services() {
            self.book.upsert_service(service, self.now);
            for task in self.state.tasks_of_service(service.id) {
                self.book.upsert_task(task, self.now);
            }
        }
    }

    fn id(&mut self) -> u128 {
        self.made += 1;
        self.made
    }

    fn create_service(&mut self, fixed: Option<&str>) {
        let id = self.id();
        let name = format!("s{id}").parse().unwrap();
        let mut spec = ServiceSpec::new(name, ContainerSpec::default());
        spec.task.networks = vec![NetworkAttachmentSpec {
            network: "small".parse().unwrap(),
            aliases: Vec::new(),
            ipv4: fixed.map(ip),
            ipv6: None,
            priority: 0,
            gateway_priority: 0,
            mac_address: None,
        }];
        let (protocol, mode) = (Protocol::Tcp, PublishMode::Ingress);
        spec.endpoint.ports =
            vec![PortConfig { name: None, protocol, target: 80, published: None, mode, host_ip: None }];
        let service = Service::new(ServiceId::from_random(id), spec);
        self.write(|tx| tx.create(service.clone()));
        self.book.upsert_service(&service, self.now);
        self.address_service(service.id);
    }

    fn address_service(&mut self, id: ServiceId) {
        let service = self.state.service(id).unwrap().clone();
        let mut work = Work::load(&self.state, &service);
        let (mut ids, now) = (SeededIds::new(1), self.now);
        let turn = Turn::new(&self.state, now, &mut ids);
        if endpoint::decide(&mut work, &mut self.book, &turn).is_ok() && work.service.endpoint != service.endpoint {
            let addressed = Service::clone(&work.service);
            self.write(|tx| tx.update(addressed));
        }
    }

    /// Gives a new task its addresses; `is_kept` says whether the store takes it.
    fn create_task(&mut self, service: ServiceId, is_kept: bool) {
        let stored = self.state.service(service).unwrap();
        let (spec, version) = (stored.spec.clone(), stored.spec_version);
        let id = TaskId::from_random(self.id());
        let Ok(attachments) = Attachments::of(&spec, &self.state).unwrap().give(id, &mut self.book, self.now) else {
            return;
        };
        if !is_kept {
            self.book.remove_task(id, self.now);
            return;
        }
        let slot = Slot::Replica(self.made as u64);
        let task = Task { spec_version: version, slot, ..task(id, service, &spec, attachments) };
        self.book.upsert_task(&task, self.now);
        self.write(|tx| tx.create(task));
    }

    fn end_task(&mut self, id: TaskId) {
        let mut ended = Task::clone(self.state.task(id).unwrap());
        ended.status.state = TaskState::Shutdown;
        self.book.upsert_task(&ended, self.now);
        self.write(|tx| tx.update(ended));
    }

    fn remove_service(&mut self, id: ServiceId) {
        let tasks: Vec<_> = self.state.tasks_of_service(id).cloned().collect();
        let service = self.state.service(id).unwrap().clone();
        for task in tasks {
            self.book.remove_task(task.id, self.now);
            self.write(|tx| tx.remove(&*task));
        }
        self.book.remove_service(id, self.now);
        self.write(|tx| tx.remove(&*service));
    }

    fn alive(&self) -> Vec<Arc<Task>> {
        let services = self.state.services();
        let tasks = services.flat_map(|service| self.state.tasks_of_service(service.id));
        tasks.filter(|task| !task.status.state.is_terminal()).cloned().collect()
    }

    /// Every address and port that somebody holds; fails when two do.
    fn holders(&self) -> BTreeSet<IpAddr> {
        let (mut seen, mut ports) = (BTreeSet::from([ip(GATEWAY), ip(RESERVED)]), BTreeSet::new());
        let of_tasks = self.alive().into_iter().flat_map(|task| task.attachments.clone());
        let mut held: Vec<IpAddr> = of_tasks.flat_map(|at| at.ips().collect::<Vec<_>>()).collect();
        for endpoint in self.state.services().filter_map(|service| service.endpoint.as_ref()) {
            held.extend(endpoint.virtual_ips.iter().map(|vip| vip.ip()));
            let fresh = endpoint.ports.iter().all(|port| ports.insert(port.published.unwrap()));
            assert!(fresh, "a port given twice: {endpoint:?}");
        }
        for address in held {
            assert!(seen.insert(address), "{address} given twice");
        }
        seen
    }
}

fn task(id: TaskId, service: ServiceId, spec: &ServiceSpec, attachments: Vec<berth_proto::object::Attachment>) -> Task {
    Task {
        id,
        meta: Meta::default(),
        service,
        service_name: spec.name.clone(),
        spec_version: 0,
        slot: Slot::Replica(1),
        node: None,
        desired: DesiredState::Running,
        status: TaskStatus { state: TaskState::Pending, ..TaskStatus::default() },
        attachments,
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

fn step(world: &mut World, kind: u8, which: usize) {
    let services: Vec<ServiceId> = world.state.services().map(|service| service.id).collect();
    let service = (!services.is_empty()).then(|| services[which % services.len()]);
    let alive = world.alive();
    let task = (!alive.is_empty()).then(|| alive[which % alive.len()].clone());
    match (kind, service, task) {
        (0, ..) => world.create_service(None),
        (1, ..) => world.create_service(Some(FIXED[which % FIXED.len()])),
        (2, Some(service), _) => world.remove_service(service),
        (3..=6, Some(service), _) => world.create_task(service, true),
        (7, Some(service), _) => world.create_task(service, false),
        (8, _, Some(task)) => world.end_task(task.id),
        // A restart: the new one at once.
        (9 | 10, _, Some(task)) => {
            world.end_task(task.id);
            world.create_task(task.service, true);
        }
        (11, Some(service), _) => world.address_service(service),
        (12, ..) => world.rebuild(),
        (13, ..) => world.now = world.now.after(Duration::from_secs(which as u64)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn no_address_and_no_port_has_two_holders(
        steps in proptest::collection::vec((0..14u8, 0..60usize), 0..250),
    ) {
        let mut world = World::new();
        for (kind, which) in steps {
            step(&mut world, kind, which);
            let held = world.holders();
            let taken: usize = world.book.networks.values().flat_map(|book| &book.pools).map(|pool| pool.taken()).sum();
            prop_assert_eq!(taken + 2, held.len(), "the book holds just what the store does, beside what is nobody's");
        }
    }
}

#[test]
fn a_gateway_or_a_reserved_address_is_given_to_nobody_who_asks_for_it() {
    for (asked, what) in [(GATEWAY, "10.9.0.1"), (RESERVED, "10.9.0.5"), ("10.9.0.0", "10.9.0.0")] {
        let mut world = World::new();
        world.create_service(Some(asked));
        let service = world.state.services().next().unwrap().clone();
        let attachments = Attachments::of(&service.spec, &world.state).unwrap();
        let error = attachments.give(TaskId::from_random(99), &mut world.book, world.now).unwrap_err();
        let said = format!("network small: address {what} is kept for the network itself");
        assert_eq!(error.to_string(), said);
    }
}
