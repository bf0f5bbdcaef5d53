//! Replacing what ended or lost its node, slot by slot. When a replacement is due is the restart policy's business; this
//! puts it into the slot.

use berth_proto::object::{RestartRecord, SpecVersion, Task};
use berth_proto::spec::UpdateOrder;
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;

use super::slot::{NewTask, SlotTasks, create, desired_now, working};
use super::turn::{Standing, Turn};
use super::work::{TaskRef, Work};
use crate::constraint;
use crate::restart::{self, Verdict};
use crate::update::diff;

/// Mends a slot of a replicated service or job, whose replacement may go to any node.
pub fn replicated(work: &mut Work, slot: &mut SlotTasks, turn: &mut Turn<'_>) {
    let Some(current) = slot.current(work) else { return };
    tidy(work, slot, current, turn);
    let task = work.task(current).clone();
    if task.status.state.is_terminal() {
        after_end(work, slot, current, turn);
    } else if is_misplaced(work, &task, turn) {
        if !runs_until_replaced(work, &task, turn) {
            work.desire(current, DesiredState::Shutdown);
        }
        let desired = desired_now(slot, work, turn);
        let restarts = RestartRecord { start_at: None, ..task.restarts.clone() };
        replace(work, slot, &task, desired, restarts, turn);
    }
}

/// Replaces a task that ended, if its policy says so.
pub fn after_end(work: &mut Work, slot: &mut SlotTasks, current: TaskRef, turn: &mut Turn<'_>) {
    let task = work.task(current).clone();
    let is_job = work.service.spec.mode.is_job();
    match restart::judge(&task, &work.service.spec.task.restart, is_job, turn.now) {
        Verdict::Settled => {}
        Verdict::Exhausted => {
            let message = format!("not restarted any more: {} restarts made, as many as allowed", task.restarts.total);
            if task.status.message != message {
                work.task_mut(current).status.message = message;
            }
        }
        Verdict::Replace(record) => {
            work.desire(current, DesiredState::Shutdown);
            let waits = record.start_at.is_some_and(|at: Timestamp| at > turn.now);
            let desired = if waits { DesiredState::Ready } else { desired_now(slot, work, turn) };
            replace(work, slot, &task, desired, record, turn);
        }
    }
}

/// With a newer task in the slot, the older ones (kept by a start-first update or a drain) go as soon as the newest runs, and
/// also when they have ended or lost their node.
pub fn tidy(work: &mut Work, slot: &SlotTasks, current: TaskRef, turn: &Turn<'_>) {
    let newest_runs = work.task(current).status.state == TaskState::Running;
    let older: Vec<TaskRef> = slot.wanted(work).filter(|at| *at != current).collect();
    for at in older {
        let task = work.task(at).clone();
        let lost = || is_misplaced(work, &task, turn) && !runs_until_replaced(work, &task, turn);
        if newest_runs || task.status.state.is_terminal() || lost() {
            work.desire(at, DesiredState::Shutdown);
        }
    }
}

fn is_misplaced(work: &Work, task: &Task, turn: &Turn<'_>) -> bool {
    match turn.standing(task) {
        Standing::Unplaced => false,
        Standing::Gone | Standing::Down | Standing::Drained => true,
        Standing::Held => {
            let node = task.node.and_then(|node| turn.node(node));
            node.is_some_and(|node| constraint::misfit(&work.service.spec, node).is_some())
        }
    }
}

/// True for a task on a drained node whose service is updated start-first: it goes once its replacement runs. Nothing of it
/// stands in the replacement's way, which cannot come to the same node.
fn runs_until_replaced(work: &Work, task: &Task, turn: &Turn<'_>) -> bool {
    let spec = &work.service.spec;
    spec.update.order == UpdateOrder::StartFirst
        && !spec.mode.is_job()
        && task.status.state == TaskState::Running
        && turn.standing(task) == Standing::Drained
}

fn replace(
    work: &mut Work,
    slot: &mut SlotTasks,
    old: &Task,
    desired: DesiredState,
    restarts: RestartRecord,
    turn: &mut Turn<'_>,
) {
    debug_assert!(desired <= working(work));
    let version = version_of_replacement(work, old);
    let new = NewTask { slot: old.slot, version, desired, restarts, iteration: old.job_iteration, traced: None };
    create(work, slot, new, turn);
}

/// The current spec where that is the same to the container; otherwise the version it had, because bringing the new spec
/// to the slot is for the update to do in its turn.
fn version_of_replacement(work: &Work, old: &Task) -> SpecVersion {
    let service = &work.service;
    match service.spec_at(old.spec_version) {
        Some(spec) if !diff::same_container(spec, &service.spec) => old.spec_version,
        _ => service.spec_version,
    }
}
