//! A scrape of the state of 1,000 services and 10,000 tasks on 100 nodes, which is what grows with a cluster: how long it takes,
//! how many bytes it has. Everything else that a manager shows is the same in every cluster.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use berth_manager::store::{Hub, Object, State, StoreMetrics};
use berth_metrics::{Format, Registry, Scrape};
use berth_proto::id::{Id, NodeId};
use berth_proto::object::{
    Meta, Node, NodeDescription, NodeResources, NodeStatus, RestartRecord, Service, Slot, Task, TaskStatus,
};
use berth_proto::spec::{ContainerSpec, NodeSpec, ServiceMode, ServiceSpec};
use berth_proto::state::{DesiredState, NodeState, TaskState};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const NODES: u128 = 100;
const SERVICES: u128 = 1_000;
const REPLICAS: u64 = 10;

fn node(number: u128) -> Node {
    let resources = NodeResources { nano_cpus: 8_000_000_000, memory: 32 << 30, ..NodeResources::default() };
    let description = NodeDescription { hostname: format!("node-{number}"), resources, ..NodeDescription::default() };
    Node {
        id: NodeId::from_random(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: Some(description),
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
        manager: None,
        ingress: Vec::new(),
    }
}

fn service(number: u128) -> Service {
    let container = ContainerSpec { image: "example.org/app:1".into(), ..ContainerSpec::default() };
    let mut spec = ServiceSpec::new(format!("service-{number}").parse().unwrap(), container);
    spec.mode = ServiceMode::Replicated { replicas: REPLICAS };
    spec.task.resources.reservations.memory = 64 << 20;
    Service::new(Id::from_random(number), spec)
}

fn task(of: &Service, number: u128, slot: u64) -> Task {
    let id = number * u128::from(REPLICAS) + u128::from(slot);
    Task {
        id: Id::from_random(id),
        meta: Meta::default(),
        service: of.id,
        service_name: of.spec.name.clone(),
        spec_version: of.spec_version,
        slot: Slot::Replica(slot),
        node: Some(NodeId::from_random(id % NODES)),
        desired: DesiredState::Running,
        status: TaskStatus { state: TaskState::Running, ..TaskStatus::default() },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

fn state() -> State {
    let nodes = (0..NODES).map(|number| Object::from(node(number)));
    let services: Vec<Service> = (0..SERVICES).map(service).collect();
    let tasks = services
        .iter()
        .zip(0..)
        .flat_map(|(service, number)| (1..=REPLICAS).map(move |slot| Object::from(task(service, number, slot))));
    let tasks: Vec<Object> = tasks.collect();
    State::from_objects(1, nodes.chain(services.into_iter().map(Object::from)).chain(tasks))
}

fn scrape(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let mut registry = Registry::default();
    StoreMetrics::default().register(&mut registry, Hub::new(state()));
    let scrape = Scrape::default().with(Arc::new(registry));
    for (name, format) in [("Prometheus", Format::Prometheus), ("OpenMetrics", Format::OpenMetrics)] {
        let text = runtime.block_on(scrape.text(format));
        println!("{name}: {} bytes, {} lines", text.len(), text.lines().count());
        criterion.bench_function(&format!("scrape of 1,000 services and 10,000 tasks, {name}"), |bench| {
            bench.iter(|| black_box(runtime.block_on(scrape.text(format))).len());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = scrape
}
criterion_main!(benches);
