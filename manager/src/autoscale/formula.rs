//! The number of replicas that would bring one target to its mark: `ceil(replicas × use / target)`, unless that is close.

use std::fmt;

/// Float errors must not cost a replica.
const EPSILON: f64 = 1e-9;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Cpu, in percent of what a replica reserves.
    Cpu,
    /// Memory, in percent of what a replica reserves.
    Memory,
    /// Requests per second.
    Requests,
}

/// One target against what the replicas use.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// What is measured.
    pub measure: Measure,
    /// How much a replica should use.
    pub target: u64,
    /// Of each replica its use as a share of the target, 1 being the mark; `None` while it is not ready, or nothing is known
    /// of it.
    pub shares: Vec<Option<f64>>,
}

impl Reading {
    /// Replicas that would bring the use to the target; as many as there are when that is within `tolerance`, and `None` when
    /// nothing is known of any of them.
    ///
    /// Those that nothing is known of count as idle where more would be needed, and as on the mark where fewer would: when
    /// that turns the direction, nothing changes.
    pub fn wanted(&self, tolerance: f64) -> Option<u64> {
        let known: Vec<f64> = self.shares.iter().copied().flatten().collect();
        let sum: f64 = known.iter().sum();
        let (replicas, unknown) = (self.shares.len() as f64, (self.shares.len() - known.len()) as f64);
        if known.is_empty() {
            return None;
        }
        let grows = sum > known.len() as f64;
        let needed = sum + if grows { 0.0 } else { unknown };
        let ratio = needed / replicas;
        if (ratio - 1.0).abs() <= tolerance + EPSILON || (ratio > 1.0) != grows {
            return Some(self.shares.len() as u64);
        }
        Some((needed - EPSILON).ceil() as u64)
    }

    /// What a replica uses on average, in the target's unit.
    fn average(&self) -> f64 {
        let known: Vec<f64> = self.shares.iter().copied().flatten().collect();
        self.target as f64 * known.iter().sum::<f64>() / known.len().max(1) as f64
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (average, target) = (self.average(), self.target);
        match self.measure {
            Measure::Cpu => write!(f, "cpu {average:.0} % of {target} %"),
            Measure::Memory => write!(f, "memory {average:.0} % of {target} %"),
            Measure::Requests if average < 10.0 => write!(f, "{average:.1} requests/s of {target}"),
            Measure::Requests => write!(f, "{average:.0} requests/s of {target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const TOLERANCE: f64 = 0.1;

    fn reading(shares: &[Option<f64>]) -> Reading {
        Reading { measure: Measure::Cpu, target: 50, shares: shares.to_vec() }
    }

    fn wanted(shares: &[Option<f64>]) -> Option<u64> {
        reading(shares).wanted(TOLERANCE)
    }

    #[test]
    fn the_number_is_rounded_up_and_a_close_one_is_no_change() {
        for (shares, number) in [
            (vec![Some(2.0); 3], 6),
            (vec![Some(1.66); 3], 5),
            (vec![Some(1.1); 10], 10),
            (vec![Some(1.11); 10], 12),
            (vec![Some(0.9); 10], 10),
            (vec![Some(0.89); 10], 9),
            (vec![Some(0.5); 4], 2),
            (vec![Some(0.0); 4], 0),
            (vec![Some(2.0), Some(0.0)], 2),
            // Ten tenths are one.
            (vec![Some(0.1); 10], 1),
        ] {
            assert_eq!(wanted(&shares), Some(number), "{shares:?}");
        }
    }

    #[test]
    fn what_nothing_is_known_of_never_moves_the_number_in_either_direction() {
        assert_eq!(wanted(&[None, None]), None);
        assert_eq!(wanted(&[]), None);
        // One of two at twice its target: the other might be idle.
        assert_eq!(wanted(&[Some(2.0), None]), Some(2));
        assert_eq!(wanted(&[Some(3.0), None]), Some(3));
        // One of two idle: the other might be busy.
        assert_eq!(wanted(&[Some(0.0), None]), Some(1));
        assert_eq!(wanted(&[Some(0.0), None, None, None]), Some(3));
    }

    #[test]
    fn readings_are_shown_in_the_unit_of_their_target() {
        let of = |measure, target, share| Reading { measure, target, shares: vec![Some(share), None] }.to_string();
        assert_eq!(of(Measure::Cpu, 50, 1.66), "cpu 83 % of 50 %");
        assert_eq!(of(Measure::Memory, 80, 0.5), "memory 40 % of 80 %");
        assert_eq!(of(Measure::Requests, 100, 2.5), "250 requests/s of 100");
        assert_eq!(of(Measure::Requests, 2, 0.75), "1.5 requests/s of 2");
    }

    proptest! {
        #[test]
        fn more_load_never_asks_for_fewer(shares in vec(option::of(0.0..4.0f64), 1..20), factor in 1.0..3.0f64) {
            let more: Vec<_> = shares.iter().map(|share| share.map(|share| share * factor)).collect();
            prop_assert!(wanted(&more) >= wanted(&shares), "{:?} then {:?}", wanted(&shares), wanted(&more));
        }

        #[test]
        fn knowing_less_never_changes_more(shares in vec(0.0..4.0f64, 1..20), hidden in vec(any::<bool>(), 20)) {
            let all: Vec<_> = shares.iter().copied().map(Some).collect();
            // Replicas with the same load: hiding some of them says nothing new.
            let mean = shares.iter().sum::<f64>() / shares.len() as f64;
            let even = vec![Some(mean); all.len()];
            let less: Vec<_> = even.iter().zip(&hidden).map(|(share, hide)| share.filter(|_| !hide)).collect();
            let (known, Some(guessed)) = (wanted(&even), wanted(&less)) else { return Ok(()) };
            let (known, current) = (known.expect("some are known"), all.len() as u64);
            let between = known.min(current)..=known.max(current);
            prop_assert!(between.contains(&guessed), "{guessed} is not in {between:?}");
        }
    }
}
