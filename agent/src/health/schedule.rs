//! When a health probe is due and what its outcome means, by Docker's rules.
//!
//! Owns the counting. Never reads a clock: times are spans since the container's start.
//!
//! A probe that fails counts, except in the start period before the first good one; `retries` counted failures in a row
//! make the task unhealthy; one good probe makes it healthy. Beyond Docker: until the first regular probe is due, *early*
//! probes run after 0.1, 0.2, 0.4 … s. A good one makes the task healthy at once, a bad one counts for nothing, so a task
//! that is up in a second is not held back by an interval of thirty.

use std::collections::VecDeque;
use std::time::Duration;

use berth_proto::spec::{HealthTest, Healthcheck};
use berth_proto::state::HealthState;
use berth_proto::time::Timestamp;

/// Probes kept for whoever looks.
pub const KEPT: usize = 5;
/// Bytes kept of a probe's output.
pub const MAX_OUTPUT: usize = 4096;
const FIRST_EARLY: Duration = Duration::from_millis(100);

/// What a health check runs, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Between the end of a probe and the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
    /// Counted failures in a row that make the task unhealthy.
    pub retries: u32,
    /// Failures in this time after the start do not count.
    pub start_period: Duration,
    /// Between probes in the start period.
    pub start_interval: Duration,
}

/// The health check in force: the service's, with what it leaves open taken from the image's; `None` is no health check.
pub fn effective(service: Option<&Healthcheck>, image: Option<&Healthcheck>) -> Option<Settings> {
    let chosen = service.or(image)?;
    let test = chosen.test.as_ref().or_else(|| image.and_then(|image| image.test.as_ref()))?;
    let command = match test {
        HealthTest::None => return None,
        HealthTest::Exec(command) if command.is_empty() => return None,
        HealthTest::Exec(command) => command.clone(),
        HealthTest::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
    };
    let defaults = Healthcheck::default();
    let or = |value: Duration, default: Duration| if value.is_zero() { default } else { value };
    Some(Settings {
        command,
        interval: or(chosen.interval, defaults.interval),
        timeout: or(chosen.timeout, defaults.timeout),
        retries: if chosen.retries == 0 { defaults.retries } else { chosen.retries },
        start_period: chosen.start_period,
        start_interval: or(chosen.start_interval, defaults.start_interval),
    })
}

/// How one probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this exit code.
    Exit(i32),
    /// It took longer than the timeout and was killed.
    Timeout,
    /// It could not be run.
    Error,
}

/// One probe, for inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// First bytes of its output, at most `MAX_OUTPUT`.
    pub output: String,
}

/// The next probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Since the container's start.
    pub at: Duration,
    /// An early probe: only a good outcome matters.
    pub early: bool,
}

/// The probes of one task.
#[derive(Debug, Clone)]
pub struct Schedule {
    settings: Settings,
    state: HealthState,
    streak: u32,
    regular_at: Duration,
    early_at: Duration,
    kept: VecDeque<Probe>,
}

impl Schedule {
    /// A container that starts now.
    pub fn new(settings: Settings) -> Self {
        Self::resume(settings, HealthState::Starting, Duration::ZERO)
    }

    /// A container that has run for `age` and was in `state` when it was last looked at.
    pub fn resume(settings: Settings, state: HealthState, age: Duration) -> Self {
        let mut schedule = Self {
            settings,
            state,
            streak: 0,
            regular_at: age,
            early_at: age.max(FIRST_EARLY),
            kept: VecDeque::with_capacity(KEPT),
        };
        schedule.regular_at = age + schedule.pause(age);
        schedule
    }

    /// What it runs.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The verdict so far.
    pub fn state(&self) -> HealthState {
        self.state
    }

    /// Failures in a row that count.
    pub fn failing_streak(&self) -> u32 {
        self.streak
    }

