//! Nodes, services and tasks for tests, made from a few numbers.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{
    Meta, Node, NodeDescription, NodeResources, NodeStatus, RestartRecord, Slot, Task, TaskStatus,
};
use berth_proto::spec::{NodeSpec, Platform, PortConfig, PublishMode};
use berth_proto::state::{DesiredState, NodeState, TaskState};
use berth_proto::time::Timestamp;
use berth_scheduler::{ClusterView, Demand, TaskGroup, TaskRequest};

pub const GIB: u64 = 1 << 30;
pub const CPU: u64 = 1_000_000_000;
pub const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

pub fn node(n: u128, cpus: u64, gib: u64) -> Node {
    Node {
        id: NodeId::from_random(n),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: Some(NodeDescription {
            hostname: format!("host{n}"),
            platform: Platform { os: "linux".into(), architecture: "x86_64".into() },
            resources: NodeResources { nano_cpus: cpus * CPU, memory: gib * GIB, ..NodeResources::default() },
            ..NodeDescription::default()
        }),
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
        manager: None,
        ingress: Vec::new(),
    }
}

pub fn labelled(mut node: Node, key: &str, value: &str) -> Node {
    node.spec.labels.insert(key.into(), value.into());
    node
}

pub fn service(n: u128) -> ServiceId {
    ServiceId::from_random(n)
}

pub fn task(n: u128, of: u128, on: Option<NodeId>, state: TaskState) -> Task {
    Task {
        id: TaskId::from_random(n),
        meta: Meta::default(),
        service: service(of),
        service_name: "web".parse().unwrap(),
        spec_version: 1,
        slot: Slot::Replica(1),
        node: on,
        desired: DesiredState::Running,
        status: TaskStatus { state, at: NOW, ..TaskStatus::default() },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

pub fn view(nodes: impl IntoIterator<Item = Node>) -> ClusterView {
    let mut view = ClusterView::new(7);
    for node in nodes {
        view.upsert_node(Arc::new(node));
    }
    view
}

pub fn group(of: u128, demand: Demand, tasks: std::ops::Range<u128>) -> TaskGroup {
    let wanted = (tasks.end - tasks.start) as u64;
    TaskGroup {
        service: service(of),
        spec_version: 1,
        demand: Arc::new(demand),
        tasks: tasks.map(|n| TaskRequest { task: TaskId::from_random(n), bound_to: None }).collect(),
        wanted,
    }
}

pub fn reserve(cpus: u64, gib: u64) -> Demand {
    Demand { nano_cpus: cpus * CPU, memory: gib * GIB, ..Demand::default() }
}

/// A running task with the ports of its demand.
pub fn placed_task(n: u128, of: u128, on: u128, demand: &Demand) -> Task {
    let mut task = task(n, of, Some(NodeId::from_random(on)), TaskState::Running);
    let ports = demand.host_ports.iter().map(|port| PortConfig {
        name: None,
        protocol: port.protocol,
        target: port.port,
        published: Some(port.port),
        mode: PublishMode::Host,
        host_ip: port.address,
    });
    task.host_ports = ports.collect();
    task
}
