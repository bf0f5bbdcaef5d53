//! What thousands of agents cost one manager: a real daemon on a host of its own, and simulated agents in this process.
//!
//! `cargo bench -p berth-tests --bench agents [COUNT…] [shared]` (1000 and 5000 without) prints one line a figure. The agents
//! join all at once with the worker token, each with a key and a certificate of its own; sessions, reports and task state
//! machines are those of the real agent, on a machine whose containers are there as soon as they are asked for. The tasks are
//! on their nodes' own networks; with `shared` all of them are on one, so that every node is told of every task. Both sides
//! share the processors of one machine: what the agents use is shown beside what the manager uses. Nothing here passes or
//! fails by time.
#![allow(missing_docs)]

#[path = "../figures.rs"]
#[allow(dead_code)]
mod figures;
#[path = "fleet.rs"]
mod fleet;
#[path = "../inside.rs"]
mod inside;
#[path = "machine.rs"]
mod machine;
#[path = "../process.rs"]
mod process;
#[path = "run.rs"]
mod run;
#[path = "../many/wire.rs"]
#[allow(dead_code)]
mod wire;

/// What the tasks run.
const IMAGE: &str = "berth/hello:1";

fn main() {
    // `cargo bench` and `cargo test --benches` add flags of their own.
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let network = if words.iter().any(|word| word == "shared") { "bridge" } else { "host" };
    let numbers = words.iter().filter(|word| *word != "shared");
    let counts: Vec<usize> = numbers.map(|word| word.parse().expect("a number of agents")).collect();
    inside::raise_limit();
    for count in if counts.is_empty() { vec![1_000, 5_000] } else { counts } {
        // A thread of its own: it enters the host's network, and what it starts is there too.
        std::thread::spawn(move || run::run(count, network)).join().expect("the figures are taken");
    }
}
