//! Clusters and services to measure with, the same for the same seed. Shapes and tails are like those of the published
//! traces: a few shapes of machines make most of the cluster, most services are small and a few hold most of it.

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{
    Meta, Node, NodeDescription, NodeResources, NodeStatus, RestartRecord, Slot, Task, TaskStatus,
};
use berth_proto::spec::{NodeSpec, Platform};
use berth_proto::state::{DesiredState, NodeState, TaskState};
use berth_proto::time::Timestamp;
use berth_scheduler::{ClusterView, Demand, TaskGroup, TaskRequest};

pub const GIB: u64 = 1 << 30;
pub const CPU: u64 = 1_000_000_000;
pub const NOW: Timestamp = Timestamp(1_000_000_000_000_000);

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Bounded Pareto: between the bounds, with a heavier tail for a smaller alpha.
    pub fn pareto(&mut self, low: f64, high: f64, alpha: f64) -> f64 {
        let (l, h) = (low.powf(alpha), high.powf(alpha));
        (-(self.share() * (h - l) - h) / (h * l)).powf(-1.0 / alpha)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

pub fn node(n: u128, nano_cpus: u64, memory: u64) -> Node {
    Node {
        id: NodeId::from_random(n),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: Some(NodeDescription {
            hostname: format!("host{n}"),
            platform: Platform { os: "linux".into(), architecture: "x86_64".into() },
            resources: NodeResources { nano_cpus, memory, ..NodeResources::default() },
            ..NodeDescription::default()
        }),
        status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
        manager: None,
        ingress: Vec::new(),
    }
}

pub fn view(nodes: &[Node]) -> ClusterView {
    let mut view = ClusterView::new(7);
    for node in nodes {
        view.upsert_node(Arc::new(node.clone()));
    }
    view
}

pub fn equal(nodes: u128, cpus: u64) -> Vec<Node> {
    (1..=nodes).map(|n| node(n, cpus * CPU, cpus * GIB)).collect()
}

pub fn reserve(nano_cpus: u64, memory: u64) -> Demand {
    Demand { nano_cpus, memory, ..Demand::default() }
}

pub fn group(service: u128, demand: Demand, first: u128, tasks: u64) -> TaskGroup {
    let request = |n| TaskRequest { task: TaskId::from_random(first + u128::from(n)), bound_to: None };
    TaskGroup {
        service: ServiceId::from_random(service),
        spec_version: 1,
        demand: Arc::new(demand),
        tasks: (0..tasks).map(request).collect(),
        wanted: tasks,
    }
}

pub fn running(id: TaskId, service: ServiceId, on: NodeId) -> Task {
    Task {
        id,
        meta: Meta::default(),
        service,
        service_name: "web".parse().expect("a name"),
        spec_version: 1,
        slot: Slot::Replica(1),
        node: Some(on),
        desired: DesiredState::Running,
        status: TaskStatus { state: TaskState::Running, at: NOW, ..TaskStatus::default() },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

/// 10,000 nodes in 20 shapes, in 8 zones of 5 racks each; one in four has an SSD.
pub fn mixed_nodes(count: u128, random: &mut Random) -> Vec<Node> {
    let shapes: Vec<(u64, u64)> = (0..20)
        .map(|_| {
            let cpus = [8, 16, 16, 32, 32, 48, 64, 96][(random.next() % 8) as usize];
            (cpus, cpus * [2, 4, 4, 8][(random.next() % 4) as usize])
        })
        .collect();
    (1..=count)
        .map(|n| {
            // The first shapes are the most common ones.
            let (cpus, gib) = shapes[(random.pareto(1.0, 20.99, 0.6) as usize - 1).min(19)];
            let mut node = node(n, cpus * CPU, gib * GIB);
            let (zone, rack) = (random.next() % 8, random.next() % 5);
            node.spec.labels.insert("zone".into(), format!("z{zone}"));
            node.spec.labels.insert("rack".into(), format!("z{zone}r{rack}"));
            let disk = if random.next().is_multiple_of(4) { "ssd" } else { "hdd" };
            node.spec.labels.insert("disk".into(), disk.into());
            node
        })
        .collect()
}

/// Services with heavy-tailed demand and size, together about that share of what the nodes have of the scarcer resource.
pub fn mixed_services(nodes: &[Node], services: u128, share: f64, random: &mut Random) -> Vec<TaskGroup> {
    let resources = nodes.iter().filter_map(|node| node.description.as_ref()).map(|known| &known.resources);
    let (cpus, memory) = resources.fold((0.0, 0.0), |(c, m), has| (c + has.nano_cpus as f64, m + has.memory as f64));
    let drawn: Vec<(u64, u64, f64)> = (0..services)
        .map(|_| {
            let milli = (random.pareto(50.0, 8_000.0, 0.9) / 10.0).ceil() as u64 * 10;
            let ratio = random.pareto(0.5, 16.0, 0.7);
            let mib = (milli as f64 / 1_000.0 * ratio * 1_024.0 / 16.0).ceil() as u64 * 16;
            (milli * CPU / 1_000, mib << 20, random.pareto(1.0, 2_000.0, 0.5))
        })
        .collect();
    let asked = drawn.iter().fold((0.0, 0.0), |(c, m), (cpu, mem, n)| (c + *cpu as f64 * n, m + *mem as f64 * n));
    let scale = share / (asked.0 / cpus).max(asked.1 / memory);
    let mut first = 0;
    let groups = drawn.into_iter().enumerate().map(|(at, (cpu, mem, tasks))| {
        let tasks = ((tasks * scale).round() as u64).max(1);
        let new = group(at as u128 + 1, reserve(cpu, mem), first, tasks);
        first += u128::from(tasks);
        new
    });
    groups.collect()
}

/// The same with a constraint on one in three and hierarchical spread on all.
pub fn constrained(groups: &[TaskGroup]) -> Vec<TaskGroup> {
    let groups = groups.iter().enumerate();
    groups
        .map(|(at, group)| {
            let constraints = match at % 3 {
                0 => vec!["node.labels.disk==ssd".parse().expect("a constraint")],
                1 => vec!["node.labels.zone!=z0".parse().expect("a constraint")],
                _ => vec!["node.platform.os==linux".parse().expect("a constraint")],
            };
            let spread = vec!["node.labels.zone".to_owned(), "node.labels.rack".to_owned()];
            let demand = Demand { constraints, spread, ..Demand::clone(&group.demand) };
            TaskGroup { demand: Arc::new(demand), ..group.clone() }
        })
        .collect()
}
