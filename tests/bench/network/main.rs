//! What the network over several machines costs and how it bears changes and losses: three hosts with real containers.
//!
//! `cargo bench -p berth-tests --bench network` prints one line a figure, each beside its lower bound from the same run. Names as
//! arguments pick figures: `throughput` (iperf3, container to container on two hosts against the bare link), `update` (from a
//! task that becomes ready until every node sends to it), `rolling` (an update behind a published port under load), `loss` (a
//! host that loses power under load). Nothing here passes or fails by time. Names, connections by virtual addresses and 1,000
//! services on one node are measured by `cargo bench -p berth-netoverlay`.
#![allow(missing_docs)]

#[path = "../figures.rs"]
#[allow(dead_code)]
mod figures;
#[path = "load.rs"]
mod load;
#[path = "throughput.rs"]
mod throughput;
#[path = "update.rs"]
mod update;

fn main() {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let all: [(&str, fn()); 4] =
        [("throughput", throughput::run), ("update", update::run), ("rolling", load::rolling), ("loss", load::loss)];
    for (name, figure) in all {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            figure();
        }
    }
}
