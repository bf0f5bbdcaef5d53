//! What the reconciler did and what waits, in plain numbers, for who counts. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::id::ServiceId;
use berth_scheduler::{Miss, Refusal};

/// Why tasks wait that no filter refused.
pub const OTHER_REASONS: [&str; 4] = ["no_node", "network", "dependency", "preemption"];

/// What was done since somebody asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How long each task that was given a node has waited for it.
    pub placed: Vec<Duration>,
    /// Tasks that were asked to make way for others.
    pub evicted: u64,
}

/// How many tasks of each service wait for a node, by reason.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    by_service: BTreeMap<ServiceId, BTreeMap<&'static str, u64>>,
}

impl Waits {
    /// The service is looked at again, or is gone.
    pub fn clear(&mut self, service: ServiceId) {
        self.by_service.remove(&service);
    }

    /// More of its tasks wait.
    pub fn add(&mut self, service: ServiceId, reason: &'static str, count: usize) {
        if count > 0 {
            *self.by_service.entry(service).or_default().entry(reason).or_default() += count as u64;
        }
    }

    /// The scheduler found no node for some of its tasks: the filter that removed the most nodes is the reason.
    pub fn refused(&mut self, refusal: &Refusal) {
        let misses = &refusal.explanation.misses;
        let most = misses.iter().max_by_key(|(miss, count)| (**count, std::cmp::Reverse(**miss)));
        let reason = most.map_or("no_node", |(miss, _)| Miss::word(*miss));
        self.add(refusal.service, reason, refusal.tasks.len());
    }

    /// Over all services.
    pub fn sum(&self) -> BTreeMap<&'static str, u64> {
        let mut sum = BTreeMap::new();
        for (reason, count) in self.by_service.values().flatten() {
            *sum.entry(*reason).or_default() += count;
        }
        sum
    }
}
