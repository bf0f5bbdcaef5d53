//! The nodes and what the tasks hold on them, kept up to date change by change. Never rebuilt for a decision, and never
//! reads anything but the objects it is handed.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Node, Task};
use berth_proto::spec::{NodeSpec, Platform};
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;

use crate::demand::{Demand, HostPort};
use crate::hash::IdMap;
use crate::plan::{Placement, Plan};
use crate::schedule::TaskGroup;
use crate::usage::Usage;

/// How long a failure on a node counts against it.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(300);

/// All nodes and all tasks that hold something on one.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    seed: u64,
    nodes: Vec<NodeView>,
    index: IdMap<NodeId, u32>,
    free: Vec<u32>,
    tasks: IdMap<TaskId, Held>,
    /// Tasks by a node that is not known (yet), counted in as soon as it is.
    strays: IdMap<NodeId, Vec<TaskId>>,
}

/// One node with what is held on it.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// The node; `None` in a place that is free for reuse.
    pub(crate) node: Option<Arc<Node>>,
    /// What is held on it.
    pub usage: Usage,
    /// Recent failures: task, service, when.
    failures: Vec<(TaskId, ServiceId, Timestamp)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Held {
    node: NodeId,
    service: ServiceId,
    demand: Arc<Demand>,
    ports: Vec<HostPort>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Holds its reservations; counted as a task of its service or, once asked to stop, not.
    Holds { counted: bool },
    /// Ended badly at that time.
    Failed(Timestamp),
}

impl NodeView {
    /// How often tasks of the service failed here within [`FAILURE_WINDOW`] before `now`.
    pub fn recent_failures(&self, service: ServiceId, now: Timestamp) -> u32 {
        let recent = |at: Timestamp| at.after(FAILURE_WINDOW) > now;
        self.failures.iter().filter(|(_, of, at)| *of == service && recent(*at)).count() as u32
    }
}

