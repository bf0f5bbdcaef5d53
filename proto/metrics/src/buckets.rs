//! Bounds of histograms, in seconds. Few for each, for every bound is a series of every label.

use prometheus_client::metrics::histogram::Histogram;

/// What takes from a tenth of a millisecond to a few seconds: passes of a loop, writes to disk, requests.
const FAST: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// What takes from ten milliseconds to minutes: a start with its image, a download.
const SLOW: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// For what takes from a tenth of a millisecond to a few seconds.
pub fn fast() -> Histogram {
    Histogram::new(FAST)
}

/// For what takes from ten milliseconds to minutes.
pub fn slow() -> Histogram {
    Histogram::new(SLOW)
}
