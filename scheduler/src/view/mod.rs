//! The nodes and what the tasks hold on them, kept up to date change by change. Never rebuilt for a decision, and never
//! reads anything but the objects it is handed.
//!
//! Beside the nodes it keeps the orders that decisions read: nodes in pools of equal ones, where the tasks of each service
//! are, which nodes have an image. A fork shares what it does not write.

mod census;
mod held;
mod index;
mod node;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Node, Task};
use berth_proto::spec::{NodeSpec, Platform};

use crate::class::Class;
use crate::demand::Demand;
use crate::hash::IdMap;
use crate::plan::{Placement, Plan};
use crate::pool::Pool;
use crate::schedule::TaskGroup;
use crate::usage::Usage;

pub(crate) use census::Census;
pub(crate) use held::{Held, Hold, Kind};
pub use node::{FAILURE_WINDOW, NodeView};

/// All nodes and all tasks that hold something on one.
#[derive(Debug, Clone, Default)]
pub struct ClusterView {
    seed: u64,
    nodes: Vec<Arc<NodeView>>,
    index: Arc<IdMap<NodeId, u32>>,
    free: Vec<u32>,
    tasks: held::Tasks,
    /// Tasks by a node that is not known (yet), counted in as soon as it is.
    strays: IdMap<NodeId, Vec<TaskId>>,
    pools: Vec<Arc<Pool>>,
    classes: HashMap<Arc<Class>, u32>,
    free_pools: Vec<u32>,
    census: IdMap<ServiceId, Arc<Census>>,
    /// Places of the nodes that have an image.
    images: HashMap<String, Arc<BTreeSet<u32>>>,
    /// How many tasks that could be evicted have which priority.
    priorities: BTreeMap<i32, u32>,
    /// How many tasks have rules about others.
    rules: u32,
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

    /// The node of a task that holds something.
    pub fn node_of(&self, task: TaskId) -> Option<NodeId> {
        self.tasks.get(task).map(|held| held.node)
    }

