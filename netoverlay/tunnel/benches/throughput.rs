//! How much a userspace tunnel carries, against the bare link in the same run, and how much memory its process takes.
//! Needs root; runs on two throw-away hosts (namespaces), so the machine is not touched.
//!
//! `cargo bench -p berth-tunnel` prints the rounds of each figure and their median. Both ends, both processes and the
//! two hosts share this machine's processors: compare ratios of one run, never rates of two. On a machine that does
//! other things at the same time only the rate per processor says something.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "shared with the kernel tests, which use all of it")]
#[path = "../tests/kernel/hosts.rs"]
mod hosts;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hosts::*;

const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

fn main() {
    on_two_hosts("throughput", |a, b| {
        a.add_key(1);
        a.apply(&a.desired(&[], 1));
        println!("process without peers: {}", memory(a));
        a.apply(&Default::default());
        a.drop_key(1);
        connect(a, b);
        deliver(a, b, 1, b"met");
        println!("process with one peer, idle: {}", memory(a));
        let (plain, inner): (IpAddr, IpAddr) = (Ipv4Addr::new(192, 0, 2, 2).into(), b.inner(1).into());
        for streams in [1, 4] {
            let (mut bare, mut sealed) = (Vec::new(), Vec::new());
            let (mut cpu, mut bytes) = (Duration::ZERO, 0.0);
            for _ in 0..ROUNDS {
                bare.push(stream(a, b, plain, streams));
                let (before, start) = (processor_time(a) + processor_time(b), Instant::now());
                let rate = stream(a, b, inner, streams);
                bytes += rate * 1e6 / 8.0 * start.elapsed().as_secs_f64();
                cpu += processor_time(a) + processor_time(b) - before;
                sealed.push(rate);
            }
            let rate = bytes * 8.0 / 1e6 / cpu.as_secs_f64();
            println!("TCP, {streams} streams: {rate:.0} Mbit/s for each processor that both processes had together");
            let (bare, sealed) = (show("bare link", streams, bare), show("tunnel", streams, sealed));
            println!("TCP, {streams} streams: tunnel/bare {:.3}", sealed / bare);
        }
        let (bare, sealed) = (round_trips(a, b, plain), round_trips(a, b, inner));
        println!("UDP round trip, median: bare {bare:?}, tunnel {sealed:?}");
        println!("process after that: {}", memory(a));
        many_peers(a);
    });
}

/// A device with as many peers as a large cluster has nodes.
fn many_peers(a: &Host) {
    for count in [1_000u16, 10_000] {
        let peers: Vec<_> = (0..count)
            .map(|n| {
                let mut key = [1; 32];
                key[..2].copy_from_slice(&n.to_be_bytes());
                berth_tunnel::model::Peer {
                    key: berth_tunnel::key::SecretKey::from_bytes(key).public(),
                    endpoint: (Ipv4Addr::new(127, 9, (n >> 8) as u8, n as u8), 9).into(),
                    inner: Ipv6Addr::new(0xfdbe, 2, 0, 0, 0, 0, 0, n),
                }
            })
            .collect();
        let start = Instant::now();
        a.apply(&a.desired(&peers, 1));
        let first = start.elapsed();
        let start = Instant::now();
        a.apply(&a.desired(&peers, 1));
        println!("{count} peers: added in {first:?}, compared in {:?}; process {}", start.elapsed(), memory(a));
    }
}

fn memory(host: &Host) -> String {
    let process = host.processes()[0];
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    format!("PSS {} KiB, private dirty {} KiB, RSS {} KiB", field("Pss:"), field("Private_Dirty:"), field("Rss:"))
}

/// What its process has used, to 10 ms.
fn processor_time(host: &Host) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", host.processes()[0])).unwrap();
    let fields: Vec<u64> =
        stat.rsplit_once(") ").unwrap().1.split(' ').filter_map(|field| field.parse().ok()).collect();
    // Behind the state, a letter: user and system time are the 11th and 12th.
    Duration::from_millis((fields[10] + fields[11]) * 10)
}

/// Mbit/s of some connections together, as received.
fn stream(a: &Host, b: &Host, to: IpAddr, streams: usize) -> f64 {
    let listener = b.inside(|| TcpListener::bind((to, 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let start = Instant::now();
    let total: u64 = std::thread::scope(|scope| {
        for _ in 0..streams {
            let mut client = a.inside(|| TcpStream::connect_timeout(&address, PATIENCE).unwrap());
            scope.spawn(move || {
                let data = vec![5; 256 << 10];
                while start.elapsed() < ROUND {
                    client.write_all(&data).unwrap();
                }
            });
        }
        let readers: Vec<_> = (0..streams)
            .map(|_| {
                let (mut server, _) = listener.accept().unwrap();
                scope.spawn(move || {
                    let (mut buffer, mut total) = (vec![0; 256 << 10], 0);
                    loop {
                        match server.read(&mut buffer).unwrap() {
                            0 => return total,
                            len => total += len as u64,
                        }
                    }
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum()
    });
    total as f64 * 8.0 / 1e6 / start.elapsed().as_secs_f64()
}

fn round_trips(a: &Host, b: &Host, to: IpAddr) -> Duration {
    let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let (server, client) = (b.socket(to), a.socket(any));
    client.connect(server.local_addr().unwrap()).unwrap();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        scope.spawn(|| echo(&server));
        let times = (0..2000).map(|_| {
            let start = Instant::now();
            client.send(b"?").unwrap();
            client.recv(&mut [0; 8]).unwrap();
            start.elapsed()
        });
        let times = times.collect();
        client.send(b"end").unwrap();
        times
    });
    times.sort();
    times[times.len() / 2]
}

fn echo(server: &UdpSocket) {
    let mut buffer = [0; 8];
    while let Ok((len, from)) = server.recv_from(&mut buffer) {
        if len == 3 {
            return;
        }
        server.send_to(&buffer[..len], from).unwrap();
    }
}

fn show(what: &str, streams: usize, mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    let text: Vec<String> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    let median = rates[rates.len() / 2];
    println!("{what}, {streams} streams: median {median:.0} Mbit/s of {}", text.join(", "));
    median
}
