//! Pulls of images.

use std::time::Instant;

use berth_metrics::{Counters, Histogram, Registry, buckets, counters};

/// What is counted of pulls; clones count together.
#[derive(Debug, Clone)]
pub struct PullMetrics {
    pulls: Counters<1>,
    seconds: Histogram,
}

impl Default for PullMetrics {
    fn default() -> Self {
        Self { pulls: counters("outcome", ["done", "failed"]), seconds: buckets::slow() }
    }
}

impl PullMetrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("berth_image_pulls", "Pulls of images for tasks, by outcome", self.pulls.clone());
        registry.register("berth_image_pull_seconds", "Time that a pull of an image takes", self.seconds.clone());
    }

    /// A pull that began then has ended.
    pub fn ended(&self, began: Instant, is_done: bool) {
        let outcome = if is_done { "done" } else { "failed" };
        self.pulls.get_or_create(&[("outcome", outcome)]).inc();
        self.seconds.observe(began.elapsed().as_secs_f64());
    }
}
