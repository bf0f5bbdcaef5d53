//! Whether and when a task that ended is replaced. Pure arithmetic on the task, its policy and the times in its record,
//! which is handed on to the replacement: so history outlives managers, and the answer for a task never changes.

use std::time::Duration;

use berth_proto::object::{RestartRecord, Task};
use berth_proto::spec::{RestartCondition, RestartPolicy};
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;

/// Longest wait between two attempts, unless the policy's own delay is longer.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// What is doubled where the policy's delay is shorter: the second failure in a row waits that long at least.
pub const MIN_BACKOFF: Duration = Duration::from_millis(500);
/// A container that ran for that long was up: its end is not one in a row with earlier ones.
pub const LONG_RUN: Duration = Duration::from_secs(10);
/// Times kept in a record.
pub const MAX_RECENT: usize = 100;

/// What follows the end of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it ended in a way that the policy does not replace. The slot stays as it is.
    Settled,
    /// Nothing: as many replacements as the policy allows were made. The slot stays failed.
    Exhausted,
    /// A replacement that carries this record; it starts at `start_at`.
    Replace(RestartRecord),
}

/// Judges the end of a task.
///
/// - `on-failure` replaces all ends but exit code 0; tasks of jobs that ended well are never replaced.
/// - `max_attempts` (0 and `None`: no end) counts replacements, of the last `window` before the end where that is set.
/// - The first end after a long run waits for `delay`. Each further end in a row doubles the wait, from `delay` or
///   [`MIN_BACKOFF`], whichever is longer, up to [`MAX_BACKOFF`]. A task that was rejected counts like one that failed.
pub fn judge(task: &Task, policy: &RestartPolicy, is_job: bool, now: Timestamp) -> Verdict {
    let ended_well = task.status.state == TaskState::Complete;
    let replaces = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => !ended_well,
        RestartCondition::Any => !(ended_well && is_job),
    };
    let ended = ended_at(task).min(now);
    if !replaces {
        return Verdict::Settled;
    }
    if is_exhausted(&task.restarts, policy, ended) {
        return Verdict::Exhausted;
    }
    let old = &task.restarts;
    let in_row = if ran_for(task, ended) >= LONG_RUN { 1 } else { old.failures_in_row.saturating_add(1) };
    let mut recent: Vec<Timestamp> = old.recent.iter().copied().filter(|at| in_window(*at, policy, ended)).collect();
    recent.push(ended);
    if recent.len() > MAX_RECENT {
        recent.drain(..recent.len() - MAX_RECENT);
    }
    let wait = backoff(policy.delay, in_row);
    let start_at = (!wait.is_zero()).then(|| ended.after(wait));
    Verdict::Replace(RestartRecord { total: old.total + 1, recent, failures_in_row: in_row, start_at })
}

/// The wait before the replacement after the `in_row`-th end in a row.
pub fn backoff(delay: Duration, in_row: u32) -> Duration {
    if in_row <= 1 {
        return delay;
    }
    let doubled = delay.max(MIN_BACKOFF).saturating_mul(1u32 << (in_row - 1).min(16));
    doubled.min(MAX_BACKOFF.max(delay))
}

impl Verdict {
    /// True when no other attempt follows.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Replace(_))
    }
}

fn is_exhausted(record: &RestartRecord, policy: &RestartPolicy, ended: Timestamp) -> bool {
    let Some(max) = policy.max_attempts.filter(|max| *max > 0) else { return false };
    let made = if policy.window.is_zero() {
        record.total
    } else {
        record.recent.iter().filter(|at| in_window(**at, policy, ended)).count() as u64
    };
    made >= max
}

fn in_window(at: Timestamp, policy: &RestartPolicy, ended: Timestamp) -> bool {
    policy.window.is_zero() || at.after(policy.window) > ended
}

/// When the task ended, as its agent saw it.
pub fn ended_at(task: &Task) -> Timestamp {
    task.status.container.as_ref().and_then(|container| container.finished_at).unwrap_or(task.status.at)
}

fn ran_for(task: &Task, ended: Timestamp) -> Duration {
    let started = task.status.container.as_ref().and_then(|container| container.started_at);
    started.map_or(Duration::ZERO, |started| ended.since(started))
}

#[cfg(test)]
mod tests;