    /// The last probes, oldest first.
    pub fn kept(&self) -> impl Iterator<Item = &Probe> {
        self.kept.iter()
    }

    /// The next probe.
    pub fn next(&self) -> Due {
        if self.state == HealthState::Starting && self.early_at < self.regular_at {
            return Due { at: self.early_at, early: true };
        }
        Due { at: self.regular_at, early: false }
    }

    /// Why the task is unhealthy, for people.
    pub fn explain(&self) -> String {
        let times = match self.streak {
            0 | 1 => "its health check failed".to_owned(),
            streak => format!("its health check failed {streak} times in a row"),
        };
        let Some(last) = self.kept.back() else { return times };
        let how = match last.outcome {
            Outcome::Exit(code) => format!("the last probe exited with code {code}"),
            Outcome::Timeout => format!("the last probe took longer than {:?}", self.settings.timeout),
            Outcome::Error => "the last probe could not be run".to_owned(),
        };
        match last.output.trim() {
            "" => format!("{times}; {how} and said nothing"),
            output => format!("{times}; {how}: {output}"),
        }
    }

    /// Takes the outcome of the probe that was [`Self::next`] in; `began` and `ended` are spans since the container's start.
    /// Gives the verdict when it changed.
    pub fn record(&mut self, probe: Probe, began: Duration, ended: Duration) -> Option<HealthState> {
        let due = self.next();
        let good = probe.outcome == Outcome::Exit(0);
        let before = self.state;
        if !due.early || good {
            self.keep(probe);
        }
        if good {
            self.streak = 0;
            self.state = HealthState::Healthy;
        } else if !due.early && !self.is_forgiven(began) {
            self.streak += 1;
            if self.streak >= self.settings.retries {
                self.state = HealthState::Unhealthy;
            }
        }
        if due.early && !good {
            self.early_at = ended + ended.max(FIRST_EARLY);
        } else {
            self.regular_at = ended + self.pause(ended);
            self.early_at = self.regular_at;
        }
        (self.state != before).then_some(self.state)
    }

