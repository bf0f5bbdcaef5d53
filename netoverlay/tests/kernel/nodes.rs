//! Several throw-away hosts on one wire, for one test: the test's process is started again as a switch, and by that once for
//! each host. All hosts run the same test and know which one they are; they wait for each other at steps.
//!
//! Host `n` has 198.51.100.`n+1` and 2001:db8:100::`n+1` on the wire, and the client machine that every host has. No client is
//! known to another host than its own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use berth_netoverlay::model::{Backend, Driver, Network, Nodes, Peer, Service, Subnet};
use berth_proto::id::NodeId;

use crate::host::*;

const ROLE: &str = "BERTH_TEST_NODE";
const MEETING: &str = "BERTH_TEST_MEETING";
/// Steps wait for the slowest of all hosts.
const STEP: Duration = Duration::from_secs(180);

/// Runs a test on that many hosts at the same time.
pub fn on_nodes<F: Future<Output = ()>>(name: &str, count: u8, test: impl FnOnce(Node) -> F) {
    match std::env::var(ROLE).ok().as_deref() {
        None => {
            let meeting = tempfile::tempdir().unwrap();
            let status = again(name, "switch", meeting.path()).wait().expect("util-linux's unshare is needed");
            assert!(status.success(), "{name} failed on its hosts: {status}");
        }
        Some("switch") => switch(name, count),
        Some(at) => {
            let at = at.parse().unwrap();
            let node = Node { at, count, meeting: std::env::var_os(MEETING).unwrap().into(), host: Host::new() };
            let wired = || sh("ip -o link").contains(" wire");
            wait_for("the wire", wired, |wired| *wired);
            sh(&format!(
                "ip addr add {}/24 dev wire && ip -6 addr add {}/64 dev wire nodad && ip link set wire up",
                underlay(at),
                underlay6(at)
            ));
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(test(node));
        }
    }
}

fn again(name: &str, role: &str, meeting: &Path) -> Child {
    Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .envs([(ROLE, role), (MEETING, meeting.to_str().unwrap())])
        .spawn()
        .unwrap()
}

fn switch(name: &str, count: u8) {
    let meeting = PathBuf::from(std::env::var_os(MEETING).unwrap());
    sh("ip link set lo up && ip link add wire type bridge && ip link set wire up");
    let mut hosts: Vec<Child> = (0..count).map(|at| again(name, &at.to_string(), &meeting)).collect();
    for (at, host) in hosts.iter().enumerate() {
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = || std::fs::read_link(format!("/proc/{}/ns/net", host.id())).ok();
        wait_for("a host's namespace", theirs, |theirs| theirs.as_ref().is_some_and(|theirs| *theirs != own));
        sh(&format!(
            "ip link add port{at} type veth peer name wire netns {} && ip link set port{at} master wire up",
            host.id()
        ));
    }
    let mut failed = 0;
    while let Some(at) = (!hosts.is_empty()).then(|| next_ended(&mut hosts)) {
        let mut host = hosts.remove(at);
        if !host.wait().unwrap().success() {
            failed += 1;
            // The others wait for it at the next step.
            std::fs::write(meeting.join("failed"), "").unwrap();
        }
    }
    assert_eq!(failed, 0, "{failed} hosts failed");
}

