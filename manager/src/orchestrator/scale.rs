//! Which slots go and which come when the number of replicas changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use berth_proto::id::NodeId;
use berth_proto::object::Slot;
use berth_proto::state::TaskState;

use super::slot::SlotTasks;
use super::work::Work;

/// The `count` occupied slots that are given up: first those without a node, then those that do not run, then those on
/// the nodes with the most tasks of the service; of equals the highest number.
pub fn victims(work: &Work, slots: &BTreeMap<Slot, SlotTasks>, count: u64) -> Vec<Slot> {
    let mut idle: Vec<(bool, Reverse<Slot>)> = Vec::new();
    let mut running: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for (slot, tasks) in slots {
        let Some(current) = tasks.current(work) else { continue };
        let task = work.task(current);
        // A start-first update keeps an old task running beside the current one.
        let runs = tasks.wanted(work).find(|at| work.task(*at).status.state == TaskState::Running);
        match runs.and_then(|at| work.task(at).node) {
            Some(node) => running.entry(node).or_default().push(*slot),
            None => idle.push((task.node.is_some(), Reverse(*slot))),
        }
    }
    idle.sort_unstable();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut victims: Vec<Slot> = idle.into_iter().map(|(_, Reverse(slot))| slot).take(count).collect();

    let weigh = |node: NodeId, slots: &[Slot]| slots.last().map(|top| (slots.len(), *top, node));
    let mut fullest: BinaryHeap<_> = running.iter().filter_map(|(node, slots)| weigh(*node, slots)).collect();
    while victims.len() < count {
        let Some((_, _, node)) = fullest.pop() else { break };
        let slots = running.get_mut(&node).expect("a node in the heap has slots");
        victims.extend(slots.pop());
        fullest.extend(weigh(node, slots));
    }
    victims
}

/// The `count` lowest numbers from 1 whose slots are free.
pub fn free_slots(work: &Work, slots: &BTreeMap<Slot, SlotTasks>, count: u64) -> Vec<u64> {
    let is_free = |number: &u64| slots.get(&Slot::Replica(*number)).is_none_or(|tasks| tasks.current(work).is_none());
    (1..).filter(is_free).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
}
