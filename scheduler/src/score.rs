//! Which of the nodes that have room is best. Only arithmetic on one node; which nodes are compared is decided elsewhere.

use std::cmp::Ordering;
use std::fmt;

use berth_proto::object::{Node, NodeResources};
pub use berth_proto::spec::Strategy;

use crate::demand::Demand;
use crate::usage::Usage;

/// Failures of a service on a node, within the window, from which on other nodes are preferred whatever their score.
/// Docker Swarm counts five; a crash loop with backoff makes three in under a minute.
pub const FAILURES_THAT_COUNT: u32 = 3;

/// A whole resource, in the unit of scores.
const WHOLE: f64 = 1_000_000.0;

/// How good a node is for the next task; the smallest is best. Total, so that plans repeat exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Recent failures where there are enough of them to count.
    pub failures: u32,
    /// What its strategy says.
    pub cost: i64,
    /// Seeded.
    pub tie: u64,
    /// Place in the view's slab.
    pub place: u32,
}

/// What went into a rank, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Share of the dominant resource that is held once the task is there, in millionths.
    pub fullness: u32,
    /// Tasks of the same service that were there before.
    pub of_service: u32,
    /// Tasks that were there before.
    pub tasks: u32,
    /// Recent failures of the service there.
    pub failures: u32,
}

impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Terms { fullness, of_service, tasks, failures } = self;
        write!(f, "{}.{} % full", fullness / 10_000, fullness / 1_000 % 10)?;
        write!(f, ", {tasks} tasks before, {of_service} of this service")?;
        if *failures > 0 { write!(f, ", {failures} recent failures") } else { Ok(()) }
    }
}

/// Looks at one node.
pub(crate) fn terms(demand: &Demand, node: &Node, held: &Usage, of_service: u32, failures: u32) -> Terms {
    Terms { fullness: fullness(demand, node, held), of_service, tasks: held.tasks, failures }
}

impl Terms {
    /// The cost under a strategy; `wanted` is how many tasks the service is meant to have.
    pub(crate) fn cost(&self, demand: &Demand, wanted: u64) -> i64 {
        if demand.strategy == Strategy::Spread || !demand.reserves() {
            return (i64::from(self.of_service) << 32) | i64::from(self.tasks);
        }
        let crowding = (i64::from(self.of_service) * 1_000_000) / wanted.max(1).cast_signed().max(1);
        crowding - i64::from(self.fullness)
    }

    /// Failures where there are enough of them to count.
    pub(crate) fn failures_that_count(&self) -> u32 {
        if self.failures >= FAILURES_THAT_COUNT { self.failures } else { 0 }
    }
}

impl Rank {
    /// Compares so that the best is the greatest, for `BinaryHeap`.
    pub(crate) fn best_last(&self, other: &Self) -> Ordering {
        other.cmp(self)
    }
}

fn fullness(demand: &Demand, node: &Node, held: &Usage) -> u32 {
    let Some(has) = node.description.as_ref().map(|description| &description.resources) else { return 0 };
    let NodeResources { nano_cpus, memory, generic } = has;
    let mut most = share(held.nano_cpus, demand.nano_cpus, *nano_cpus).max(share(held.memory, demand.memory, *memory));
    for (name, count) in &demand.generic {
        most = most.max(share(held.generic(name), *count, generic.get(name).copied().unwrap_or_default()));
    }
    (most * WHOLE) as u32
}

/// IEEE division is the same on every machine, so this keeps plans exact.
fn share(held: u64, asked: u64, has: u64) -> f64 {
    if has == 0 { 0.0 } else { ((held + asked) as f64 / has as f64).min(1.0) }
}