fn next_ended(hosts: &mut [Child]) -> usize {
    loop {
        if let Some(at) = hosts.iter_mut().position(|host| host.try_wait().unwrap().is_some()) {
            return at;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One of the hosts.
pub struct Node {
    pub at: u8,
    pub count: u8,
    pub host: Host,
    meeting: PathBuf,
}

impl Node {
    /// Waits until all hosts have come to this step.
    pub fn step(&self, name: &str) {
        std::fs::write(self.meeting.join(format!("{name}.{}", self.at)), "").unwrap();
        let start = Instant::now();
        while !(0..self.count).all(|at| self.meeting.join(format!("{name}.{at}")).exists()) {
            assert!(!self.meeting.join("failed").exists(), "another host failed");
            assert!(start.elapsed() < STEP, "the others do not come to {name}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// This host among all of them.
    pub fn nodes(&self) -> Nodes {
        self.nodes_without(&[])
    }

    /// The same as long as some are not known.
    pub fn nodes_without(&self, unknown: &[u8]) -> Nodes {
        let others = (0..self.count).filter(|at| *at != self.at && !unknown.contains(at));
        let peers = others.map(|at| (node_id(at), peer(at))).collect();
        Nodes { own: Some(peer(self.at)), peers, ..Nodes::default() }
    }

    /// A service as this host sees it: its own tasks are nobody else's.
    pub fn sees(&self, mut service: Service) -> Service {
        let own = node_id(self.at);
        service.backends.iter_mut().for_each(|backend| backend.node = backend.node.filter(|node| *node != own));
        service
    }
}

pub fn underlay(at: u8) -> IpAddr {
    [198, 51, 100, at + 1].into()
}

pub fn underlay6(at: u8) -> IpAddr {
    format!("2001:db8:100::{:x}", at + 1).parse().unwrap()
}

/// Where packets of encrypted networks for a host go.
pub fn secure(at: u8) -> IpAddr {
    format!("fdbe::{:x}", at + 1).parse().unwrap()
}

/// The same network, encrypted between nodes.
pub fn encrypted(network: Network) -> Network {
    Network { encrypted: true, ..network }
}

pub fn node_id(at: u8) -> NodeId {
    NodeId::from_random(0x4000_0000_0000_0000_0000 + u128::from(at))
}

/// Host `n` has 10.255.0.`n+2` and fd00:255::`n+2` on the ingress network.
pub fn peer(at: u8) -> Peer {
    let ingress = [format!("10.255.0.{}/16", at + 2), format!("fd00:255::{:x}/64", at + 2)];
    Peer {
        address: underlay(at),
        ingress: ingress.iter().map(|net| net.parse().unwrap()).collect(),
        direct: false,
        secure: None,
    }
}

/// An overlay network `10.<n>.0.0/24`, `fd00:<n>::/64`.
pub fn overlay_network(n: u8) -> Network {
    let mut network = network(n, &format!("o{n}"));
    network.driver = Driver::Overlay { vni: 4096 + u32::from(n) };
    network.subnets.push(Subnet::with_first_gateway(format!("fd00:{n}::/64").parse().unwrap()).unwrap());
    network
}

pub fn ingress_network() -> Network {
    Network {
        id: net_id(255),
        name: "ingress".to_owned(),
        driver: Driver::Ingress { vni: 4351 },
        ..overlay_network(255)
    }
}

/// The IPv6 address of task `t` on network `n`.
pub fn address6(n: u8, t: u8) -> IpAddr {
    format!("fd00:{n}::{t:x}").parse().unwrap()
}

/// A task of an overlay network, with addresses of both families.
pub fn overlay_spec(t: u8, n: u8) -> berth_netoverlay::model::SandboxSpec {
    let mut spec = spec(t, &[n]);
    if let berth_netoverlay::model::Mode::Networks(attachments) = &mut spec.mode {
        attachments[0].addresses.push(address6(n, t));
    }
    spec
}

/// A service of tasks on overlay network `n`, each with its node; virtual addresses 10.`n`.0.200 and fd00:`n`::c8.
pub fn spread_service(n: u8, tasks: &[(u8, u8)], ports: &[berth_netoverlay::model::PublishedPort]) -> Service {
    let backend = |(t, at): &(u8, u8)| Backend {
        node: Some(node_id(*at)),
        addresses: [(net_id(n), vec![address(n, *t), address6(n, *t)])].into(),
        outside: vec![address(n, *t), address6(n, *t)],
        ..service(n, &[*t], &[]).backends.remove(0)
    };
    Service {
        vips: [(net_id(n), vec![address(n, 200), address6(n, 200)])].into(),
        backends: tasks.iter().map(backend).collect(),
        ..service(n, &[], ports)
    }
}
