//! What time it is, for what is written down: the system's clock, as tokio's timers see it. Both are the same but on tokio's
//! paused time (tests), where the system's clock goes on and timers do not: a loop that sleeps until a time that it wrote
//! down wakes at that time on either.

use std::time::{Instant, SystemTime};

use berth_proto::time::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    let system = Timestamp::from(SystemTime::now());
    let (real, timers) = (Instant::now(), tokio::time::Instant::now().into_std());
    match timers.checked_duration_since(real) {
        Some(ahead) => system.after(ahead),
        None => {
            let behind = i64::try_from(real.duration_since(timers).as_nanos()).unwrap_or(i64::MAX);
            Timestamp(system.0.saturating_sub(behind))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_passes_as_timers_do() {
        let before = now();
        tokio::time::sleep(Duration::from_secs(1_000)).await;
        let passed = now().since(before);
        let error = passed.abs_diff(Duration::from_secs(1_000));
        assert!(error < Duration::from_secs(1), "{passed:?}");
    }
}
