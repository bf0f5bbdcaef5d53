//! Bringing a changed spec to the tasks: rolling update, monitoring, pause, rollback. Everything is derived from stored
//! tasks and [`Service::update`], so that it goes on where it was after a manager is gone.
//!
//! | module | what it holds |
//! |---|---|
//! | [`diff`] | whether two specs are the same to a container |
//! | [`survey`] | where the slots stand: which are old, which are on their way, which failed |
//! | [`swap`] | replacing the tasks of one slot |
//!
//! [`Service::update`]: berth_proto::object::Service::update

pub mod diff;
pub mod survey;
pub mod swap;

use std::collections::BTreeMap;

use berth_proto::object::{Service, Slot, UpdateProgress, UpdateStatus};
use berth_proto::spec::{FailureAction, UpdateConfig};

use crate::orchestrator::slot::SlotTasks;
use crate::orchestrator::{Turn, Work};
use survey::Survey;

/// Takes the update of a service one step further; begins one when a slot runs an old spec.
pub fn decide(work: &mut Work, slots: &mut BTreeMap<Slot, SlotTasks>, turn: &mut Turn<'_>) {
    // Never updated, and all tasks are of the one spec that there is.
    let one_spec = || work.tasks().all(|(_, task)| task.spec_version == work.service.spec_version);
    if work.service.update.is_none() && work.service.spec.depends_on.is_empty() && one_spec() {
        return;
    }
    let old = survey::old_slots(work, slots, turn.state);
    if !begin(work, !old.is_empty(), turn) {
        return;
    }
    let Some(status) = work.service.update.clone() else { return };
    let config = config(&work.service, status.progress);
    let survey = Survey::take(work, slots, &old, &config, status.started_at, turn);
    if let Some(failure) = survey.too_many_failures(&config) {
        let goes_on = fail(work, &config, status.progress, &failure, turn);
        if !goes_on {
            return;
        }
    }
    let at_once = if config.parallelism == 0 { u64::MAX } else { config.parallelism };
    let room = at_once.saturating_sub(survey.busy);
    for slot in old.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
        if let Some(tasks) = slots.get_mut(slot) {
            swap::swap(work, *slot, tasks, config.order, turn);
        }
    }
    if let Some(due) = survey.delay_over {
        turn.wake_at(due);
    }
    if old.is_empty() && survey.undecided == 0 {
        match survey.monitored_until {
            Some(until) if until > turn.now => turn.wake_at(until),
            _ => complete(work, turn),
        }
    }
}

/// Sees to it that the status is of the current spec. Returns false when there is nothing to roll out (any more).
fn begin(work: &mut Work, anything_old: bool, turn: &Turn<'_>) -> bool {
    let target = work.service.spec_version;
    let is_current = |status: &UpdateStatus| status.target == target;
    let rolls =
        |status: &UpdateStatus| matches!(status.progress, UpdateProgress::Updating | UpdateProgress::RollbackStarted);
    match &work.service.update {
        Some(status) if is_current(status) && rolls(status) => return true,
        Some(status) if is_current(status) && is_paused(status.progress) => return false,
        Some(status) if !anything_old => {
            // Another spec came that changes no container: what was under way or paused has no object any more.
            if !is_current(status) && (rolls(status) || is_paused(status.progress)) {
                work.service_mut().update = None;
            }
            return false;
        }
        None if !anything_old => return false,
        _ => {}
    }
    // Only a rollback takes up an older version again.
    let goes_back = work.service.update.as_ref().is_some_and(|status| status.target > target);
    let (progress, message) = if goes_back {
        (UpdateProgress::RollbackStarted, "rolling back")
    } else {
        (UpdateProgress::Updating, "update in progress")
    };
    work.service_mut().update =
        Some(UpdateStatus { progress, started_at: turn.now, completed_at: None, message: message.into(), target });
    true
}

fn is_paused(progress: UpdateProgress) -> bool {
    matches!(progress, UpdateProgress::Paused | UpdateProgress::RollbackPaused)
}

fn config(service: &Service, progress: UpdateProgress) -> UpdateConfig {
    match progress {
        UpdateProgress::RollbackStarted => service.spec.rollback.clone(),
        _ => service.spec.update.clone(),
    }
}

/// Takes the failure action. Returns true when the update goes on all the same.
fn fail(work: &mut Work, config: &UpdateConfig, progress: UpdateProgress, failure: &str, turn: &mut Turn<'_>) -> bool {
    let goes_back = progress == UpdateProgress::RollbackStarted;
    match config.failure_action {
        FailureAction::Continue => return true,
        FailureAction::Rollback if !goes_back && work.service.previous.is_some() => {
            roll_back(work.service_mut(), format!("rolling back: {failure}"), turn);
        }
        FailureAction::Rollback | FailureAction::Pause => {
            let (progress, what) = if goes_back {
                (UpdateProgress::RollbackPaused, "rollback")
            } else {
                (UpdateProgress::Paused, "update")
            };
            let status = work.service_mut().update.as_mut().expect("begun before it failed");
            status.progress = progress;
            status.message = format!("{what} paused: {failure}");
        }
    }
    false
}

/// Makes the previous spec the current one, at its old version, so that tasks which still run it are left alone.
fn roll_back(service: &mut Service, message: String, turn: &mut Turn<'_>) {
    let Some(previous) = service.previous.take() else { return };
    // Nobody has asked for that.
    service.traced = None;
    service.spec = previous.spec;
    service.spec_version = previous.version;
    service.update = Some(UpdateStatus {
        progress: UpdateProgress::RollbackStarted,
        started_at: turn.now,
        completed_at: None,
        message,
        target: previous.version,
    });
    turn.wake_at(turn.now);
}

fn complete(work: &mut Work, turn: &Turn<'_>) {
    let Some(status) = work.service_mut().update.as_mut() else { return };
    let (progress, message) = match status.progress {
        UpdateProgress::RollbackStarted => (UpdateProgress::RollbackCompleted, "rollback completed"),
        _ => (UpdateProgress::Completed, "update completed"),
    };
    status.progress = progress;
    status.message = message.into();
    status.completed_at = Some(turn.now);
}