    /// Places of the slab with their nodes.
    pub(crate) fn slab(&self) -> impl Iterator<Item = (u32, &NodeView, &Node)> {
        let places = self.nodes.iter().enumerate();
        places.filter_map(|(at, view)| view.node.as_deref().map(|node| (at as u32, &**view, node)))
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

    pub(crate) fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    pub(crate) fn held(&self, task: TaskId) -> Option<&Held> {
        self.tasks.get(task)
    }

    pub(crate) fn census(&self, service: ServiceId) -> Option<&Census> {
        self.census.get(&service).map(|census| &**census)
    }

    pub(crate) fn censuses(&self) -> impl Iterator<Item = (ServiceId, &Census)> {
        self.census.iter().map(|(service, census)| (*service, &**census))
    }

    /// Places of the nodes that have the image.
    pub(crate) fn with_image(&self, image: &str) -> Option<&BTreeSet<u32>> {
        self.images.get(image).map(|places| &**places)
    }

    /// Cpu and memory of all nodes together.
    pub(crate) fn capacity(&self) -> (u128, u128) {
        let times = |amount: u64, pool: &Pool| u128::from(amount) * pool.len() as u128;
        let sums = self.pools.iter().map(|pool| (times(pool.class.nano_cpus, pool), times(pool.class.memory, pool)));
        sums.fold((0, 0), |sum, pool| (sum.0 + pool.0, sum.1 + pool.1))
    }

    /// How many tasks have rules about others.
    pub(crate) fn rules(&self) -> u32 {
        self.rules
    }

    /// The lowest priority of a task that works.
    pub(crate) fn lowest_priority(&self) -> Option<i32> {
        self.priorities.keys().next().copied()
    }

    /// Adds a node or replaces what is known of it. Returns true when something that a placement reads has changed.
    pub fn upsert_node(&mut self, node: Arc<Node>) -> bool {
        if let Some(at) = self.index.get(&node.id).copied() {
            let known = self.nodes[at as usize].node.clone();
            let changed = known.as_ref().is_none_or(|known| !same_for_placement(known, &node));
            self.images_changed(at, known.as_deref(), Some(&node));
            Arc::make_mut(&mut self.nodes[at as usize]).describe(node);
            if changed {
                self.file(at);
            }
            return changed;
        }
        let id = node.id;
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.nodes.push(Arc::default());
                (self.nodes.len() - 1) as u32
            }
        };
        self.images_changed(at, None, Some(&node));
        self.nodes[at as usize] = Arc::new(NodeView::new(self.seed, node));
        Arc::make_mut(&mut self.index).insert(id, at);
        for task in self.strays.remove(&id).unwrap_or_default() {
            if let Some(held) = self.tasks.get(task).cloned() {
                self.enter(at, task, &held);
            }
        }
        self.file(at);
        true
    }

    /// Forgets a node. What its tasks held is remembered in case it comes back.
    pub fn remove_node(&mut self, id: NodeId) {
        let Some(at) = Arc::make_mut(&mut self.index).remove(&id) else { return };
        let view = &self.nodes[at as usize];
        let mut strays = view.tasks.clone();
        strays.extend(view.failures.iter().map(|failure| failure.0));
        strays.sort_unstable();
        for task in &strays {
            if let Some(held) = self.tasks.get(*task).cloned() {
                self.leave(at, *task, &held);
            }
        }
        let known = self.nodes[at as usize].node.clone();
        self.images_changed(at, known.as_deref(), None);
        self.unfile(at);
        self.nodes[at as usize] = Arc::default();
        self.free.push(at);
        if !strays.is_empty() {
            self.strays.insert(id, strays);
        }
    }

    /// Takes note of a task as it is now; `demand` is that of its spec version. Returns true when that gives something
    /// back that a waiting task could use.
    pub fn upsert_task(&mut self, task: &Task, demand: &Arc<Demand>) -> bool {
        let Some(held) = Held::of(task, demand) else { return self.remove_task(task.id) };
        if self.tasks.get(task.id) == Some(&held) {
            return false;
        }
        let counts = held.hold().is_some_and(|hold| hold.counted);
        let gave_back = self.remove_task(task.id) && !counts;
        self.hold(task.id, held);
        gave_back
    }

    fn hold(&mut self, task: TaskId, held: Held) {
        match self.index.get(&held.node).copied() {
            Some(at) => {
                self.enter(at, task, &held);
                self.file(at);
            }
            None => self.strays.entry(held.node).or_default().push(task),
        }
        self.tasks.insert(task, held);
    }

    /// Forgets a task. Returns true when it held something.
    pub fn remove_task(&mut self, id: TaskId) -> bool {
        let Some(held) = self.tasks.remove(id) else { return false };
        match self.index.get(&held.node).copied() {
            Some(at) => {
                self.leave(at, id, &held);
                self.file(at);
            }
            None => {
                if let Some(strays) = self.strays.get_mut(&held.node) {
                    strays.retain(|stray| *stray != id);
                    if strays.is_empty() {
                        self.strays.remove(&held.node);
                    }
                }
            }
        }
        held.hold().is_some()
    }

    /// A fork in which the plan is carried out.
    #[must_use]
    pub fn with_plan(&self, groups: &[TaskGroup], plan: &Plan) -> Self {
        let requests = groups.iter().flat_map(|group| group.tasks.iter().map(move |request| (request, group)));
        let asked: IdMap<TaskId, _> = requests.map(|(request, group)| (request.task, (request, group))).collect();
        let mut fork = self.clone();
        for Placement { task, service, node, evicts, .. } in &plan.placements {
            for victim in evicts {
                fork.remove_task(*victim);
            }
            let Some((request, group)) = asked.get(task) else { continue };
            let demand = group.demand.clone();
            let ports = demand.host_ports.clone().into();
            let hold = Hold { bound: request.bound_to.is_some(), ..Hold::PLACED };
            fork.hold(*task, Held { node: *node, service: *service, demand, ports, kind: Kind::Holds(hold) });
        }
        fork
    }

    /// True when both views would give the same plans.
    pub fn same_as(&self, other: &Self) -> bool {
        let nodes_same = self.index.iter().all(|(id, at)| {
            let there = other.index.get(id);
            there.is_some_and(|there| self.nodes[*at as usize].same_as(&other.nodes[*there as usize]))
        });
        self.seed == other.seed
            && self.len() == other.len()
            && nodes_same
            && self.tasks.same_as(&other.tasks)
            && self.same_index(other)
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
