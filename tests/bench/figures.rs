//! Samples and what is said of them.

use std::time::Duration;

/// Samples of one figure, in milliseconds.
pub struct Samples {
    name: String,
    sorted: Vec<f64>,
}

impl Samples {
    pub fn new(name: &str, samples: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<f64> = samples.into_iter().map(|sample| sample.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        assert!(!sorted.is_empty(), "{name}: nothing was measured");
        Self { name: name.to_owned(), sorted }
    }

    pub fn quantile(&self, share: f64) -> f64 {
        let at = ((self.sorted.len() - 1) as f64 * share).round() as usize;
        self.sorted[at]
    }

    pub fn print(&self) -> &Self {
        println!(
            "{:<44} n={:<4} median {:>9.2} ms  p99 {:>9.2} ms  p25-p75 {:.2}-{:.2}",
            self.name,
            self.sorted.len(),
            self.quantile(0.5),
            self.quantile(0.99),
            self.quantile(0.25),
            self.quantile(0.75),
        );
        self
    }

    /// Median of this over the other's, from the same run.
    pub fn ratio(&self, other: &Self) {
        println!("  {} / {} = {:.2}", self.name, other.name, self.quantile(0.5) / other.quantile(0.5));
    }
}
