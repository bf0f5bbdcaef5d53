//! What virtual addresses cost by the packet filter and by programs, side by side. Needs root; runs on a throw-away host
//! (namespaces), so the machine is not touched.
//!
//! `cargo bench -p berth-netoverlay --bench backends` prints one line per figure: what, n, median, quartiles, 99th percentile. Two
//! daemons share the host, one of each kind, and what is compared is measured in turn, some hundred calls each, so that a busy
//! machine is busy for both.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "shared with the kernel tests, which use all of it")]
#[path = "../tests/kernel/host.rs"]
mod host;

use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_netoverlay::model::{Service, ServiceBackend};
use berth_netoverlay::names::Instance;
use berth_netoverlay::{Config, Overlay};
use berth_proto::id::ServiceId;
use host::*;

const ROUNDS: usize = 25;
const CALLS: usize = 200;

/// A daemon with tasks 2 and 3 on a network of its own.
struct Daemon {
    name: &'static str,
    overlay: Overlay,
    network: u8,
    netns: PathBuf,
}

impl Daemon {
    async fn start(host: &Host, name: &'static str, backend: ServiceBackend, network_number: u8) -> Self {
        let mut config = Config { service_backend: Some(backend), table: name.to_owned(), ..host.config() };
        config.instance = Instance::new(&name[..3]).unwrap();
        config.netns_dir.set_file_name(name);
        config.bpf_dir.set_file_name(format!("{name}-bpf"));
        let netns = config.netns_dir.clone();
        let overlay = Overlay::open(config).await.unwrap();
        overlay.set_networks(vec![network(network_number, name)]).await.unwrap();
        overlay.reconcile().await.unwrap();
        Self { name, overlay, network: network_number, netns }
    }

    fn task(&self, t: u8) -> PathBuf {
        self.netns.join(task(t).to_string())
    }

    /// Service `n` of many; the first one leads to task 3.
    fn service(&self, n: u16, shift: u8) -> Service {
        let web = service(self.network, &[3], &[]);
        if n == 0 {
            return web;
        }
        let [high, low] = n.to_be_bytes();
        let backend = |b: u8| {
            let mut backend = web.backends[0].clone();
            backend.addresses = [(net_id(self.network), vec![[10, 98, shift, b].into()])].into();
            backend
        };
        Service {
            id: ServiceId::from_random(u128::from(n)),
            name: format!("s{n}"),
            aliases: Default::default(),
            vips: [(net_id(self.network), vec![[10, 99, high, low].into()])].into(),
            backends: (0..16).map(backend).collect(),
            ..web.clone()
        }
    }

    fn services(&self, count: u16, shift: u8) -> Vec<Service> {
        (0..count).map(|n| self.service(n, shift)).collect()
    }
}

fn main() {
    on_a_host("backends", async |host| {
        let nft = Daemon::start(&host, "nft", ServiceBackend::Nft, 1).await;
        let ebpf = Daemon::start(&host, "ebpf", ServiceBackend::Ebpf, 2).await;
        for daemon in [&nft, &ebpf] {
            programming(daemon, "no task").await;
            for t in [2, 3] {
                daemon.overlay.attach(spec(t, &[daemon.network])).await.unwrap();
            }
            programming(daemon, "2 tasks").await;
            tcp_server(&daemon.task(3), 80, "three");
            udp_server(&daemon.task(3), 80, "three");
        }
        for count in [1, 1000] {
            for daemon in [&nft, &ebpf] {
                daemon.overlay.set_services(daemon.services(count, 0)).await.unwrap();
            }
            calls(&[&nft, &ebpf], count);
        }
        for daemon in [&nft, &ebpf] {
            listing(daemon).await;
        }
        nft.overlay.teardown().await.unwrap();
        ebpf.overlay.teardown().await.unwrap();
    });
}

/// 1,000 services of 16 backends in a node's kernel.
async fn programming(daemon: &Daemon, tasks: &str) {
    let (mut fill, mut replace, mut one) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..20u8 {
        daemon.overlay.set_services(Vec::new()).await.unwrap();
        for (shift, times) in [(2 * round, &mut fill), (2 * round + 1, &mut replace)] {
            let services = daemon.services(1000, shift);
            let start = Instant::now();
            assert!(daemon.overlay.set_services(services).await.unwrap().is_clean());
            times.push(start.elapsed());
        }
    }
    for round in 0..100u8 {
        let mut service = daemon.service(500, 39);
        service.backends.truncate(1 + usize::from(round % 16));
        let start = Instant::now();
        daemon.overlay.set_service(service).await.unwrap();
        one.push(start.elapsed());
    }
    show(&format!("{}: fill 1,000 services x 16, {tasks}", daemon.name), fill);
    show(&format!("{}: replace 1,000 services x 16, {tasks}", daemon.name), replace);
    show(&format!("{}: change one of 1,000 services, {tasks}", daemon.name), one);
}

async fn listing(daemon: &Daemon) {
    let mut list = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        assert!(daemon.overlay.reconcile().await.unwrap().steps.is_empty());
        list.push(start.elapsed());
    }
    show(&format!("{}: list and compare, 2 tasks, 1,000 services x 16", daemon.name), list);
}

/// Connections and datagrams to the backend itself and to the virtual address.
fn calls(daemons: &[&Daemon], count: u16) {
    let targets = daemons.iter().flat_map(|daemon| {
        let (from, network) = (daemon.task(2), daemon.network);
        [("directly", 3), ("to VIP", 200)].map(|(how, t)| (daemon.name, how, from.clone(), address(network, t)))
    });
    let targets: Vec<_> = targets.collect();
    let sockets: Vec<UdpSocket> =
        targets.iter().map(|target| inside(&target.2, || UdpSocket::bind("0.0.0.0:0").unwrap())).collect();
    let mut times = vec![(Vec::new(), Vec::new()); targets.len()];
    for _ in 0..ROUNDS {
        for (((_, _, from, to), socket), (tcp, udp)) in targets.iter().zip(&sockets).zip(&mut times) {
            tcp.extend(connects(from, *to));
            udp.extend((0..CALLS).map(|_| exchange(socket, *to)));
        }
    }
    for ((name, how, _, _), (tcp, udp)) in targets.iter().zip(times) {
        show(&format!("{name}: connect {how}, {count} services"), tcp);
        show(&format!("{name}: datagram and answer {how}, {count} services"), udp);
    }
}

fn connects(from: &Path, to: IpAddr) -> Vec<Duration> {
    let one = |_| {
        let start = Instant::now();
        let stream = TcpStream::connect((to, 80)).unwrap();
        let time = start.elapsed();
        drop(stream);
        time
    };
    inside(from, || (0..CALLS).map(one).collect())
}

fn exchange(socket: &UdpSocket, to: IpAddr) -> Duration {
    let start = Instant::now();
    socket.send_to(b"?", (to, 80)).unwrap();
    socket.recv_from(&mut [0; 64]).unwrap();
    start.elapsed()
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    let (n, median, low, high, worst) = (times.len(), at(0.5), at(0.25), at(0.75), at(0.99));
    println!("{what:<60} n {n:>5}  median {median:>8.4} ms  quartiles {low:>8.4} {high:>8.4}  p99 {worst:>8.4} ms");
}
