//! What the replicas of a service use, as shares of its targets: slot by slot, from the tasks of the store and the figures
//! of their nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::id::TaskId;
use berth_proto::object::{Service, Slot, Task, UpdateProgress};
use berth_proto::spec::ServiceSpec;
use berth_proto::state::{HealthState, TaskState};
use berth_proto::time::Timestamp;

use super::decide::{Hold, Situation};
use super::formula::{Measure, Reading};
use crate::store::State;

/// What a container uses right after its start says nothing of its load.
const WARM_UP: Duration = Duration::from_secs(15);

/// What a task uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Billionths of a cpu.
    pub nano_cpus: f64,
    /// Bytes.
    pub memory: u64,
    /// Requests per second; `None` where that is not known.
    pub requests: Option<f64>,
}

/// The situation of a service; `None` for one that is not scaled by its load.
pub fn survey<'s>(
    state: &'s State,
    service: &'s Service,
    usage: impl Fn(TaskId) -> Option<Usage>,
    now: Timestamp,
) -> Option<Situation<'s>> {
    let spec = service.spec.autoscale.as_ref()?;
    let current = service.replicas()?;
    let mut slots: BTreeMap<Slot, Option<(&ServiceSpec, Usage)>> = BTreeMap::new();
    for task in state.tasks_of_service(service.id).filter(|task| task.desired.wants_work()) {
        let ready = Some(task).filter(|task| is_ready(task, now));
        let known = ready.and_then(|task| Some((&**state.spec_of(task)?, usage(task.id)?)));
        let slot = slots.entry(task.slot).or_default();
        *slot = slot.take().or(known);
    }
    let readings = match usize::try_from(current) {
        // More slots than replicas: they are about to go.
        Ok(count) if slots.len() <= count => readings(service, slots.into_values().collect(), count),
        _ => Vec::new(),
    };
    let since = service.autoscaled.as_ref().map(|decided| decided.since);
    Some(Situation { spec, bounds: spec.bounds(now), current, since, readings, hold: hold(service) })
}

type Known<'s> = Vec<Option<(&'s ServiceSpec, Usage)>>;

fn readings(service: &Service, mut known: Known<'_>, replicas: usize) -> Vec<Reading> {
    let Some(spec) = &service.spec.autoscale else { return Vec::new() };
    known.resize(replicas, None);
    let reading = |measure, target: u64, share: &dyn Fn(&ServiceSpec, Usage) -> Option<f64>| {
        let shares = known.iter().map(|known| known.and_then(|(spec, usage)| share(spec, usage)));
        Reading { measure, target, shares: shares.collect() }
    };
    let mut readings = Vec::new();
    if let Some(percent) = spec.cpu {
        readings
            .push(reading(Measure::Cpu, percent.into(), &|spec, usage| share(usage.nano_cpus, cpus(spec), percent)));
    }
    if let Some(percent) = spec.memory {
        readings.push(reading(Measure::Memory, percent.into(), &|spec, usage| {
            share(usage.memory as f64, memory(spec), percent)
        }));
    }
    if let Some(requests) = &spec.requests {
        let target = requests.target;
        readings.push(reading(Measure::Requests, target, &|_, usage| Some(usage.requests? / target.max(1) as f64)));
    }
    readings
}

/// A use against a percentage of what there is for it; `None` where nothing is reserved and nothing limited.
fn share(used: f64, whole: u64, percent: u32) -> Option<f64> {
    let mark = whole as f64 * f64::from(percent) / 100.0;
    (mark > 0.0).then(|| used / mark)
}

/// Of the task's own spec: one from before an update may have other reservations.
fn cpus(spec: &ServiceSpec) -> u64 {
    match spec.task.resources.reservations.nano_cpus {
        0 => spec.task.resources.limits.nano_cpus.unwrap_or(0),
        reserved => reserved,
    }
}

fn memory(spec: &ServiceSpec) -> u64 {
    match spec.task.resources.reservations.memory {
        0 => spec.task.resources.limits.memory.unwrap_or(0),
        reserved => reserved,
    }
}

/// It takes requests, and has for a while.
fn is_ready(task: &Task, now: Timestamp) -> bool {
    let started = task.status.container.as_ref().and_then(|container| container.started_at);
    task.status.state == TaskState::Running
        && !matches!(task.status.health, Some(HealthState::Starting | HealthState::Unhealthy))
        && now.since(started.unwrap_or(task.status.at)) >= WARM_UP
}

fn hold(service: &Service) -> Option<Hold> {
    match service.update.as_ref()?.progress {
        UpdateProgress::Updating | UpdateProgress::RollbackStarted => Some(Hold::NotFewer),
        UpdateProgress::Paused | UpdateProgress::RollbackPaused => Some(Hold::Nothing),
        UpdateProgress::Completed | UpdateProgress::RollbackCompleted => None,
    }
}
