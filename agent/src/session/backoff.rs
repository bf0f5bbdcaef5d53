//! How long to wait before the next attempt at a session: doubling, with jitter, so that a cluster's agents do not come back all
//! at once.
//!
//! Pure: the random number is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(8);

/// Attempts that failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A session came up.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait before the next attempt; `random` is in `0.0..1.0` and takes away up to half of it.
    pub fn failed(&mut self, random: f64) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(MOST);
        self.failures += 1;
        whole.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_ceiling_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 8000, 8000]);
        assert_eq!(backoff.failed(1.0).as_millis(), 4000);
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0).as_millis(), 100);
    }
}
