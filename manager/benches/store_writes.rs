//! Writes per second through the log with 1, 16, 64 and 256 clients, each waiting for its write before the next.
//!
//! `cargo bench -p berth-manager --bench store_writes [-- DIR]`: DIR is where the log goes; the disk is what is measured.
//! Beside it, in the same run: how many times a second a file of one block can be appended to and synced.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_manager::raft::{DataDir, PlainConnect, RaftNode, RaftSettings};
use berth_manager::store::Transaction;
use berth_proto::id::Id;
use berth_proto::object::Config;
use berth_proto::spec::ConfigSpec;
use berth_proto::time::Timestamp;
use bytes::Bytes;

const RUNS: usize = 5;
const TIME: Duration = Duration::from_secs(2);

fn main() {
    let argument = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let base = argument.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("berth-bench-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    println!("{RUNS} runs of {TIME:?} each in {}; a write is one object of 200 bytes\n", base.display());
    println!(
        "{:>8} {:>12} {:>20} {:>9} {:>9} {:>9}",
        "clients", "writes/s", "(least..most)", "p50 ms", "p99 ms", "per entry"
    );
    let syncs: Vec<f64> = (0..RUNS).map(|_| synced_appends(&dir)).collect();
    print_line("fsync", &syncs, &mut [], 1.0);
    runtime.block_on(async {
        let node = RaftNode::start(
            DataDir::open(&dir.join("manager")).unwrap(),
            RaftSettings::default(),
            Arc::new(PlainConnect),
        )
        .await
        .unwrap();
        for clients in [1, 16, 64, 256] {
            let (mut rates, mut latencies, mut entries) = (Vec::new(), Vec::new(), 0);
            for _ in 0..RUNS {
                let before = node.hub().snapshot().index();
                let (rate, times) = run(&node, clients).await;
                entries += node.hub().snapshot().index() - before;
                rates.push(rate);
                latencies.extend(times);
            }
            let per_entry = latencies.len() as f64 / entries as f64;
            print_line(&clients.to_string(), &rates, &mut latencies, per_entry);
        }
        node.stop().await;
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

fn print_line(name: &str, rates: &[f64], latencies: &mut [Duration], per_entry: f64) {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    latencies.sort();
    let at = |share: f64| {
        latencies.get(((latencies.len() as f64) * share) as usize).map_or(0.0, |it| it.as_secs_f64() * 1e3)
    };
    let spread = format!("({:.0}..{:.0})", rates[0], rates[rates.len() - 1]);
    println!(
        "{name:>8} {:>12.0} {spread:>20} {:>9.2} {:>9.2} {per_entry:>9.1}",
        rates[rates.len() / 2],
        at(0.5),
        at(0.99)
    );
}

/// Writes of that many clients for a while: how many a second, and how long each took.
async fn run(node: &RaftNode, clients: usize) -> (f64, Vec<Duration>) {
    let begun = Instant::now();
    let clients = (0..clients).map(|_| {
        let proposer = node.proposer().clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            while begun.elapsed() < TIME {
                let number: u128 = rand::random();
                let spec = ConfigSpec {
                    name: format!("c{number:032x}").parse().unwrap(),
                    stack: None,
                    labels: Default::default(),
                    template_driver: None,
                    data: Bytes::from_static(&[7; 200]),
                };
                let mut tx = Transaction::new(Timestamp(1), "bench");
                tx.create(Config::new(Id::from_random(number), spec));
                let asked = Instant::now();
                proposer.propose(tx).await.unwrap();
                times.push(asked.elapsed());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.unwrap());
    }
    (times.len() as f64 / begun.elapsed().as_secs_f64(), times)
}

/// Appends of 4 KiB with `fdatasync` each, a second.
fn synced_appends(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("sync")).unwrap();
    let begun = Instant::now();
    let mut count = 0_u32;
    while begun.elapsed() < TIME / 2 {
        file.write_all(&[1; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}