    fn keep(&mut self, mut probe: Probe) {
        if probe.output.len() > MAX_OUTPUT {
            let cut = (0..=MAX_OUTPUT).rev().find(|at| probe.output.is_char_boundary(*at)).unwrap_or(0);
            probe.output.truncate(cut);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(probe);
    }

    fn is_forgiven(&self, began: Duration) -> bool {
        self.state == HealthState::Starting && began < self.settings.start_period
    }

    fn pause(&self, age: Duration) -> Duration {
        match self.state == HealthState::Starting && age < self.settings.start_period {
            true => self.settings.start_interval,
            false => self.settings.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn settings(start_period: u64) -> Settings {
        Settings {
            command: vec!["true".into()],
            interval: secs(10),
            timeout: secs(3),
            retries: 3,
            start_period: secs(start_period),
            start_interval: secs(2),
        }
    }

    /// Runs regular probes with those outcomes, skipping early ones (which fail); gives the verdicts and when each probe ran.
    fn play(schedule: &mut Schedule, outcomes: &[Outcome]) -> (Vec<HealthState>, Vec<u64>) {
        let (mut verdicts, mut times) = (Vec::new(), Vec::new());
        let mut outcomes = outcomes.iter();
        let mut due = schedule.next();
        loop {
            let outcome = match due.early {
                true => Outcome::Exit(1),
                false => match outcomes.next() {
                    Some(outcome) => outcome.clone(),
                    None => return (verdicts, times),
                },
            };
            if !due.early {
                times.push(due.at.as_secs());
            }
            let probe = Probe { started_at: Timestamp(0), ended_at: Timestamp(0), outcome, output: "x".repeat(9000) };
            verdicts.extend(schedule.record(probe, due.at, due.at));
            due = schedule.next();
        }
    }

    #[test]
    fn three_failures_in_a_row_make_it_unhealthy_and_one_good_probe_heals() {
        let mut schedule = Schedule::new(settings(0));
        let bad = [Outcome::Exit(1), Outcome::Error, Outcome::Timeout];
        let (verdicts, times) = play(&mut schedule, &bad);
        assert_eq!((verdicts, times), (vec![HealthState::Unhealthy], vec![10, 20, 30]));
        let why = schedule.explain();
        assert!(
            why.starts_with("its health check failed 3 times in a row; the last probe took longer than 3s: xx"),
            "{why}"
        );
        assert_eq!(play(&mut schedule, &[Outcome::Exit(0)]).0, [HealthState::Healthy]);
        let (verdicts, _) =
            play(&mut schedule, &[Outcome::Exit(1), Outcome::Exit(1), Outcome::Exit(0), Outcome::Exit(1)]);
        assert!(verdicts.is_empty(), "a good probe clears the streak: {verdicts:?}");
    }

    #[test]
    fn failures_in_the_start_period_do_not_count_and_come_faster() {
        let mut schedule = Schedule::new(settings(5));
        let (verdicts, times) = play(&mut schedule, &vec![Outcome::Exit(1); 6]);
        assert_eq!(times, [2, 4, 6, 16, 26, 36]);
        assert_eq!(verdicts, [HealthState::Unhealthy]);
        assert_eq!(schedule.failing_streak(), 4);
    }

    #[test]
    fn after_the_first_good_probe_the_start_period_forgives_no_more() {
        let mut schedule = Schedule::new(settings(1000));
        let outcomes = [Outcome::Exit(0), Outcome::Exit(1), Outcome::Exit(1), Outcome::Exit(1)];
        let (verdicts, times) = play(&mut schedule, &outcomes);
        assert_eq!(verdicts, [HealthState::Healthy, HealthState::Unhealthy]);
        assert_eq!(times, [2, 12, 22, 32]);
    }

    #[test]
    fn early_probes_double_and_only_a_good_one_matters() {
        let mut schedule = Schedule::new(settings(0));
        let probe = |code| Probe {
            started_at: Timestamp(0),
            ended_at: Timestamp(0),
            outcome: Outcome::Exit(code),
            output: String::new(),
        };
        let mut times = Vec::new();
        for _ in 0..6 {
            let due = schedule.next();
            assert!(due.early);
            times.push(due.at.as_millis());
            assert_eq!(schedule.record(probe(1), due.at, due.at), None);
        }
        assert_eq!(times, [100, 200, 400, 800, 1600, 3200]);
        assert_eq!((schedule.failing_streak(), schedule.kept().count()), (0, 0));
        let due = schedule.next();
        assert_eq!(schedule.record(probe(0), due.at, due.at), Some(HealthState::Healthy));
        assert_eq!(schedule.next(), Due { at: due.at + secs(10), early: false });
    }

    #[test]
    fn five_probes_are_kept_with_their_output_cut() {
        let mut schedule = Schedule::new(settings(0));
        play(&mut schedule, &vec![Outcome::Exit(0); 8]);
        assert_eq!(schedule.kept().count(), KEPT);
        assert!(schedule.kept().all(|probe| probe.output.len() == MAX_OUTPUT));
    }

    #[test]
    fn the_services_check_wins_and_inherits_the_images_test() {
        let image = Healthcheck { test: Some(HealthTest::Shell("exit 0".into())), ..Healthcheck::default() };
        let faster = Healthcheck { interval: secs(1), ..Healthcheck::default() };
        let found = effective(Some(&faster), Some(&image)).unwrap();
        assert_eq!((found.command[2].as_str(), found.interval), ("exit 0", secs(1)));
        let off = Healthcheck { test: Some(HealthTest::None), ..Healthcheck::default() };
        assert_eq!(effective(Some(&off), Some(&image)), None);
        assert_eq!(effective(Some(&faster), None), None);
        assert!(effective(None, Some(&image)).is_some());
    }
}
