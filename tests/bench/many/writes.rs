//! Replicated writes per second, beside etcd on three hosts of the same kind.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use berth_tests::Cluster;

use crate::etcd::{Etcd, put};
use crate::figures::Samples;
use crate::process;
use crate::wire::{control, runtime, write};

const CLIENTS: [usize; 4] = [1, 16, 64, 256];
/// How long each number of clients writes.
const LENGTH: Duration = Duration::from_secs(5);

/// Makes one write and says whether it was acknowledged.
type Writer = Box<dyn FnMut(String) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send>;

/// Clients that write as fast as they are acknowledged; returns writes a second, and how long each took. `pids` are the
/// members'.
async fn measure(name: &str, clients: usize, pids: &[i32], mut writer: impl FnMut(usize) -> Writer) -> (f64, Samples) {
    let begin = Instant::now();
    let used = || -> Duration { pids.iter().map(|pid| process::cpu(*pid)).sum() };
    let before = used();
    let all: Vec<_> = (0..clients)
        .map(|client| {
            let (mut write, name) = (writer(client), name.to_owned());
            tokio::spawn(async move {
                let mut samples = Vec::new();
                for number in 0.. {
                    if begin.elapsed() >= LENGTH {
                        break;
                    }
                    let start = Instant::now();
                    if write(format!("{name}-{clients}-{client}-{number}")).await {
                        samples.push(start.elapsed());
                    }
                }
                samples
            })
        })
        .collect();
    let mut samples = Vec::new();
    for client in all {
        samples.extend(client.await.expect("a client runs"));
    }
    let writes = samples.len().max(1);
    let rate = writes as f64 / begin.elapsed().as_secs_f64();
    let samples = Samples::new(&format!("{name}, {clients} clients, one write"), samples);
    samples.print();
    let spent = (used() - before).as_secs_f64() * 1e6 / writes as f64;
    println!("  {rate:.0} writes a second, the members together {spent:.0} us of processor each");
    (rate, samples)
}

/// Berth's managers and etcd's members one after the other. The clients share one connection to each member.
pub fn run() {
    let runtime = runtime();
    let mut measured = Vec::new();
    {
        let cluster = Cluster::new("bench-writes", 3, 0);
        let leader = cluster.leader(0);
        let pids: Vec<i32> = (0..3).map(|at| cluster.host(at).daemon_pid()).collect();
        for clients in CLIENTS {
            let connected: Vec<_> =
                runtime.block_on(async { (0..3).map(|at| control(cluster.host((leader + at) % 3))).collect() });
            let through = |client: usize| -> Writer {
                let control = connected[client % 3].clone();
                Box::new(move |name| {
                    let mut control = control.clone();
                    Box::pin(async move { write(&mut control, name).await.is_ok() })
                })
            };
            measured.push(runtime.block_on(measure("berth", clients, &pids, through)));
        }
    }
    let etcd = Etcd::start();
    for (at, clients) in CLIENTS.into_iter().enumerate() {
        let connected: Vec<_> = runtime.block_on(async { (0..3).map(|member| etcd.client(member)).collect() });
        let through = |client: usize| -> Writer {
            let channel = connected[client % 3].clone();
            Box::new(move |name| {
                let channel = channel.clone();
                Box::pin(async move { put(channel, name, vec![7; 16]).await.is_ok() })
            })
        };
        let (rate, samples) = runtime.block_on(measure("etcd", clients, &etcd.pids(), through));
        let (ours, own) = &measured[at];
        println!("  writes a second, berth / etcd with {clients} clients = {:.2}", ours / rate);
        own.ratio(&samples);
    }
}
