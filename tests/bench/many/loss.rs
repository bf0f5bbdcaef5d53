//! Leaders and hosts that are lost, and that come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_tests::image::hello;
use berth_tests::{Cluster, Link, wait_until};
use tokio::time::timeout;

use crate::figures::Samples;
use crate::roll::stack;
use crate::wire::{control, runtime, write};

/// Longest that a write is waited for before it is made again.
const PATIENCE: Duration = Duration::from_millis(100);
const TASKS: usize = 12;

/// The leader's daemon gets `kill -9`; until the next write through another manager is acknowledged.
pub fn failover() {
    let mut cluster = Cluster::new("bench-failover", 3, 0);
    let runtime = runtime();
    let mut samples = Vec::new();
    for round in 0..20 {
        let leader = cluster.leader(0);
        let other = (leader + 1) % 3;
        samples.push(runtime.block_on(async {
            let mut client = control(cluster.host(other));
            write(&mut client, format!("before{round}")).await.expect("a healthy cluster takes a write");
            let begin = Instant::now();
            cluster.host_mut(leader).kill_daemon();
            for attempt in 0.. {
                if let Ok(Ok(())) = timeout(PATIENCE, write(&mut client, format!("w{round}-{attempt}"))).await {
                    break;
                }
            }
            begin.elapsed()
        }));
        cluster.host_mut(leader).start_daemon();
        cluster.wait_ready(3);
        // What is shown of managers comes after the lead itself.
        wait_until("another leader", || cluster.leader(other), |now| *now != leader);
    }
    Samples::new("leader killed, until the next write", samples).print();
}

/// A manager that does not lead is cut off for a while and comes back: the longest time between two acknowledged writes
/// through the leader in the seconds after.
pub fn cut_off_manager_returns() {
    let cluster = Cluster::new("bench-return", 3, 0);
    let runtime = runtime();
    let _inside = runtime.enter();
    let mut samples = Vec::new();
    for round in 0..6 {
        let leader = cluster.leader(0);
        let cut = (leader + 1) % 3;
        let (longest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut client = control(cluster.host(leader));
        let (seen, stopped) = (Arc::clone(&longest), Arc::clone(&stop));
        let writing = runtime.spawn(async move {
            let mut last = Instant::now();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    return number;
                }
                if write(&mut client, format!("r{round}-{number}")).await.is_ok() {
                    let gap = u64::try_from(last.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    seen.fetch_max(gap, Ordering::Relaxed);
                    last = Instant::now();
                }
            }
            0
        });
        cluster.link(cut, Link::Cut);
        // Long enough for it to have missed the leader for many elections.
        std::thread::sleep(Duration::from_secs(5));
        longest.store(0, Ordering::Relaxed);
        cluster.link(cut, Link::Whole);
        std::thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
        runtime.block_on(writing).expect("the writer runs");
        samples.push(Duration::from_nanos(longest.load(Ordering::Relaxed)));
    }
    Samples::new("cut-off manager returns, longest gap of writes", samples).print();
}

/// A host is taken off the wire; until its tasks run elsewhere.
pub fn hosts() {
    for (name, lose_leader) in
        [("worker host lost, its tasks run elsewhere", false), ("leader's host lost, its tasks run elsewhere", true)]
    {
        let (mut samples, rounds) = (Vec::new(), 5);
        let mut cluster = Cluster::new("bench-hosts", 3, 1);
        cluster.host(0).load(&hello());
        cluster.host(0).apply("s", &stack(TASKS));
        cluster.host(0).wait_running("s_web", TASKS);
        for _ in 0..rounds {
            let lost = if lose_leader { cluster.leader(0) } else { 3 };
            let watcher = (0..3).find(|at| *at != lost).expect("three managers");
            let gone = cluster.host(lost).hostname().to_owned();
            let begin = Instant::now();
            cluster.power_off(lost);
            wait_until(
                "every task to run elsewhere",
                || cluster.try_placed(watcher, "s_web"),
                |placed| placed.len() == TASKS && !placed.contains(&gone),
            );
            samples.push(begin.elapsed());
            cluster.power_on(lost);
            cluster.wait_ready(4);
            cluster.host(watcher).berth(&["service", "update", "--force", "s_web"]).ok();
        }
        Samples::new(name, samples).print();
    }
}
