//! Global services: one slot for each node that qualifies. A node that is down keeps its task: nobody else could run it,
//! and when the node comes back it may still be running.

use std::collections::BTreeMap;

use berth_proto::object::{RestartRecord, Slot};
use berth_proto::state::DesiredState;

use super::mend;
use super::slot::{NewTask, SlotTasks, create, desired_now, slots};
use super::turn::{Standing, Turn};
use super::work::{Loop, Work};
use crate::{constraint, placement, update};

/// Gives each qualifying node its task, takes it from the others, mends the rest and rolls out a changed spec.
pub fn decide(work: &mut Work, turn: &mut Turn<'_>) {
    let mut slots = slots(work);
    shed(work, &mut slots, turn);
    for tasks in slots.values_mut() {
        let Some(current) = tasks.current(work) else { continue };
        mend::tidy(work, tasks, current, turn);
        if work.task(current).status.state.is_terminal() && node_takes_tasks(work, current, turn) {
            mend::after_end(work, tasks, current, turn);
        }
    }
    fill(work, &mut slots, None, turn);
    work.act_as(Loop::Updater);
    update::decide(work, &mut slots, turn);
}

/// Stops tasks on nodes that do not keep them, and drops slots that are not of a node that exists.
pub(super) fn shed(work: &mut Work, slots: &mut BTreeMap<Slot, SlotTasks>, turn: &Turn<'_>) {
    let mut dropped = Vec::new();
    for (slot, tasks) in slots.iter() {
        let node = match slot {
            Slot::Node(node) => turn.node(*node),
            Slot::Replica(_) => None,
        };
        let Some(node) = node else {
            tasks.desire_all(work, DesiredState::Remove);
            dropped.push(*slot);
            continue;
        };
        let Some(current) = tasks.current(work) else { continue };
        let leaves = match turn.standing(work.task(current)) {
            Standing::Drained => true,
            _ => constraint::misfit(&work.service.spec, node).is_some(),
        };
        if leaves {
            tasks.desire_all(work, DesiredState::Shutdown);
        }
    }
    for slot in dropped {
        slots.remove(&slot);
    }
}

/// Makes the tasks of qualifying nodes that have none.
pub(super) fn fill(
    work: &mut Work,
    slots: &mut BTreeMap<Slot, SlotTasks>,
    iteration: Option<u64>,
    turn: &mut Turn<'_>,
) {
    let demand = placement::demand(turn.state, &work.service.spec);
    let nodes: Vec<_> = turn
        .state
        .nodes()
        .filter(|node| berth_scheduler::qualifies(&demand, node).is_ok())
        .map(|node| node.id)
        .collect();
    for node in nodes {
        let slot = Slot::Node(node);
        let tasks = slots.entry(slot).or_default();
        if tasks.current(work).is_some() {
            continue;
        }
        let desired = desired_now(tasks, work, turn);
        let version = work.service.spec_version;
        let (restarts, traced) = (RestartRecord::default(), work.service.traced);
        let new = NewTask { slot, version, desired, restarts, iteration, traced };
        create(work, tasks, new, turn);
    }
}

/// True where a replacement could run at once: a task that ended on a node that is down or paused stays as it is.
pub(super) fn node_takes_tasks(work: &Work, at: super::work::TaskRef, turn: &Turn<'_>) -> bool {
    let demand = placement::demand(turn.state, &work.service.spec);
    let node = work.task(at).node.and_then(|node| turn.node(node));
    node.is_some_and(|node| berth_scheduler::qualifies(&demand, node).is_ok())
}
