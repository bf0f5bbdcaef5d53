//! The pure step of one task's state machine: an event and the time in, a new status and the actions to carry out back.
//!
//! Owns every decision about one task on its node. Never does anything: no clock, no I/O, no tokio; `actor.rs` carries the
//! actions out and comes back with events. Invariants: the observed state only moves forward; a terminal state is final; once
//! the task is not wanted any more, every path ends in [`Phase::Released`], and in [`Phase::Gone`] after it is unassigned.

use std::fmt;
use std::time::Duration;

use berth_proto::object::{ContainerStatus, TaskStatus};
use berth_proto::state::{DesiredState, HealthState, TaskState};
use berth_proto::time::Timestamp;

/// After SIGKILL, wait this long for the end before the container is torn down by force.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// What the managers want of the task; only ever moves towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Desired state.
    pub desired: DesiredState,
    /// False once the managers have withdrawn the assignment: end it and forget it.
    pub assigned: bool,
}

impl Wanted {
    /// An assigned task with that desired state.
    pub fn assigned(desired: DesiredState) -> Self {
        Self { desired, assigned: true }
    }

    /// True while the task is to be (or to get ready to be) at work.
    pub fn wants_work(self) -> bool {
        self.assigned && self.desired.wants_work()
    }

    /// The later of both, field by field.
    #[must_use]
    pub fn forward(self, to: Self) -> Self {
        Self { desired: self.desired.max(to.desired), assigned: self.assigned && to.assigned }
    }
}

/// Where the machine is; finer than the task's state, and local to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been done.
    New,
    /// Image, volumes, network and container are being made.
    Preparing {
        /// The preparation was told to stop.
        cancelled: bool,
    },
    /// The container waits for its start.
    Prepared,
    /// The start is under way.
    Starting,
    /// The process runs.
    Up,
    /// It was told to stop.
    Stopping {
        /// By SIGKILL.
        killed: bool,
    },
    /// It has ended and what it held is being given back.
    Ended,
    /// Only its record and its log are left.
    Released,
    /// Record and log are being removed.
    Purging,
    /// Nothing is left.
    Gone,
}

/// What preparation found out about how to run the task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traits {
    /// It has a health check: it counts as running only after the first good probe.
    pub has_healthcheck: bool,
    /// Between the stop signal and SIGKILL.
    pub grace: Duration,
    /// Digest of the image.
    pub image_digest: String,
}

/// Why a task could not be prepared or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It was told to stop meanwhile.
    Cancelled,
    /// It cannot run here as it is; the text says why.
    Rejected(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("it was told to stop meanwhile"),
            Self::Rejected(why) => f.write_str(why),
        }
    }
}

/// How the container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// 128 + n after signal n; `None` when nobody saw it end.
    pub exit_code: Option<i32>,
    /// The kernel ended it for want of memory.
    pub oom_killed: bool,
    /// When.
    pub at: Timestamp,
    /// More about it, for people; may be empty.
    pub note: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The managers want something else (or the first look).
    Wanted(Wanted),
    /// What preparation is doing now, for people.
    Progress(String),
    /// Preparation ended.
    Prepared(Result<Traits, Refusal>),
    /// The start ended; the process id.
    Started(Result<i32, Refusal>),
    /// The health check's verdict.
    Health {
        /// Verdict.
        state: HealthState,
        /// What led to it, for people.
        why: String,
    },
    /// The load balancing has the task.
    Published,
    /// What is wrong around a task that runs all the same, for people; `None` once it is right.
    Trouble(Option<String>),
    /// The stop signal was sent, after the task left the load balancing.
    StopSent,
    /// The armed timer ran out.
    TimeUp,
    /// The process ended.
    Exited(Ended),
    /// Everything but record and log is given back.
    Released,
    /// Record and log are removed.
    Purged,
}

