//! Letting prepared tasks start: once their restart delay is over and what ran in their slot before has ended.

use std::collections::BTreeMap;

use berth_proto::object::Slot;
use berth_proto::state::DesiredState;

use super::slot::working;
use super::turn::Turn;
use super::work::{TaskRef, Work};

/// Raises tasks that are desired ready to what they are meant to do, or asks to be woken when that is due.
pub fn decide(work: &mut Work, turn: &mut Turn<'_>) {
    let waiting: Vec<TaskRef> =
        work.tasks().filter(|(_, task)| task.desired == DesiredState::Ready).map(|(at, _)| at).collect();
    if waiting.is_empty() {
        return;
    }
    let mut clearing: BTreeMap<Slot, bool> = waiting.iter().map(|at| (work.task(*at).slot, false)).collect();
    for (_, task) in work.tasks() {
        if !task.desired.wants_work()
            && let Some(slot) = clearing.get_mut(&task.slot)
        {
            *slot |= !turn.is_over(task);
        }
    }
    for at in waiting {
        let task = work.task(at);
        if let Some(due) = task.restarts.start_at.filter(|due| *due > turn.now) {
            turn.wake_at(due);
        } else if !clearing[&task.slot] {
            let desired = working(work);
            work.desire(at, desired);
        }
    }
}
