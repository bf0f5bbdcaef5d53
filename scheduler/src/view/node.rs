//! One node of the view with what is held on it.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::Node;
use berth_proto::time::Timestamp;

use super::held::{Held, Kind};
use crate::hash::tie;
use crate::pool::{Key, UNUSED, WHOLE, cell};
use crate::score::share;
use crate::usage::Usage;

/// How long a failure on a node counts against it.
pub const FAILURE_WINDOW: Duration = Duration::from_secs(300);

/// One node with what is held on it.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// The node; `None` in a place that is free for reuse.
    pub(crate) node: Option<Arc<Node>>,
    /// What is held on it.
    pub usage: Usage,
    /// Its capacity: cpu and memory.
    pub(crate) has: (u64, u64),
    /// Breaks ties between nodes.
    pub(crate) tie: u64,
    /// The pool that it lies in, and where.
    pub(crate) pool: u32,
    pub(crate) key: Option<Key>,
    /// The node as it was when it was put there.
    pub(super) filed: Option<Arc<Node>>,
    /// Tasks that hold something here.
    pub(crate) tasks: Vec<TaskId>,
    /// Recent failures: task, service, when.
    pub(super) failures: Vec<(TaskId, ServiceId, Timestamp)>,
}

impl NodeView {
    pub(super) fn new(seed: u64, node: Arc<Node>) -> Self {
        let mut new = Self { tie: tie(seed, node.id.as_u128()), ..Self::default() };
        new.describe(node);
        new
    }

    pub(super) fn describe(&mut self, node: Arc<Node>) {
        let resources = node.description.as_ref().map(|description| &description.resources);
        self.has = resources.map_or((0, 0), |has| (has.nano_cpus, has.memory));
        self.node = Some(node);
    }

    /// How often tasks of the service failed here within [`FAILURE_WINDOW`] before `now`.
    pub fn recent_failures(&self, service: ServiceId, now: Timestamp) -> u32 {
        if self.failures.is_empty() {
            return 0;
        }
        let recent = |at: Timestamp| at.after(FAILURE_WINDOW) > now;
        self.failures.iter().filter(|(_, of, at)| *of == service && recent(*at)).count() as u32
    }

    /// How much of a named thing it has.
    pub(crate) fn generic(&self, name: &str) -> u64 {
        let resources = self.node.as_ref().and_then(|node| node.description.as_ref()).map(|known| &known.resources);
        resources.and_then(|has| has.generic.get(name)).copied().unwrap_or_default()
    }

    /// Where it lies in its pool with so much held.
    pub(crate) fn key(&self, held: &Usage) -> Key {
        let full = self.fullness(held);
        let Usage { nano_cpus, memory, tasks, bound, .. } = *held;
        let tie = self.tie;
        if tasks == bound {
            return Key { cell: UNUSED, free: full, tasks, tie };
        }
        let free = (self.has.0.saturating_sub(nano_cpus), self.has.1.saturating_sub(memory));
        Key { cell: cell(free.0, free.1), free: WHOLE as u32 - full, tasks, tie }
    }

    /// The share of the scarcest resource that is held, in millionths.
    pub(crate) fn fullness(&self, held: &Usage) -> u32 {
        let mut most = share(held.nano_cpus, self.has.0).max(share(held.memory, self.has.1));
        for (name, count) in held.generics() {
            most = most.max(share(count, self.generic(name)));
        }
        most
    }

    pub(super) fn enter(&mut self, task: TaskId, held: &Held) {
        match held.kind {
            Kind::Holds(hold) => {
                self.usage.add(held.service, &held.demand, &held.ports, hold);
                self.tasks.push(task);
            }
            Kind::Failed(at) => self.failures.push((task, held.service, at)),
        }
    }

    pub(super) fn leave(&mut self, task: TaskId, held: &Held) {
        match held.kind {
            Kind::Holds(hold) => {
                self.usage.take(held.service, &held.demand, &held.ports, hold);
                if let Some(at) = self.tasks.iter().position(|known| *known == task) {
                    self.tasks.swap_remove(at);
                }
            }
            Kind::Failed(_) => self.failures.retain(|failure| failure.0 != task),
        }
    }

    /// The same as far as plans go, whatever order things came in.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let sorted = |view: &Self| {
            let (mut failures, mut tasks) = (view.failures.clone(), view.tasks.clone());
            failures.sort_unstable_by_key(|failure| failure.0);
            tasks.sort_unstable();
            (failures, tasks)
        };
        self.node == other.node
            && self.usage.same_as(&other.usage)
            && sorted(self) == sorted(other)
            && self.key == other.key
    }
}