/// What is to be done; the actor carries actions out in order and never skips one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The status changed: report it.
    Report(TaskStatus),
    /// Prepare; answer [`Event::Prepared`].
    Prepare,
    /// Tell the preparation to stop; it still answers [`Event::Prepared`].
    CancelPrepare,
    /// Start the container; answer [`Event::Started`].
    Start,
    /// Wait for the end of the process; answer [`Event::Exited`].
    Watch,
    /// Begin probing.
    StartHealth,
    /// Stop probing.
    StopHealth,
    /// Enter the load balancing, answer [`Event::Published`]; or leave it.
    Publish(bool),
    /// Leave the load balancing, then send the stop signal; answer [`Event::StopSent`].
    Stop,
    /// Send SIGKILL.
    Kill,
    /// Arm the one timer, replacing what was armed; answer [`Event::TimeUp`].
    Arm(Duration),
    /// Give back the container, its network and its volumes, ending what still runs; answer [`Event::Released`].
    Release,
    /// Remove log and record; answer [`Event::Purged`].
    Purge,
}

/// What the runtime holds of a task that a former life of the agent had taken on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No container.
    Nothing,
    /// A container that waits for its start.
    Created,
    /// A running one with this process id.
    Running(i32),
    /// One that has ended.
    Exited(Ended),
}

/// One task's state machine.
#[derive(Debug, Clone)]
pub struct Machine {
    wanted: Wanted,
    status: TaskStatus,
    phase: Phase,
    traits: Traits,
    unhealthy: Option<String>,
}

impl Machine {
    /// A task that was just assigned. Feed [`Event::Wanted`] to set it going.
    pub fn new(wanted: Wanted, now: Timestamp) -> (Self, Vec<Action>) {
        let status = TaskStatus { state: TaskState::Assigned, at: now, ..TaskStatus::default() };
        let mut machine = Self { wanted, status, phase: Phase::New, traits: Traits::default(), unhealthy: None };
        let mut out = Vec::new();
        machine.enter(TaskState::Accepted, now, "accepted", &mut out);
        (machine, out)
    }

    /// A task from the agent's records, met again after a restart of the agent or of the machine.
    ///
    /// `traits` is `None` when the former life did not get to record them; the caller then derives them anew.
    pub fn adopt(
        wanted: Wanted,
        status: TaskStatus,
        traits: Traits,
        found: Found,
        now: Timestamp,
    ) -> (Self, Vec<Action>) {
        let mut machine = Self { wanted, status, phase: Phase::New, traits, unhealthy: None };
        let mut out = Vec::new();
        if machine.status.state.is_terminal() {
            out.push(Action::Report(machine.status.clone()));
            machine.end(&mut out);
            return (machine, out);
        }
        let was_started = machine.status.state >= TaskState::Starting;
        match found {
            Found::Running(pid) => {
                machine.enter(TaskState::Starting, now, "starting", &mut out);
                machine.came_up(pid, now, &mut out);
            }
            Found::Created => {
                machine.phase = Phase::Prepared;
                machine.enter(TaskState::Ready, now, "prepared", &mut out);
            }
            Found::Exited(ended) if was_started || ended.exit_code.is_some() => {
                machine.enter(TaskState::Starting, now, "starting", &mut out);
                machine.exited(ended, now, &mut out);
            }
            Found::Nothing if was_started => {
                let note = "its container is gone: the machine was restarted, or the container was removed by hand";
                let ended = Ended { exit_code: None, oom_killed: false, at: now, note: note.to_owned() };
                machine.exited(ended, now, &mut out);
            }
            // Not started yet: prepared once more from the beginning.
            Found::Nothing | Found::Exited(_) => {}
        }
        machine.look(now, &mut out);
        // This life has told nobody yet.
        if !out.iter().any(|action| matches!(action, Action::Report(_))) {
            out.insert(0, Action::Report(machine.status.clone()));
        }
        (machine, out)
    }

    /// What was observed so far.
    pub fn status(&self) -> &TaskStatus {
        &self.status
    }

    /// Where the machine is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is wanted.
    pub fn wanted(&self) -> Wanted {
        self.wanted
    }

