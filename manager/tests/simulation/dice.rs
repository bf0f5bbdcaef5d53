//! Draws of the simulation, all from one seed.

use std::ops::Range;
use std::time::Duration;

use berth_manager::orchestrator::{IdSource, SeededIds};

pub struct Dice(SeededIds);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SeededIds::new(seed))
    }

    /// Dice of their own for a part of the simulation: how often it throws changes nothing for the others.
    pub fn split(&mut self) -> Self {
        Self::new(self.0.bits() as u64)
    }

    pub fn roll(&mut self, range: Range<u64>) -> u64 {
        range.start + (self.0.bits() % u128::from(range.end - range.start)) as u64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.roll(0..n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(0..from.len() as u64) as usize]
    }

    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.roll(range))
    }

    pub fn micros(&mut self, range: Range<u64>) -> Duration {
        Duration::from_micros(self.roll(range))
    }
}
