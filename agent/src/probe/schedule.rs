//! Which node is looked at when. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_proto::id::NodeId;
use tokio::time::Instant;

/// Between two looks at a node, on average.
pub const PERIOD: Duration = Duration::from_secs(30);
/// The part of the period by which looks are spread.
const SPREAD: f64 = 0.4;
/// A node that is new is looked at within this time: it may still be making its end of the tunnel.
const SOON: Duration = Duration::from_secs(2);

/// When each node is due.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeMap<NodeId, Instant>,
    /// Nodes that are being looked at.
    taken: BTreeSet<NodeId>,
}

impl Schedule {
    /// Exactly these nodes; `random` is from 0 to 1 at each call.
    pub fn follow(&mut self, nodes: &BTreeSet<NodeId>, now: Instant, mut random: impl FnMut() -> f64) {
        self.due.retain(|node, _| nodes.contains(node));
        for node in nodes {
            if !self.due.contains_key(node) && !self.taken.contains(node) {
                self.due.insert(*node, now + SOON.mul_f64(random()));
            }
        }
    }

    /// A node that is due, no more to be taken until it is [`Self::done`].
    pub fn take(&mut self, now: Instant) -> Option<NodeId> {
        let node = *self.due.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at)?.0;
        self.due.remove(&node);
        self.taken.insert(node);
        Some(node)
    }

    /// It was looked at, or there was no way yet that could be tried.
    pub fn done(&mut self, node: NodeId, was_tried: bool, now: Instant, random: f64) {
        self.taken.remove(&node);
        let period = if was_tried { PERIOD } else { SOON };
        self.due.insert(node, now + period.mul_f64(1.0 + SPREAD * (random - 0.5)));
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_node_comes_once_a_period_and_those_that_are_gone_never() {
        let nodes: BTreeSet<NodeId> = (1..=3).map(NodeId::from_random).collect();
        let (start, mut schedule) = (Instant::now(), Schedule::default());
        schedule.follow(&nodes, start, || 1.0);
        assert_eq!(schedule.take(start), None);
        let soon = start + SOON;
        let taken: BTreeSet<NodeId> = std::iter::from_fn(|| schedule.take(soon)).collect();
        assert_eq!(taken, nodes);
        schedule.follow(&nodes, soon, || 0.0);
        assert_eq!((schedule.take(soon), schedule.next()), (None, None), "they are being looked at");
        for (node, random) in nodes.iter().zip([0.0, 0.5, 1.0]) {
            schedule.done(*node, true, soon, random);
        }
        assert_eq!(schedule.next(), Some(soon + PERIOD.mul_f64(0.8)));
        let first = schedule.take(soon + PERIOD).unwrap();
        schedule.done(first, false, soon, 0.5);
        assert_eq!(schedule.next(), Some(soon + SOON), "what could not be tried comes again soon");
        schedule.follow(&BTreeSet::new(), soon, || 0.0);
        assert_eq!(schedule.take(soon + 2 * PERIOD), None);
    }
}