    /// Takes one event in; what is to be done comes back, in order.
    pub fn step(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Wanted(wanted) => self.wanted = self.wanted.forward(wanted),
            Event::Progress(message) => self.progress(message, &mut out),
            Event::Prepared(result) => self.prepared(result, now, &mut out),
            Event::Started(result) => self.started(result, now, &mut out),
            Event::Health { state, why } => self.probed(state, why, &mut out),
            Event::Published => self.published(now, &mut out),
            Event::Trouble(why) => self.troubled(why, &mut out),
            Event::StopSent => self.stop_sent(&mut out),
            Event::TimeUp => self.time_up(now, &mut out),
            Event::Exited(ended) => self.exited(ended, now, &mut out),
            Event::Released if self.phase == Phase::Ended => self.phase = Phase::Released,
            Event::Purged if self.phase == Phase::Purging => self.phase = Phase::Gone,
            Event::Released | Event::Purged => {}
        }
        self.look(now, &mut out);
        out
    }

    /// What is wanted against where the machine is: the level-triggered half.
    fn look(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let wants_work = self.wanted.wants_work();
        match self.phase {
            Phase::New if wants_work => {
                self.phase = Phase::Preparing { cancelled: false };
                self.enter(TaskState::Preparing, now, "preparing", out);
                out.push(Action::Prepare);
            }
            Phase::New | Phase::Prepared if !wants_work => {
                self.enter(TaskState::Shutdown, now, "stopped before it was started", out);
                self.end(out);
            }
            Phase::Preparing { cancelled: false } if !wants_work => {
                self.phase = Phase::Preparing { cancelled: true };
                out.push(Action::CancelPrepare);
            }
            Phase::Prepared if self.wanted.desired >= DesiredState::Running => {
                self.phase = Phase::Starting;
                self.enter(TaskState::Starting, now, "starting", out);
                out.push(Action::Start);
            }
            Phase::Up if !wants_work => self.stop(out),
            Phase::Released if !self.wanted.assigned => {
                self.phase = Phase::Purging;
                out.push(Action::Purge);
            }
            _ => {}
        }
    }

    fn progress(&mut self, message: String, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Preparing { .. }) && self.status.message != message {
            self.status.message = message;
            out.push(Action::Report(self.status.clone()));
        }
    }

    fn prepared(&mut self, result: Result<Traits, Refusal>, now: Timestamp, out: &mut Vec<Action>) {
        let Phase::Preparing { .. } = self.phase else { return };
        match result {
            Ok(traits) => {
                self.traits = traits;
                self.phase = Phase::Prepared;
                self.enter(TaskState::Ready, now, "prepared", out);
            }
            Err(refusal) => self.refused(refusal, now, out),
        }
    }

    fn started(&mut self, result: Result<i32, Refusal>, now: Timestamp, out: &mut Vec<Action>) {
        if self.phase != Phase::Starting {
            return;
        }
        match result {
            Ok(pid) => self.came_up(pid, now, out),
            Err(refusal) => self.refused(refusal, now, out),
        }
    }

    fn came_up(&mut self, pid: i32, now: Timestamp, out: &mut Vec<Action>) {
        self.phase = Phase::Up;
        self.status.error.clear();
        let started_at = self.status.container.as_ref().and_then(|container| container.started_at).or(Some(now));
        let image_digest = self.traits.image_digest.clone();
        self.status.container = Some(ContainerStatus { pid, started_at, image_digest, ..ContainerStatus::default() });
        out.push(Action::Watch);
        if self.traits.has_healthcheck {
            if self.status.state < TaskState::Running {
                self.status.health = Some(HealthState::Starting);
                out.push(Action::Report(self.status.clone()));
            }
            out.push(Action::StartHealth);
        }
        if self.wanted.wants_work() && (!self.traits.has_healthcheck || self.status.state == TaskState::Running) {
            out.push(Action::Publish(true));
        }
    }

    /// Only now: whoever sees `running` may send requests.
    fn published(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let is_well = !self.traits.has_healthcheck || self.status.health == Some(HealthState::Healthy);
        if self.phase == Phase::Up && is_well {
            self.enter(TaskState::Running, now, "started", out);
        }
    }

    fn probed(&mut self, state: HealthState, why: String, out: &mut Vec<Action>) {
        if self.phase != Phase::Up || self.status.health == Some(state) {
            return;
        }
        self.status.health = Some(state);
        match state {
            HealthState::Healthy if self.status.state < TaskState::Running => out.push(Action::Publish(true)),
            HealthState::Unhealthy => {
                self.unhealthy = Some(why);
                out.push(Action::Report(self.status.clone()));
                self.stop(out);
            }
            HealthState::Healthy | HealthState::Starting => out.push(Action::Report(self.status.clone())),
        }
    }

    fn troubled(&mut self, why: Option<String>, out: &mut Vec<Action>) {
        let error = why.unwrap_or_default();
        if self.phase == Phase::Up && self.status.error != error {
            self.status.error = error;
            out.push(Action::Report(self.status.clone()));
        }
    }

    fn stop(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Stopping { killed: false };
        out.extend([Action::StopHealth, Action::Stop]);
    }

    fn stop_sent(&mut self, out: &mut Vec<Action>) {
        if self.phase == (Phase::Stopping { killed: false }) {
            out.push(Action::Arm(self.traits.grace));
        }
    }

    fn time_up(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        match self.phase {
            Phase::Stopping { killed: false } => {
                self.phase = Phase::Stopping { killed: true };
                out.extend([Action::Kill, Action::Arm(KILL_PATIENCE)]);
            }
            Phase::Stopping { killed: true } => {
                let note = format!("it did not end within {KILL_PATIENCE:?} of SIGKILL and was torn down");
                self.exited(Ended { exit_code: None, oom_killed: false, at: now, note }, now, out);
            }
            _ => {}
        }
    }

    fn exited(&mut self, ended: Ended, now: Timestamp, out: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Ended | Phase::Released | Phase::Purging | Phase::Gone) {
            return;
        }
        let container = self.status.container.get_or_insert_with(ContainerStatus::default);
        container.pid = 0;
        container.exit_code = ended.exit_code;
        container.oom_killed = ended.oom_killed;
        container.finished_at = Some(ended.at);
        self.status.health = None;
        // What was wrong around it is not how it ended.
        self.status.error.clear();
        let was_stopping = matches!(self.phase, Phase::Stopping { .. });
        if !was_stopping {
            out.extend([Action::StopHealth, Action::Publish(false)]);
        }
        if let Some(why) = self.unhealthy.take() {
            self.status.error = format!("unhealthy: {why}");
            self.enter(TaskState::Failed, now, "unhealthy", out);
        } else if was_stopping || (!self.wanted.wants_work() && ended.exit_code.is_some()) {
            self.enter(TaskState::Shutdown, now, "shutdown", out);
        } else if ended.exit_code == Some(0) {
            self.enter(TaskState::Complete, now, "finished", out);
        } else {
            self.status.error = failure_text(&ended);
            self.enter(TaskState::Failed, now, "failed", out);
        }
        self.end(out);
    }

    fn refused(&mut self, refusal: Refusal, now: Timestamp, out: &mut Vec<Action>) {
        match refusal {
            Refusal::Cancelled => self.enter(TaskState::Shutdown, now, "stopped before it was started", out),
            Refusal::Rejected(why) => {
                self.status.error = why;
                self.enter(TaskState::Rejected, now, "rejected", out);
            }
        }
        self.end(out);
    }

    fn end(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        out.push(Action::Release);
    }

    fn enter(&mut self, state: TaskState, now: Timestamp, message: &str, out: &mut Vec<Action>) {
        if self.status.state.is_terminal() || state <= self.status.state {
            return;
        }
        self.status.state = state;
        self.status.at = now;
        self.status.message = message.to_owned();
        out.push(Action::Report(self.status.clone()));
    }
}

fn failure_text(ended: &Ended) -> String {
    let mut text = match ended.exit_code {
        Some(code) => format!("non-zero exit ({code})"),
        None => "exit code unknown".to_owned(),
    };
    if ended.oom_killed {
        text.push_str(": out of memory, the kernel ended it at its memory limit");
    }
    if !ended.note.is_empty() {
        text.push_str(": ");
        text.push_str(&ended.note);
    }
    text
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
