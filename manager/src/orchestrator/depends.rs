//! Holding a service until those that it depends on are up (Compose `depends_on`). Holds only the first tasks of a
//! service: once one of them has run, the gate stays open for restarts and updates.

use std::collections::BTreeSet;

use berth_proto::object::{Service, Slot, Task};
use berth_proto::spec::{DependencyCondition, RestartCondition, ServiceMode, ServiceSpec};
use berth_proto::state::{HealthState, TaskState};
use berth_proto::time::Timestamp;

use super::work::Work;
use crate::restart;
use crate::store::State;

/// What the service waits for, e.g. `waiting for db to be healthy`; `None` when it may start.
pub fn held_by(work: &Work, state: &State) -> Option<String> {
    if work.service.spec.depends_on.is_empty() || work.tasks().any(|(_, task)| has_run(task)) {
        return None;
    }
    let mut reasons = Vec::new();
    for (name, on) in &work.service.spec.depends_on {
        let other = state.service_by_name(name).filter(|other| !other.pending_delete);
        let wait = match other {
            None if on.required => Some("to be created"),
            None => None,
            Some(other) => waits(other, state, on.condition, on.required),
        };
        reasons.extend(wait.map(|wait| format!("{} {wait}", short_name(work, name))));
    }
    if reasons.is_empty() { None } else { Some(format!("waiting for {}", reasons.join(" and "))) }
}

/// Tasks made before that are to be replaced: a service that this one depends on with `restart: true` was updated then.
pub fn restart_after(spec: &ServiceSpec, state: &State) -> Option<Timestamp> {
    let asked = spec.depends_on.iter().filter(|(_, on)| on.restart);
    let others = asked.filter_map(|(name, _)| state.service_by_name(name));
    others.filter_map(|other| other.update.as_ref()?.completed_at).max()
}

/// The name that the Compose file uses, where both are of one stack.
fn short_name<'a>(work: &Work, name: &'a str) -> &'a str {
    let stack = work.service.spec.stack.as_ref();
    let within = stack.and_then(|stack| name.strip_prefix(stack.as_str())?.strip_prefix('_'));
    within.unwrap_or(name)
}

fn waits(other: &Service, state: &State, condition: DependencyCondition, required: bool) -> Option<&'static str> {
    let tasks: Vec<&Task> = state.tasks_of_service(other.id).map(|task| &**task).collect();
    if !required && has_given_up(other, &tasks) {
        return None;
    }
    match condition {
        DependencyCondition::ServiceStarted => {
            let started = tasks.iter().any(|task| has_run(task)) || wanted(other) == Some(0);
            (!started).then_some("to be started")
        }
        DependencyCondition::ServiceHealthy => (!is_healthy(other, &tasks)).then_some("to be healthy"),
        DependencyCondition::ServiceCompletedSuccessfully => {
            if is_completed(other, &tasks) {
                None
            } else if has_given_up(other, &tasks) {
                Some("to complete, but it failed")
            } else {
                Some("to complete")
            }
        }
    }
}

/// True once its container was seen running.
fn has_run(task: &Task) -> bool {
    match task.status.state {
        TaskState::Running | TaskState::Complete => true,
        state if state > TaskState::Running => {
            task.status.container.as_ref().is_some_and(|container| container.started_at.is_some())
        }
        _ => false,
    }
}

fn wanted(service: &Service) -> Option<u64> {
    match service.mode() {
        ServiceMode::Replicated { replicas } => Some(replicas),
        ServiceMode::ReplicatedJob { total_completions, .. } => Some(total_completions),
        ServiceMode::Global | ServiceMode::GlobalJob => None,
    }
}

/// All wanted tasks run, and are healthy where they have a health check. A task that is running has passed its check once.
fn is_healthy(service: &Service, tasks: &[&Task]) -> bool {
    let up =
        |task: &Task| task.status.state == TaskState::Running && task.status.health != Some(HealthState::Unhealthy);
    let working: Vec<_> = tasks.iter().filter(|task| task.desired.wants_work()).collect();
    let slots_up: BTreeSet<Slot> = working.iter().filter(|task| up(task)).map(|task| task.slot).collect();
    let slots: BTreeSet<Slot> = working.iter().map(|task| task.slot).collect();
    slots_up == slots && wanted(service).map_or(!slots.is_empty(), |wanted| slots_up.len() as u64 >= wanted)
}

/// In each slot a task has ended with exit code 0.
fn is_completed(service: &Service, tasks: &[&Task]) -> bool {
    let iteration = service.job.map(|job| job.iteration);
    let of_run = |task: &&&Task| task.job_iteration.is_none() || task.job_iteration == iteration;
    let complete = tasks.iter().filter(of_run).filter(|task| task.status.state == TaskState::Complete);
    let done: BTreeSet<Slot> = complete.map(|task| task.slot).collect();
    let slots: BTreeSet<Slot> =
        tasks.iter().filter(of_run).filter(|task| task.desired.wants_work()).map(|task| task.slot).collect();
    match wanted(service) {
        Some(wanted) => done.len() as u64 >= wanted,
        None => !slots.is_empty() && slots.is_subset(&done),
    }
}

/// A slot ended badly and its policy brings no other attempt.
fn has_given_up(service: &Service, tasks: &[&Task]) -> bool {
    let policy = &service.spec.task.restart;
    let bad = |task: &&&Task| {
        matches!(task.status.state, TaskState::Failed | TaskState::Rejected) && task.desired.wants_work()
    };
    let is_job = service.spec.mode.is_job();
    tasks.iter().filter(bad).any(|task| {
        policy.condition == RestartCondition::None || restart::judge(task, policy, is_job, task.status.at).is_final()
    })
}
