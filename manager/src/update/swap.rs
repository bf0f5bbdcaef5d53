//! Replacing the tasks of one slot by a task of the current spec.

use berth_proto::object::{RestartRecord, Slot};
use berth_proto::spec::{PublishMode, UpdateOrder};
use berth_proto::state::{DesiredState, TaskState};

use super::survey::Versions;
use crate::orchestrator::slot::{NewTask, SlotTasks, create, desired_now, working};
use crate::orchestrator::work::TaskRef;
use crate::orchestrator::{Turn, Work};

/// Stops what is old and makes what is new.
///
/// - Where a task of the current spec is still there (a start-first update that is taken back), the others just stop.
/// - `start-first` keeps one running task until the new one runs; tasks with host ports cannot be two on a node, so for
///   them the old one stops first.
/// - `stop-first`: the new task is prepared at once and starts when the old one has ended.
pub fn swap(work: &mut Work, slot: Slot, tasks: &mut SlotTasks, order: UpdateOrder, turn: &mut Turn<'_>) {
    let wanted: Vec<TaskRef> = tasks.wanted(work).collect();
    let mut is_new = Versions::new(work, turn.state);
    let good = wanted.iter().rev().copied().find(|at| {
        let task = work.task(*at);
        is_new.check(task) && !task.status.state.is_terminal()
    });
    if let Some(good) = good {
        stop_all_but(work, &wanted, good);
        return;
    }
    let runs = |at: &TaskRef| work.task(*at).status.state == TaskState::Running;
    let takes_host_port = work.service.spec.endpoint.ports.iter().any(|port| port.mode == PublishMode::Host);
    let keep = match order {
        UpdateOrder::StartFirst if !takes_host_port => wanted.iter().rev().copied().find(runs),
        UpdateOrder::StartFirst | UpdateOrder::StopFirst => None,
    };
    for at in wanted.iter().filter(|at| Some(**at) != keep) {
        work.desire(*at, DesiredState::Shutdown);
    }
    let desired = if keep.is_some() { working(work) } else { desired_now(tasks, work, turn) };
    let version = work.service.spec_version;
    let (restarts, traced) = (RestartRecord::default(), work.service.traced);
    let new = NewTask { slot, version, desired, restarts, iteration: None, traced };
    create(work, tasks, new, turn);
}

fn stop_all_but(work: &mut Work, wanted: &[TaskRef], good: TaskRef) {
    for at in wanted.iter().filter(|at| **at != good) {
        work.desire(*at, DesiredState::Shutdown);
    }
}
