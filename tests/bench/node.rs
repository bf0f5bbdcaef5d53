//! What one node costs: starting a task beside runc and a bare clone3, memory, scaling, replacing a crashed task.
//!
//! `cargo bench -p berth-tests --bench node` prints one line a figure: n, median, p99, spread (p75 - p25), and ratios of
//! what was measured in the same run. Names as arguments pick figures: `start`, `memory`, `scale`, `crash`. Nothing here
//! passes or fails by time.
#![allow(missing_docs)]

#[path = "bare.rs"]
mod bare;
#[path = "clock.rs"]
mod clock;
#[path = "cluster.rs"]
mod cluster;
#[path = "figures.rs"]
mod figures;
#[path = "process.rs"]
#[allow(dead_code)]
mod process;
#[path = "start.rs"]
mod start;

fn main() {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    if wanted("start") {
        start::run();
    }
    if wanted("memory") {
        cluster::memory();
    }
    if wanted("scale") {
        cluster::scale();
    }
    if wanted("crash") {
        cluster::crash();
    }
}
