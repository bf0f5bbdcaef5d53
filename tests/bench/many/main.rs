//! What several machines cost and how they bear losses: three managers with real containers, each on a host of its own.
//!
//! `cargo bench -p berth-tests --bench many` prints one line a figure: n, median, p99, spread. Names as arguments pick
//! figures: `failover`, `return`, `hosts`, `drain`, `update`, `writes` (beside Debian's `etcd-server`, in the same run).
//! Nothing here passes or fails by time. The stop signal is KILL, so that a process that ignores TERM does not blur the
//! figures.
#![allow(missing_docs)]

#[path = "etcd.rs"]
mod etcd;
#[path = "../figures.rs"]
mod figures;
#[path = "loss.rs"]
mod loss;
#[path = "../process.rs"]
#[allow(dead_code)]
mod process;
#[path = "roll.rs"]
mod roll;
#[path = "wire.rs"]
mod wire;
#[path = "writes.rs"]
mod writes;

fn main() {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let all: [(&str, fn()); 6] = [
        ("failover", loss::failover),
        ("return", loss::cut_off_manager_returns),
        ("hosts", loss::hosts),
        ("drain", roll::drain),
        ("update", roll::update),
        ("writes", writes::run),
    ];
    for (name, figure) in all {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            figure();
        }
    }
}
