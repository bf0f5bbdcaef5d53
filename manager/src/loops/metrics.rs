//! What is counted of the loops, on the leader. The reconciler knows nothing of it: the shell around it does.

use std::collections::BTreeMap;
use std::time::Instant;

use berth_metrics::{
    Counter, Counters, Family, Gauge, Histogram, Registry, Timings, Words, buckets, counters, timings,
};
use berth_scheduler::Miss;

use crate::orchestrator::Loop;

use super::tally::{OTHER_REASONS, Tally};

/// What becomes of what the loops decide.
const OUTCOMES: [&str; 3] = ["committed", "overtaken", "refused"];
/// Loops that a pass goes through one after the other. The updater and the reaper have their turn within the orchestrator's.
const LOOPS: [Loop; 3] = [Loop::Orchestrator, Loop::Allocator, Loop::Scheduler];

/// What one manager counts while it leads.
#[derive(Debug, Clone)]
pub struct LoopMetrics {
    passes: Counter,
    pass: Histogram,
    stages: Timings<1>,
    decisions: Counters<1>,
    placements: Counter,
    evictions: Counter,
    waited: Histogram,
    pending: Family<Words<1>, Gauge>,
}

impl Default for LoopMetrics {
    fn default() -> Self {
        let metrics = Self {
            passes: Counter::default(),
            pass: buckets::fast(),
            stages: timings("loop", LOOPS.map(Loop::as_str), buckets::fast),
            decisions: counters("outcome", OUTCOMES),
            placements: Counter::default(),
            evictions: Counter::default(),
            waited: buckets::slow(),
            pending: Family::default(),
        };
        metrics.pending(&BTreeMap::new());
        metrics
    }
}

impl LoopMetrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let Self { passes, pass, stages, decisions, placements, evictions, waited, pending } = self.clone();
        registry.register("berth_loops_passes", "Passes of the leader's loops", passes);
        registry.register("berth_loops_pass_seconds", "Time that a pass takes to decide, without the writing", pass);
        registry.register("berth_loops_stage_seconds", "Time that one loop takes in a pass", stages);
        registry.register("berth_loops_decisions", "Transactions of the loops, by what became of them", decisions);
        registry.register("berth_scheduler_placements", "Tasks that were given a node", placements);
        registry.register("berth_scheduler_evictions", "Tasks that had to make way for more important ones", evictions);
        registry.register("berth_scheduler_wait_seconds", "Time from when a task was made until it had a node", waited);
        let help = "Tasks that wait for a node, by what keeps them from it; 0 on managers that do not lead";
        registry.register("berth_scheduler_pending_tasks", help, pending);
    }

    /// A pass begins.
    pub(super) fn begin(&self) -> Lap<'_> {
        self.passes.inc();
        let now = Instant::now();
        Lap { metrics: self, began: now, last: now, stages: BTreeMap::new() }
    }

    /// What was done.
    pub(super) fn tally(&self, tally: &Tally) {
        self.placements.inc_by(tally.placed.len() as u64);
        self.evictions.inc_by(tally.evicted);
        tally.placed.iter().for_each(|waited| self.waited.observe(waited.as_secs_f64()));
    }

    /// What waits now.
    pub(super) fn pending(&self, waits: &BTreeMap<&'static str, u64>) {
        for reason in Miss::WORDS.iter().chain(&OTHER_REASONS) {
            let count = i64::try_from(waits.get(reason).copied().unwrap_or(0)).unwrap_or(i64::MAX);
            self.pending.get_or_create(&[("reason", *reason)]).set(count);
        }
    }

    /// Something became of a transaction.
    pub(super) fn decided(&self, outcome: &'static str) {
        self.decisions.get_or_create(&[("outcome", outcome)]).inc();
    }
}

/// A pass under way; [`Lap::end`] counts its times.
pub(super) struct Lap<'a> {
    metrics: &'a LoopMetrics,
    began: Instant,
    last: Instant,
    stages: BTreeMap<&'static str, f64>,
}

impl Lap<'_> {
    /// One loop has had its turn.
    pub fn done(&mut self, stage: Loop) {
        let now = Instant::now();
        *self.stages.entry(stage.as_str()).or_default() += now.duration_since(self.last).as_secs_f64();
        self.last = now;
    }

    /// The pass has decided.
    pub fn end(self) {
        self.metrics.pass.observe(self.began.elapsed().as_secs_f64());
        for (stage, seconds) in self.stages {
            self.metrics.stages.get_or_create(&[("loop", stage)]).observe(seconds);
        }
    }
}
