//! How many questions of one node are answered. Pure.

use std::time::Instant;

/// Answers a second and node in the long run.
const RATE: f64 = 50.0;
/// Answers at once, after a pause.
const BURST: f64 = 200.0;

/// What one node has left.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    /// The whole of it.
    pub fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Takes one answer out of it; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        (self.left, self.at) = ((self.left + gained).min(BURST), now);
        let is_enough = self.left >= 1.0;
        if is_enough {
            self.left -= 1.0;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        assert_eq!((0..1000).filter(|_| allowance.take(start)).count(), BURST as usize);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..1000).filter(|_| allowance.take(later)).count(), 2 * RATE as usize);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| allowance.take(much_later)).count(), BURST as usize);
    }
}
