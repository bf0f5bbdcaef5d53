//! Jobs: slots that are done once a task in them has ended with exit code 0. Each change of what a job runs begins a new
//! iteration; tasks of earlier ones are ended and forgotten.

use std::collections::BTreeMap;

use berth_proto::object::{JobStatus, RestartRecord, Slot, Task};
use berth_proto::state::{DesiredState, TaskState};

use super::slot::{NewTask, SlotTasks, create, desired_now, slots};
use super::turn::Turn;
use super::work::{TaskRef, Work};
use super::{global, mend};
use crate::restart;
use crate::update::diff;

/// Runs `max_concurrent` tasks (0: all) until `total` have ended well.
pub fn decide_replicated(work: &mut Work, max_concurrent: u64, total: u64, turn: &mut Turn<'_>) {
    let iteration = begin(work, turn);
    let mut slots = current_slots(work, iteration);
    slots.retain(|slot, tasks| {
        let stays = slot.number().is_some_and(|number| number <= total) || is_done(work, tasks);
        if !stays {
            tasks.desire_all(work, DesiredState::Remove);
        }
        stays
    });
    let (mut done, mut busy, mut given_up) = (0, 0, 0);
    for tasks in slots.values_mut() {
        if is_done(work, tasks) {
            done += 1;
            continue;
        }
        mend::replicated(work, tasks, turn);
        match tasks.current(work) {
            Some(current) if is_settled(work, work.task(current), turn) => given_up += 1,
            Some(_) => busy += 1,
            None => {}
        }
    }
    let at_once = if max_concurrent == 0 { total } else { max_concurrent };
    let left = total.saturating_sub(done + busy + given_up);
    for number in free_slots(work, &slots, total, left.min(at_once.saturating_sub(busy))) {
        let slot = Slot::Replica(number);
        let tasks = slots.entry(slot).or_default();
        let desired = desired_now(tasks, work, turn);
        let version = work.service.spec_version;
        let (restarts, traced) = (RestartRecord::default(), work.service.traced);
        create(work, tasks, NewTask { slot, version, desired, restarts, iteration: Some(iteration), traced }, turn);
    }
}

/// Runs one task to its end on each qualifying node.
pub fn decide_global(work: &mut Work, turn: &mut Turn<'_>) {
    let iteration = begin(work, turn);
    let mut slots = current_slots(work, iteration);
    let mut done: BTreeMap<Slot, SlotTasks> = BTreeMap::new();
    slots.retain(|slot, tasks| {
        let is_done = is_done(work, tasks);
        if is_done {
            done.insert(*slot, tasks.clone());
        }
        !is_done
    });
    global::shed(work, &mut slots, turn);
    for tasks in slots.values_mut() {
        let Some(current) = tasks.current(work) else { continue };
        if work.task(current).status.state.is_terminal() && global::node_takes_tasks(work, current, turn) {
            mend::after_end(work, tasks, current, turn);
        }
    }
    // A done slot has its task, which `fill` leaves alone.
    slots.extend(done);
    global::fill(work, &mut slots, Some(iteration), turn);
}

/// The iteration to run: the first, the next when the running one has another spec, or the running one.
fn begin(work: &mut Work, turn: &Turn<'_>) -> u64 {
    let status = work.service.job.unwrap_or_default();
    let spec_changed = work.tasks().any(|(_, task)| {
        let old = work.service.spec_at(task.spec_version);
        task.job_iteration == Some(status.iteration)
            && old.is_none_or(|old| !diff::same_container(old, &work.service.spec))
    });
    if work.service.job.is_some() && !spec_changed {
        return status.iteration;
    }
    let iteration = if spec_changed { status.iteration + 1 } else { status.iteration };
    work.service_mut().job = Some(JobStatus { iteration, last_execution: turn.now });
    iteration
}

/// The slots, after the tasks of other iterations were asked to go.
fn current_slots(work: &mut Work, iteration: u64) -> BTreeMap<Slot, SlotTasks> {
    let old: Vec<TaskRef> =
        work.tasks().filter(|(_, task)| task.job_iteration != Some(iteration)).map(|(at, _)| at).collect();
    for at in &old {
        work.desire(*at, DesiredState::Remove);
    }
    // The old ones stay in their slots: the next task of a slot waits until they have ended.
    slots(work)
}

fn is_done(work: &Work, tasks: &SlotTasks) -> bool {
    let done = |task: &Task| task.status.state == TaskState::Complete && task.desired != DesiredState::Remove;
    tasks.all.iter().any(|at| done(work.task(*at)))
}

fn is_settled(work: &Work, task: &Task, turn: &Turn<'_>) -> bool {
    task.status.state.is_terminal() && restart::judge(task, &work.service.spec.task.restart, true, turn.now).is_final()
}

fn free_slots(work: &Work, slots: &BTreeMap<Slot, SlotTasks>, total: u64, count: u64) -> Vec<u64> {
    let is_free = |number: &u64| {
        let tasks = slots.get(&Slot::Replica(*number));
        tasks.is_none_or(|tasks| tasks.current(work).is_none() && !is_done(work, tasks))
    };
    (1..=total).filter(is_free).take(usize::try_from(count).unwrap_or(usize::MAX)).collect()
}
