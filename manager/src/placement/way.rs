//! Tasks that took the place of others and wait until those have ended: a node is never given more than it has. Their room is
//! theirs meanwhile, also from the tasks that replace the evicted ones.
//!
//! A mirror of the store: a task that waits names the node it waits for, so that a new leader goes on where the last one was.

use std::collections::BTreeMap;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::Task;
use berth_proto::state::TaskState;
use berth_scheduler::qualifies;

use super::Demands;
use crate::store::State;

/// Tasks whose node is not free yet.
#[derive(Debug, Clone, Default)]
pub struct MakingWay {
    waiting: BTreeMap<TaskId, Nominee>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nominee {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its node.
    pub node: NodeId,
    /// Whom it waits for.
    pub evicts: Vec<TaskId>,
}

impl Nominee {
    /// The task as one that waits, if the store says that it does: for whoever is being stopped on its node.
    pub fn of(state: &State, task: &Task) -> Option<Self> {
        let node = task.nominated.filter(|_| waits(task))?;
        let priority = |task: &Task| state.spec_of(task).map_or(0, |spec| spec.priority);
        let own = priority(task);
        let leaves =
            |other: &&Task| !other.desired.wants_work() && !other.status.state.is_terminal() && priority(other) < own;
        let evicts = state.tasks_on_node(node).map(|other| &**other).filter(leaves).map(|other| other.id).collect();
        Some(Self { task: task.id, service: task.service, node, evicts })
    }
}

/// Neither placed nor given up.
fn waits(task: &Task) -> bool {
    task.status.state < TaskState::Assigned && task.desired.wants_work()
}

impl MakingWay {
    /// The task waits for those that it evicts.
    pub fn wait(&mut self, nominee: Nominee) {
        self.waiting.insert(nominee.task, nominee);
    }

    /// True for a task that waits here.
    pub fn holds(&self, task: TaskId) -> bool {
        self.waiting.contains_key(&task)
    }

    /// How many wait here.
    pub fn count(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The service has tasks that wait here.
    pub fn concerns(&self, service: ServiceId) -> bool {
        self.waiting.values().any(|nominee| nominee.service == service)
    }

    /// A task waits for this node.
    pub fn waits_for(&self, node: NodeId) -> bool {
        self.waiting.values().any(|nominee| nominee.node == node)
    }

    /// Forgets the task.
    pub fn forget(&mut self, task: TaskId) {
        self.waiting.remove(&task);
    }

    /// Takes out those of the services for which the way is free, and names the tasks that need no room any more, or not
    /// there: they are gone, or their node does not take them.
    pub fn settle(
        &mut self,
        state: &State,
        is_due: impl Fn(ServiceId) -> bool,
        demands: &mut Demands,
    ) -> (Vec<Nominee>, Vec<TaskId>) {
        let (mut free, mut released) = (Vec::new(), Vec::new());
        self.waiting.retain(|task, nominee| {
            let takes = state.task(*task).filter(|task| waits(task)).is_some_and(|task| {
                let demand = demands.of(state, task);
                state.node(nominee.node).is_some_and(|node| qualifies(&demand, node).is_ok())
            });
            if !takes {
                released.push(*task);
                return false;
            }
            let is_over = |victim: &TaskId| state.task(*victim).is_none_or(|task| task.status.state.is_terminal());
            let arrives = is_due(nominee.service) && nominee.evicts.iter().all(is_over);
            if arrives {
                free.push(nominee.clone());
            }
            !arrives
        });
        (free, released)
    }
}
