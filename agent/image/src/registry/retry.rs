//! When to try again, and how long to wait before. Pure: time and randomness are arguments.

use std::time::Duration;

use crate::store::options::RetryOptions;

/// What a failed request says about another attempt.
pub(crate) trait Retry {
    /// True when the same request may succeed a little later.
    fn is_transient(&self) -> bool;
    /// How long the server asked to wait.
    fn retry_after(&self) -> Option<Duration>;
}

/// Counts attempts without progress.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    options: RetryOptions,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(options: RetryOptions) -> Backoff {
        Backoff { options, attempts: 0 }
    }

    /// Bytes came in: the connection is worth more attempts.
    pub(crate) fn progressed(&mut self) {
        self.attempts = 0;
    }

    /// How often it was tried in vain.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The time to wait before the next attempt, or `None` to give up. `jitter` is in 0..1 and spreads
    /// clients that failed together over the second half of the delay. A server's `Retry-After` counts
    /// if it is longer; one beyond the longest delay means giving up now rather than at its end.
    pub(crate) fn next(&mut self, error: &impl Retry, jitter: f64) -> Option<Duration> {
        self.attempts += 1;
        if !error.is_transient() || self.attempts >= self.options.attempts {
            return None;
        }
        let doublings = (self.attempts - 1).min(16);
        let full = self.options.first_delay.saturating_mul(1 << doublings).min(self.options.max_delay);
        let spread = full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        match error.retry_after() {
            Some(asked) if asked > self.options.max_delay => None,
            Some(asked) => Some(spread.max(asked)),
            None => Some(spread),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::RegistryError;

    fn broken() -> RegistryError {
        RegistryError::Broken { what: "w".into(), registry: "r".into(), reason: "x".into() }
    }

    fn limited(seconds: u64) -> RegistryError {
        RegistryError::RateLimited {
            registry: "r".into(),
            retry_after: Some(Duration::from_secs(seconds)),
            message: String::new(),
        }
    }

    #[test]
    fn delays_double_up_to_the_limit_and_attempts_end() {
        let options = RetryOptions {
            attempts: 5,
            first_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(3),
            ..RetryOptions::default()
        };
        let mut backoff = Backoff::new(options);
        let delays: Vec<_> = (0..5).map(|_| backoff.next(&broken(), 1.0).map(|d| d.as_secs())).collect();
        assert_eq!(delays, [Some(1), Some(2), Some(3), Some(3), None]);
        backoff.progressed();
        assert_eq!(backoff.next(&broken(), 0.0), Some(Duration::from_millis(500)));
        assert_eq!(backoff.next(&limited(3), 0.0), Some(Duration::from_secs(3)));
        assert_eq!(backoff.next(&limited(4), 0.0), None);
        let fatal = RegistryError::Setup { reason: String::new() };
        assert_eq!(Backoff::new(options).next(&fatal, 0.5), None);
    }
}
