//! Runs the probes of one task until it is dropped or told to stop.
//!
//! Owns the waiting. Never decides what a verdict means for the task: it sends it on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_proto::state::HealthState;
use berth_proto::time::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Outcome, Probe, Schedule};

/// Runs one probe inside the task's container.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Runs `command`, at most for `timeout`, and gives how it ended with the first bytes of its output.
    async fn probe(&self, command: &[String], timeout: Duration) -> (Outcome, String);
}

/// The health of a task, for whoever looks: the schedule with its last probes.
pub type HealthRecord = Arc<Mutex<Schedule>>;

/// Probes as the schedule says and sends each changed verdict with what led to it, for people; ends when nobody listens.
///
/// Cancel-safe: a dropped runner leaves no probe behind, the prober kills what it started.
pub async fn run(
    record: HealthRecord,
    prober: Arc<dyn Prober>,
    now: fn() -> Timestamp,
    age: Duration,
    verdicts: mpsc::Sender<(HealthState, String)>,
) {
    let origin = Instant::now();
    let since_start = || age + origin.elapsed();
    loop {
        let (due, command, timeout) = {
            let schedule = record.lock().unwrap_or_else(PoisonError::into_inner);
            (schedule.next(), schedule.settings().command.clone(), schedule.settings().timeout)
        };
        tokio::time::sleep(due.at.saturating_sub(since_start())).await;
        let (began, started_at) = (since_start(), now());
        let (outcome, output) = prober.probe(&command, timeout).await;
        let probe = Probe { started_at, ended_at: now(), outcome, output };
        let verdict = {
            let mut schedule = record.lock().unwrap_or_else(PoisonError::into_inner);
            schedule.record(probe, began, since_start()).map(|verdict| (verdict, schedule.explain()))
        };
        if let Some(verdict) = verdict
            && verdicts.send(verdict).await.is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::health::Settings;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Flaky(AtomicU32);

    #[async_trait]
    impl Prober for Flaky {
        async fn probe(&self, _: &[String], _: Duration) -> (Outcome, String) {
            let run = self.0.fetch_add(1, Ordering::SeqCst);
            (Outcome::Exit(i32::from(run != 2)), format!("run {run}"))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn verdicts_arrive_with_what_led_to_them() {
        let settings = Settings {
            command: vec!["probe".into()],
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(1),
        };
        let record = Arc::new(Mutex::new(Schedule::new(settings)));
        let (send, mut verdicts) = mpsc::channel(4);
        let prober = Arc::new(Flaky(AtomicU32::new(0)));
        let runner = tokio::spawn(run(Arc::clone(&record), prober, || Timestamp(5), Duration::ZERO, send));
        assert_eq!(verdicts.recv().await.unwrap().0, HealthState::Healthy);
        let (state, why) = verdicts.recv().await.unwrap();
        assert_eq!(state, HealthState::Unhealthy);
        assert_eq!(why, "its health check failed 2 times in a row; the last probe exited with code 1: run 4");
        assert_eq!(record.lock().unwrap().kept().count(), 3, "failed early probes are not kept");
        runner.abort();
    }
}
