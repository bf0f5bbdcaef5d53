//! What the health check of a task found lately: keys of `task inspect`, a sentence of `task explain`. Pure.

use berth_proto::pb;
use berth_proto::pb::health_probe::Outcome;
use berth_proto::state::HealthState;
use berth_proto::time::Timestamp;
use serde::Serialize;

/// The last probes of a task, as its node remembers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthLog {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: &'static str,
    /// Failures in a row that count.
    pub failing_streak: u32,
    /// The last probes, oldest first.
    pub log: Vec<ProbeRow>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProbeRow {
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// `exited`, `timed out` or `not run`.
    pub outcome: &'static str,
    /// Null unless it exited.
    pub exit_code: Option<i32>,
    /// First bytes of what it said on both streams.
    pub output: String,
}

impl HealthLog {
    /// From the node's answer; `None` without a health check.
    pub fn new(answer: pb::TaskHealthResponse) -> Option<Self> {
        let health = answer.health?;
        let status = Option::<HealthState>::from(health.state()).map_or("none", HealthState::as_str);
        let log = health.probes.into_iter().map(ProbeRow::new).collect();
        Some(Self { status, failing_streak: health.failing_streak, log })
    }

    /// `Its health check says healthy; the last probe exited with code 0: ok.`
    pub fn sentence(&self) -> String {
        let streak = match self.failing_streak {
            0 => String::new(),
            1 => " (1 failure)".to_owned(),
            failures => format!(" ({failures} failures in a row)"),
        };
        let last = self.log.last().map(|probe| {
            let how = match probe.exit_code {
                Some(code) => format!("exited with code {code}"),
                None => format!("has {}", probe.outcome),
            };
            let output = probe.output.trim();
            let output = if output.is_empty() { "nothing" } else { output };
            format!("; the last probe {how} and said: {output}")
        });
        format!("Its health check says {}{streak}{}", self.status, last.unwrap_or_default())
    }
}

impl ProbeRow {
    fn new(probe: pb::HealthProbe) -> Self {
        let outcome = match probe.outcome() {
            Outcome::Exited => "exited",
            Outcome::TimedOut => "timed out",
            Outcome::NotRun => "not run",
        };
        Self {
            start: Timestamp(probe.started_at),
            end: Timestamp(probe.ended_at),
            outcome,
            exit_code: probe.exit_code,
            output: probe.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_probe_is_told_in_a_sentence() {
        let probe = |outcome: Outcome, exit_code, output: &str| pb::HealthProbe {
            outcome: outcome.into(),
            exit_code,
            output: output.to_owned(),
            ..Default::default()
        };
        let log = |state: pb::HealthState, failing_streak, probes| {
            let health = Some(pb::HealthLog { state: state.into(), failing_streak, probes });
            HealthLog::new(pb::TaskHealthResponse { health }).expect("a health check")
        };
        let sick = log(pb::HealthState::Unhealthy, 3, vec![probe(Outcome::Exited, Some(1), "curl: (7)\n")]);
        let said = "Its health check says unhealthy (3 failures in a row); the last probe exited with code 1 and said: curl: (7)";
        assert_eq!(sick.sentence(), said);
        let slow = log(pb::HealthState::Healthy, 1, vec![probe(Outcome::TimedOut, None, "")]);
        let said = "Its health check says healthy (1 failure); the last probe has timed out and said: nothing";
        assert_eq!(slow.sentence(), said);
        assert_eq!(log(pb::HealthState::Starting, 0, vec![]).sentence(), "Its health check says starting");
        assert_eq!(HealthLog::new(pb::TaskHealthResponse::default()), None);
    }
}
