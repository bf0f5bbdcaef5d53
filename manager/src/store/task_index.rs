//! Secondary indices over tasks: by service and slot, by node, by desired state, by observed state, by network.
//!
//! Each is one ordered set of composite keys, so that a clone is O(1) and a lookup is one range.

use std::ops::{Bound, RangeInclusive};

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::object::{Slot, Task};
use berth_proto::state::{DesiredState, TaskState};
use imbl::OrdSet;

const FIRST_TASK: TaskId = TaskId::from_random(u128::MIN);
const LAST_TASK: TaskId = TaskId::from_random(u128::MAX);
const FIRST_SERVICE: ServiceId = ServiceId::from_random(u128::MIN);
const LAST_SERVICE: ServiceId = ServiceId::from_random(u128::MAX);
const FIRST_SLOT: Slot = Slot::Replica(0);
const LAST_SLOT: Slot = Slot::Node(NodeId::from_random(u128::MAX));

/// The indices over tasks.
#[derive(Clone, Default)]
pub struct TaskIndex {
    by_slot: OrdSet<(ServiceId, Slot, TaskId)>,
    by_node: OrdSet<(NodeId, TaskId)>,
    by_desired: OrdSet<(DesiredState, TaskId)>,
    by_state: OrdSet<(TaskState, TaskId)>,
    /// How many are in each state.
    in_state: [u64; TaskState::ALL.len()],
    /// Those that have not ended.
    by_network: OrdSet<(NetworkId, ServiceId, TaskId)>,
}

impl TaskIndex {
    /// Tasks of a service, by slot.
    pub fn of_service(&self, service: ServiceId) -> impl Iterator<Item = TaskId> {
        let range = (service, FIRST_SLOT, FIRST_TASK)..=(service, LAST_SLOT, LAST_TASK);
        self.by_slot.range(range).map(|&(_, _, task)| task)
    }

    /// Tasks of one slot of a service.
    pub fn in_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = TaskId> {
        let range = (service, slot, FIRST_TASK)..=(service, slot, LAST_TASK);
        self.by_slot.range(range).map(|&(_, _, task)| task)
    }

    /// Tasks placed on a node.
    pub fn on_node(&self, node: NodeId) -> impl Iterator<Item = TaskId> {
        self.by_node.range(all_of(node)).map(|&(_, task)| task)
    }

    /// Tasks with that desired state.
    pub fn desired(&self, desired: DesiredState) -> impl Iterator<Item = TaskId> {
        self.by_desired.range(all_of(desired)).map(|&(_, task)| task)
    }

    /// Tasks with that observed state.
    pub fn in_state(&self, state: TaskState) -> impl Iterator<Item = TaskId> {
        self.by_state.range(all_of(state)).map(|&(_, task)| task)
    }

    /// How many tasks are in that observed state.
    pub fn count_in_state(&self, state: TaskState) -> u64 {
        self.in_state[state as usize]
    }

    /// Services that have tasks on a network which have not ended, each once.
    pub fn services_on(&self, network: NetworkId) -> impl Iterator<Item = ServiceId> {
        let last = (network, LAST_SERVICE, LAST_TASK);
        let mut from = Bound::Included((network, FIRST_SERVICE, FIRST_TASK));
        std::iter::from_fn(move || {
            let &(_, service, _) = self.by_network.range((from, Bound::Included(last))).next()?;
            // All its other tasks are passed over.
            from = Bound::Excluded((network, service, LAST_TASK));
            Some(service)
        })
    }

    /// Brings the indices from `old` to `new`.
    pub(super) fn replace(&mut self, old: Option<&Task>, new: Option<&Task>) {
        step(&mut self.by_slot, old.map(slot_key), new.map(slot_key));
        step(&mut self.by_node, old.and_then(node_key), new.and_then(node_key));
        step(&mut self.by_desired, old.map(|t| (t.desired, t.id)), new.map(|t| (t.desired, t.id)));
        step(&mut self.by_state, old.map(|t| (t.status.state, t.id)), new.map(|t| (t.status.state, t.id)));
        old.into_iter().for_each(|task| self.in_state[task.status.state as usize] -= 1);
        new.into_iter().for_each(|task| self.in_state[task.status.state as usize] += 1);
        self.replace_networks(old, new);
    }

    fn replace_networks(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let on = |task: &Task| !task.status.state.is_terminal();
        if let (Some(old), Some(new)) = (old, new)
            && old.attachments == new.attachments
            && on(old) == on(new)
        {
            return;
        }
        for key in old.into_iter().filter(|task| on(task)).flat_map(network_keys) {
            self.by_network.remove(&key);
        }
        for key in new.into_iter().filter(|task| on(task)).flat_map(network_keys) {
            self.by_network.insert(key);
        }
    }
}

fn slot_key(task: &Task) -> (ServiceId, Slot, TaskId) {
    (task.service, task.slot, task.id)
}

fn node_key(task: &Task) -> Option<(NodeId, TaskId)> {
    task.node.map(|node| (node, task.id))
}

fn network_keys(task: &Task) -> impl Iterator<Item = (NetworkId, ServiceId, TaskId)> {
    task.attachments.iter().map(|at| (at.network, task.service, task.id))
}

fn all_of<K: Copy>(key: K) -> RangeInclusive<(K, TaskId)> {
    (key, FIRST_TASK)..=(key, LAST_TASK)
}

fn step<K: Ord + Clone>(set: &mut OrdSet<K>, old: Option<K>, new: Option<K>) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        set.remove(&old);
    }
    if let Some(new) = new {
        set.insert(new);
    }
}
