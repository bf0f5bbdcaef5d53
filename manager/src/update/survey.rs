//! Where the slots stand in an update: which run an old spec, which are on their way to the new one, which failed. Reads
//! only tasks and times, so that any manager sees the same.

use std::collections::BTreeMap;

use berth_proto::object::{Slot, SpecVersion, Task};
use berth_proto::spec::UpdateConfig;
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;

use super::diff::same_container;
use crate::orchestrator::slot::SlotTasks;
use crate::orchestrator::{Turn, Work, depends};
use crate::restart::ended_at;
use crate::store::State;

/// Slots whose current task runs an old spec: those that do not run first, then by slot.
pub fn old_slots(work: &Work, slots: &BTreeMap<Slot, SlotTasks>, state: &State) -> Vec<Slot> {
    let mut is_new = Versions::new(work, state);
    let old = slots.iter().filter_map(|(slot, tasks)| {
        let task = work.task(tasks.current(work)?);
        (!is_new.check(task)).then_some((task.status.state == TaskState::Running, *slot))
    });
    let mut old: Vec<(bool, Slot)> = old.collect();
    old.sort_unstable();
    old.into_iter().map(|(_, slot)| slot).collect()
}

/// Which tasks are what the current spec asks for. Each spec version is compared once.
pub struct Versions<'a> {
    work: &'a Work,
    known: BTreeMap<SpecVersion, bool>,
    /// Tasks made before that are old although their spec is not.
    restart_after: Option<Timestamp>,
}

impl<'a> Versions<'a> {
    /// Nothing compared yet.
    pub fn new(work: &'a Work, state: &State) -> Self {
        let known = BTreeMap::from([(work.service.spec_version, true)]);
        Self { work, known, restart_after: depends::restart_after(&work.service.spec, state) }
    }

    /// True when the task runs what the current spec asks for.
    pub fn check(&mut self, task: &Task) -> bool {
        let service = &self.work.service;
        if self.restart_after.is_some_and(|after| task.meta.created_at <= after) {
            return false;
        }
        *self.known.entry(task.spec_version).or_insert_with(|| {
            service.spec_at(task.spec_version).is_some_and(|spec| same_container(spec, &service.spec))
        })
    }
}

/// Where the slots stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Slots that count against the parallelism: on their way, or in the delay after.
    pub busy: u64,
    /// Slots whose new task has neither run nor ended yet.
    pub undecided: u64,
    /// Slots that were or will be changed by this update.
    pub total: u64,
    /// Slots in which a new task failed within the time it is watched.
    pub failed: u64,
    /// One of these failures, for people.
    pub failure: String,
    /// When the first delay under way is over.
    pub delay_over: Option<Timestamp>,
    /// Until when the newest tasks are watched.
    pub monitored_until: Option<Timestamp>,
}

impl Survey {
    /// Looks at all slots. Only tasks made since `started_at` are of this update.
    pub fn take(
        work: &Work,
        slots: &BTreeMap<Slot, SlotTasks>,
        old: &[Slot],
        config: &UpdateConfig,
        started_at: Timestamp,
        turn: &Turn<'_>,
    ) -> Self {
        let mut survey = Self { total: old.len() as u64, ..Self::default() };
        let mut is_new = Versions::new(work, turn.state);
        for tasks in slots.values() {
            let Some(current) = tasks.current(work) else { continue };
            if !is_new.check(work.task(current)) {
                continue;
            }
            let of_update = tasks.all.iter().map(|at| &**work.task(*at));
            let attempts: Vec<&Task> =
                of_update.filter(|task| task.meta.created_at >= started_at && is_new.check(task)).collect();
            // A slot that already ran the new spec and merely goes on crashing is no business of this update.
            if attempts.iter().any(|task| began_in_update(task, started_at)) {
                survey.add(&attempts, config, turn.now);
            }
        }
        survey
    }

    fn add(&mut self, attempts: &[&Task], config: &UpdateConfig, now: Timestamp) {
        self.total += 1;
        let failed = attempts.iter().find(|task| failed_while_watched(task, config));
        // The record of a replacement remembers failures whose tasks were reaped since.
        let remembered = attempts.iter().all(|task| task.restarts.total > 0 && task.restarts.failures_in_row > 0);
        if failed.is_some() || remembered {
            self.failed += 1;
            if let Some(task) = failed.filter(|_| self.failure.is_empty()) {
                self.failure = describe(task);
            }
        }
        let Some(decided) = attempts.iter().filter_map(|task| decided_at(task)).min() else {
            self.undecided += 1;
            self.busy += 1;
            return;
        };
        let free = decided.after(config.delay);
        if free > now {
            self.busy += 1;
            self.delay_over = Some(self.delay_over.map_or(free, |over| over.min(free)));
        }
        let until = decided.after(config.monitor);
        self.monitored_until = self.monitored_until.max(Some(until));
    }

    /// One failure in words, when there are more than the update bears.
    pub fn too_many_failures(&self, config: &UpdateConfig) -> Option<String> {
        if !config.max_failure_ratio.is_exceeded_by(self.failed, self.total) {
            return None;
        }
        let first = if self.failure.is_empty() { "a task failed" } else { &self.failure };
        Some(format!("{first} ({} of {} replicas failed)", self.failed, self.total))
    }
}

/// True when the slot's task was new in this update, or has been replaced only since.
fn began_in_update(task: &Task, started_at: Timestamp) -> bool {
    let restarts = &task.restarts;
    restarts.total == 0
        || (restarts.recent.len() as u64 == restarts.total
            && restarts.recent.first().is_some_and(|at| *at >= started_at))
}

/// When the task ran first or ended.
fn decided_at(task: &Task) -> Option<Timestamp> {
    let started = || task.status.container.as_ref().and_then(|container| container.started_at);
    match task.status.state {
        TaskState::Running => Some(task.status.at),
        state if state.is_terminal() => Some(started().unwrap_or(task.status.at)),
        _ => None,
    }
}

fn failed_while_watched(task: &Task, config: &UpdateConfig) -> bool {
    if !matches!(task.status.state, TaskState::Failed | TaskState::Rejected) {
        return false;
    }
    let started = task.status.container.as_ref().and_then(|container| container.started_at);
    started.is_none_or(|started| ended_at(task) <= started.after(config.monitor))
}

fn describe(task: &Task) -> String {
    let status = &task.status;
    let why = match (&*status.error, status.container.as_ref().and_then(|container| container.exit_code)) {
        ("", Some(code)) => format!("exit code {code}"),
        ("", None) => status.message.clone(),
        (error, _) => error.to_owned(),
    };
    format!("task {} {}: {why}", task.id, status.state)
}
