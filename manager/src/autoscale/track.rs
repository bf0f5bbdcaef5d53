//! From counters of one task, as its node tells them every few seconds, to what it uses on average over the last quarter of a minute.

use std::collections::VecDeque;
use std::time::Duration;

use berth_proto::time::Timestamp;

use super::survey::Usage;

/// Samples that are kept: a quarter of a minute at the agents' period.
const SAMPLES: usize = 4;
/// Nothing is known any more of a task that was not heard of for this long.
const FRESH: Duration = Duration::from_secs(20);
/// Samples that are closer say nothing of a rate.
const LEAST: Duration = Duration::from_secs(1);

/// Counters of a task at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// When it was taken, on the node's clock.
    pub at: Duration,
    /// Cpu time since its container started.
    pub cpu: Duration,
    /// Bytes in use.
    pub memory: u64,
    /// Requests since it started; `None` where that is not known.
    pub requests: Option<f64>,
}

/// The last samples of a task, oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Track {
    samples: VecDeque<Sample>,
    heard: Timestamp,
}

impl Track {
    /// Takes a sample in. Counters that go back, or a clock that does, begin anew.
    pub fn add(&mut self, sample: Sample, now: Timestamp) {
        if let Some(last) = self.samples.back() {
            if last.at == sample.at {
                return;
            }
            if sample.at < last.at || sample.cpu < last.cpu {
                self.samples.clear();
            }
        }
        let is_less = |before: &Sample| before.requests.zip(sample.requests).is_some_and(|(old, new)| new < old);
        if self.samples.back().is_some_and(is_less) {
            // The program in the container has begun anew; its cpu time goes on.
            self.samples.iter_mut().for_each(|sample| sample.requests = None);
        }
        self.samples.push_back(sample);
        let too_many = self.samples.len().saturating_sub(SAMPLES);
        self.samples.drain(..too_many);
        self.heard = now;
    }

    /// What the task uses; `None` until two samples are known, and once none came for a while.
    pub fn usage(&self, now: Timestamp) -> Option<Usage> {
        if now.since(self.heard) > FRESH {
            return None;
        }
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let between = |from: &Sample| Some(last.at.saturating_sub(from.at)).filter(|time| *time >= LEAST);
        let cpus = last.cpu.saturating_sub(first.cpu).as_secs_f64() / between(first)?.as_secs_f64();
        let counted = self.samples.iter().find(|sample| sample.requests.is_some());
        let requests = counted.and_then(|from| {
            let more = last.requests? - from.requests?;
            Some((more / between(from)?.as_secs_f64()).max(0.0))
        });
        Some(Usage { nano_cpus: cpus * 1e9, memory: last.memory, requests })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp(secs * 1_000_000_000)
    }

    fn sample(at: u64, cpu_ms: u64, requests: Option<f64>) -> Sample {
        Sample { at: secs(at), cpu: Duration::from_millis(cpu_ms), memory: 100 * at, requests }
    }

    #[test]
    fn rates_are_those_of_the_last_samples_and_old_ones_are_none() {
        let mut track = Track::default();
        assert_eq!(track.usage(at(0)), None);
        track.add(sample(100, 0, Some(10.0)), at(0));
        assert_eq!(track.usage(at(0)), None, "one sample is no rate");
        for step in 1..=20 {
            track.add(sample(100 + 5 * step, 2_500 * step, Some(10.0 + 100.0 * step as f64)), at(5 * step as i64));
        }
        let usage = track.usage(at(100)).unwrap();
        assert!((usage.nano_cpus - 5e8).abs() < 1.0 && (usage.requests.unwrap() - 20.0).abs() < 1e-6, "{usage:?}");
        assert_eq!(usage.memory, 20_000);
        assert_eq!(track.samples.len(), SAMPLES);
        // The same once more, e.g. by another way, changes nothing.
        track.add(sample(200, 50_000, Some(2_010.0)), at(101));
        assert_eq!(track.samples.len(), SAMPLES);
        assert!(track.usage(at(120)).is_some());
        assert_eq!(track.usage(at(121)), None);
    }

    #[test]
    fn counters_that_begin_anew_are_never_a_negative_rate() {
        let mut track = Track::default();
        track.add(sample(100, 9_000, Some(500.0)), at(0));
        track.add(sample(105, 10_000, Some(600.0)), at(5));
        // Only the program in the container has restarted.
        track.add(sample(110, 11_000, Some(3.0)), at(10));
        let usage = track.usage(at(10)).unwrap();
        assert!((usage.nano_cpus - 2e8).abs() < 1.0 && usage.requests.is_none(), "{usage:?}");
        track.add(sample(115, 12_000, Some(53.0)), at(15));
        assert!((track.usage(at(15)).unwrap().requests.unwrap() - 10.0).abs() < 1e-6);
        // The node's clock went back: its agent has restarted.
        track.add(sample(2, 13_000, None), at(20));
        assert_eq!(track.usage(at(20)), None);
        track.add(sample(4, 12_000, None), at(22));
        assert_eq!(track.usage(at(22)), None, "its cpu time went back");
    }

    #[test]
    fn a_counter_that_cannot_be_read_any_more_is_not_known() {
        let mut track = Track::default();
        track.add(sample(100, 0, Some(1.0)), at(0));
        track.add(sample(105, 0, Some(6.0)), at(5));
        assert!(track.usage(at(5)).unwrap().requests.is_some());
        track.add(sample(110, 0, None), at(10));
        assert_eq!(track.usage(at(10)).unwrap().requests, None);
    }
}