impl ClusterView {
    /// An empty view. The seed decides between nodes that are equally good.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True without nodes.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The node of that id.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.index.get(&id).and_then(|at| self.nodes[*at as usize].node.as_ref())
    }

    /// What is held on that node.
    pub fn usage(&self, id: NodeId) -> Option<&Usage> {
        self.index.get(&id).map(|at| &self.nodes[*at as usize].usage)
    }

    /// All nodes, in no order that means anything.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter_map(|view| view.node.as_ref())
    }

    /// Places of the slab with their nodes.
    pub(crate) fn slab(&self) -> impl Iterator<Item = (u32, &NodeView, &Node)> {
        let places = self.nodes.iter().enumerate();
        places.filter_map(|(at, view)| view.node.as_deref().map(|node| (at as u32, view, node)))
    }

    /// The node at a place that [`ClusterView::slab`] gave.
    pub(crate) fn at(&self, place: u32) -> &NodeView {
        &self.nodes[place as usize]
    }

    pub(crate) fn place_of(&self, id: NodeId) -> Option<u32> {
        self.index.get(&id).copied()
    }

    /// Size of the slab, free places included.
    pub(crate) fn places(&self) -> usize {
        self.nodes.len()
    }

    /// Adds a node or replaces what is known of it. Returns true when something that a placement reads has changed.
    pub fn upsert_node(&mut self, node: Arc<Node>) -> bool {
        if let Some(at) = self.index.get(&node.id) {
            let known = self.nodes[*at as usize].node.replace(node.clone());
            return known.is_none_or(|known| !same_for_placement(&known, &node));
        }
        let id = node.id;
        let view = NodeView { node: Some(node), usage: Usage::default(), failures: Vec::new() };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = view;
                at
            }
            None => {
                self.nodes.push(view);
                (self.nodes.len() - 1) as u32
            }
        };
        self.index.insert(id, at);
        for task in self.strays.remove(&id).unwrap_or_default() {
            if let Some(held) = self.tasks.get(&task) {
                enter(&mut self.nodes[at as usize], task, held);
            }
        }
        true
    }

    /// Forgets a node. What its tasks held is remembered in case it comes back.
    pub fn remove_node(&mut self, id: NodeId) {
        let Some(at) = self.index.remove(&id) else { return };
        self.nodes[at as usize] = NodeView { node: None, usage: Usage::default(), failures: Vec::new() };
        self.free.push(at);
        let mut strays: Vec<TaskId> =
            self.tasks.iter().filter(|(_, held)| held.node == id).map(|(task, _)| *task).collect();
        strays.sort_unstable();
        if !strays.is_empty() {
            self.strays.insert(id, strays);
        }
    }

    /// Takes note of a task as it is now; `demand` is that of its spec version. Returns true when that gives something
    /// back that a waiting task could use.
    pub fn upsert_task(&mut self, task: &Task, demand: &Arc<Demand>) -> bool {
        let Some(held) = Held::of(task, demand) else { return self.remove_task(task.id) };
        if self.tasks.get(&task.id) == Some(&held) {
            return false;
        }
        let gave_back = self.remove_task(task.id) && !matches!(held.kind, Kind::Holds { counted: true });
        self.hold(task.id, held);
        gave_back
    }

    fn hold(&mut self, task: TaskId, held: Held) {
        match self.index.get(&held.node) {
            Some(at) => enter(&mut self.nodes[*at as usize], task, &held),
            None => self.strays.entry(held.node).or_default().push(task),
        }
        self.tasks.insert(task, held);
    }

    /// Forgets a task. Returns true when it held something.
    pub fn remove_task(&mut self, id: TaskId) -> bool {
        let Some(held) = self.tasks.remove(&id) else { return false };
        match self.index.get(&held.node) {
            Some(at) => leave(&mut self.nodes[*at as usize], id, &held),
            None => {
                if let Some(strays) = self.strays.get_mut(&held.node) {
                    strays.retain(|stray| *stray != id);
                    if strays.is_empty() {
                        self.strays.remove(&held.node);
                    }
                }
            }
        }
        matches!(held.kind, Kind::Holds { .. })
    }

    /// The node of a task that holds something.
    pub fn node_of(&self, task: TaskId) -> Option<NodeId> {
        self.tasks.get(&task).map(|held| held.node)
    }

    /// A fork in which the plan is carried out.
    #[must_use]
    pub fn with_plan(&self, groups: &[TaskGroup], plan: &Plan) -> Self {
        let mut fork = self.clone();
        for Placement { task, service, node, evicts, .. } in &plan.placements {
            for victim in evicts {
                fork.remove_task(*victim);
            }
            let of_task = |group: &&TaskGroup| group.tasks.iter().any(|request| request.task == *task);
            let same_service = |group: &&TaskGroup| group.service == *service;
            let Some(group) = groups.iter().filter(same_service).find(of_task) else { continue };
            let demand = group.demand.clone();
            let ports = demand.host_ports.clone();
            let held = Held { node: *node, service: *service, demand, ports, kind: Kind::Holds { counted: true } };
            fork.hold(*task, held);
        }
        fork
    }

    /// True when both views would give the same plans.
    pub fn same_as(&self, other: &Self) -> bool {
        let nodes_same = self.index.iter().all(|(id, at)| {
            let Some(there) = other.index.get(id) else { return false };
            let (a, b) = (&self.nodes[*at as usize], &other.nodes[*there as usize]);
            let sorted = |view: &NodeView| {
                let mut failures = view.failures.clone();
                failures.sort_unstable_by_key(|failure| failure.0);
                failures
            };
            a.node == b.node && a.usage.same_as(&b.usage) && sorted(a) == sorted(b)
        });
        self.seed == other.seed && self.len() == other.len() && nodes_same && self.tasks == other.tasks
    }
}

impl Held {
    /// What a task holds or leaves behind on its node; `None` when that is nothing.
    fn of(task: &Task, demand: &Arc<Demand>) -> Option<Self> {
        let node = task.node?;
        let kind = match task.status.state {
            TaskState::Failed | TaskState::Rejected => Kind::Failed(task.status.at),
            state if state.is_terminal() => return None,
            _ => Kind::Holds { counted: task.desired.wants_work() },
        };
        let ports = task.host_ports.iter().filter_map(HostPort::of).collect();
        Some(Self { node, service: task.service, demand: demand.clone(), ports, kind })
    }
}

fn enter(view: &mut NodeView, task: TaskId, held: &Held) {
    match held.kind {
        Kind::Holds { counted } => view.usage.add(held.service, &held.demand, &held.ports, counted),
        Kind::Failed(at) => view.failures.push((task, held.service, at)),
    }
}

fn leave(view: &mut NodeView, task: TaskId, held: &Held) {
    match held.kind {
        Kind::Holds { counted } => view.usage.take(held.service, &held.demand, &held.ports, counted),
        Kind::Failed(_) => view.failures.retain(|failure| failure.0 != task),
    }
}

/// True when no filter and no score can tell the two apart.
fn same_for_placement(a: &Node, b: &Node) -> bool {
    let NodeSpec { role, availability, labels } = &a.spec;
    let spec_same = *role == b.spec.role && *availability == b.spec.availability && *labels == b.spec.labels;
    spec_same
        && a.description == b.description
        && a.status.state == b.status.state
        && a.status.address == b.status.address
        && a.id == b.id
}

/// The platform that a node reported; empty before its first session.
pub(crate) fn platform(node: &Node) -> Platform {
    node.description.as_ref().map(|description| description.platform.clone()).unwrap_or_default()
}
