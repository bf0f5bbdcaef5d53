//! What the HTTP API of one manager bears: a real daemon on a host of its own, with 1,000 services whose 10,000 tasks run on
//! simulated agents in this process.
//!
//! `cargo bench -p berth-tests --bench api [requests] [watchers]` prints one line a figure: n, median, p99, spread. `requests` is
//! Debian's `wrk` over loopback, beside the constant answer of the same server. `watchers` are 500 streams of changes, compared
//! event by event. Servers and clients share the processors of one machine. Nothing here passes or fails by time; it fails when
//! a request does, or when a watcher misses something.
#![allow(missing_docs)]

#[path = "../figures.rs"]
#[allow(dead_code)]
mod figures;
#[path = "../agents/fleet.rs"]
#[allow(dead_code)]
mod fleet;
#[path = "../inside.rs"]
mod inside;
#[path = "../agents/machine.rs"]
mod machine;
#[path = "../process.rs"]
mod process;
#[path = "requests.rs"]
mod requests;
#[path = "watchers.rs"]
mod watchers;
#[path = "../many/wire.rs"]
mod wire;
#[path = "world.rs"]
mod world;

use berth_tests::Cluster;

use crate::world::World;

/// What the tasks run.
const IMAGE: &str = "berth/hello:1";

fn main() {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    inside::raise_limit();
    // A thread of its own: it enters the host's network, and what it starts is there too.
    std::thread::spawn(move || run(&chosen)).join().expect("the figures are taken");
}

fn run(chosen: &[String]) {
    let wants = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    if wants("requests") {
        requests::install();
    }
    let cluster = Cluster::new("bench-api", 1, 0);
    let host = cluster.host(0);
    let words = world::Words::of(&cluster);
    inside::enter_network(host);
    wire::runtime().block_on(async {
        let mut world = World::fill(host, words).await;
        if wants("requests") {
            requests::run(host, &world);
        }
        if wants("watchers") {
            watchers::run(host.daemon_pid(), &mut world).await;
        }
    });
}
