//! Tasks that took the place of others and wait until those have ended: a node is never given more than it has. Their room is
//! theirs meanwhile, also from the tasks that replace the evicted ones. Forgotten with the leader; the next one decides anew.

use std::collections::BTreeMap;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::state::TaskState;
use berth_scheduler::{Placement, qualifies};

use super::Demands;
use crate::store::State;

/// Decided placements whose node is not free yet.
#[derive(Debug, Clone, Default)]
pub struct MakingWay {
    waiting: BTreeMap<TaskId, Placement>,
}

impl MakingWay {
    /// The task waits for those that it evicts.
    pub fn wait(&mut self, placement: &Placement) {
        self.waiting.insert(placement.task, placement.clone());
    }

    /// True for a task that waits here.
    pub fn holds(&self, task: TaskId) -> bool {
        self.waiting.contains_key(&task)
    }

    /// The service has tasks that wait here.
    pub fn concerns(&self, service: ServiceId) -> bool {
        self.waiting.values().any(|placement| placement.service == service)
    }

    /// Forgets the task.
    pub fn forget(&mut self, task: TaskId) {
        self.waiting.remove(&task);
    }

    /// Takes out the placements of those of the services for which the way is free, and names the tasks that need no room any
    /// more, or not there: they are gone, or their node does not take them.
    pub fn settle(
        &mut self,
        state: &State,
        is_due: impl Fn(ServiceId) -> bool,
        demands: &mut Demands,
    ) -> (Vec<Placement>, Vec<TaskId>) {
        let (mut free, mut released) = (Vec::new(), Vec::new());
        self.waiting.retain(|task, placement| {
            let stored =
                state.task(*task).filter(|task| task.status.state < TaskState::Assigned && task.desired.wants_work());
            let takes = stored.is_some_and(|task| {
                let demand = demands.of(state, task);
                state.node(placement.node).is_some_and(|node| qualifies(&demand, node).is_ok())
            });
            if !takes {
                released.push(*task);
                return false;
            }
            let is_over = |victim: &TaskId| state.task(*victim).is_none_or(|task| task.status.state.is_terminal());
            let arrives = is_due(placement.service) && placement.evicts.iter().all(is_over);
            if arrives {
                free.push(Placement { evicts: Vec::new(), ..placement.clone() });
            }
            !arrives
        });
        (free, released)
    }
}
