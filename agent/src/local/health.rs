//! What the health check of a task found lately. Read from the agent's memory: no probe is ever written to the log.

use std::sync::PoisonError;

use berth_proto::pb;
use berth_proto::pb::health_probe::Outcome as Wire;

use crate::health::{Outcome, Probe, Schedule};
use crate::worker::TaskView;

/// The probes of a task; empty without a health check or before its container runs.
pub fn of(view: &TaskView) -> pb::TaskHealthResponse {
    let record = view.health.as_ref().map(|record| record.lock().unwrap_or_else(PoisonError::into_inner));
    pb::TaskHealthResponse { health: record.map(|schedule| log(&schedule)) }
}

fn log(schedule: &Schedule) -> pb::HealthLog {
    pb::HealthLog {
        state: pb::HealthState::from(Some(schedule.state())).into(),
        failing_streak: schedule.failing_streak(),
        probes: schedule.kept().map(probe).collect(),
    }
}

fn probe(probe: &Probe) -> pb::HealthProbe {
    let (outcome, exit_code) = match probe.outcome {
        Outcome::Exit(code) => (Wire::Exited, Some(code)),
        Outcome::Timeout => (Wire::TimedOut, None),
        Outcome::Error => (Wire::NotRun, None),
    };
    pb::HealthProbe {
        started_at: probe.started_at.0,
        ended_at: probe.ended_at.0,
        outcome: outcome.into(),
        exit_code,
        output: probe.output.clone(),
    }
}
