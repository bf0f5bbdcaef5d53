//! Two throw-away hosts for one test: the test's process is started again inside network and mount namespaces of its
//! own, and makes two more, `a` and `b`, joined by a veth pair: 192.0.2.1 and 192.0.2.2, 2001:db8::1 and 2001:db8::2.

use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use berth_proto::id::NodeId;
use berth_tunnel::kernel::{Kind, Linux, Settings};
use berth_tunnel::key::SecretKey;
use berth_tunnel::model::{Desired, Device, Observed, Peer};
use berth_tunnel::name::{Instance, inner_address, port};
use berth_tunnel::{Report, Tunnels};
use nix::sched::{CloneFlags, setns};

const MARK: &str = "BERTH_TEST_HOST";
const BASE_PORT: u16 = 51820;
/// Long enough for a slow machine; no test waits it out when things are right.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a test on two hosts of its own.
pub fn on_two_hosts(name: &str, test: impl FnOnce(&Host, &Host)) {
    if std::env::var_os(MARK).is_none() {
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--include-ignored", "--test-threads", "1"])
            .env(MARK, "1")
            .status()
            .expect("util-linux's unshare is needed");
        assert!(status.success(), "{name} failed on its hosts: {status}");
        return;
    }
    sh("mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip netns add a && ip netns add b");
    sh("ip -n a link add eth0 type veth peer name eth0 netns b");
    for (host, n) in [("a", 1), ("b", 2)] {
        sh(&format!("ip -n {host} link set lo up && ip -n {host} link set eth0 up"));
        sh(&format!("ip -n {host} addr add 192.0.2.{n}/24 dev eth0"));
        sh(&format!("ip -n {host} -6 addr add 2001:db8::{n}/64 dev eth0 nodad"));
    }
    let (a, b) = (Host::new("a", 1), Host::new("b", 2));
    test(&a, &b);
    for host in [&a, &b] {
        host.apply(&Desired::default());
        assert_eq!(host.left(), "", "{}: nothing is left", host.name);
    }
}

/// The program that carries a userspace device.
pub fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_berth-tunnel").into()
}

/// One host and the keys that it has.
pub struct Host {
    pub name: &'static str,
    pub number: u8,
    node: NodeId,
    directory: tempfile::TempDir,
    keys: Mutex<Vec<(u64, SecretKey)>>,
}

impl Host {
    fn new(name: &'static str, number: u8) -> Self {
        let node = NodeId::from_random(u128::from(number) << 90 | 77);
        Self { name, number, node, directory: tempfile::tempdir().unwrap(), keys: Mutex::default() }
    }

    /// Whether it has the kernel's WireGuard; see `tests/in_kernel.sh`.
    fn in_kernel(&self) -> bool {
        std::env::var("BERTH_TUNNEL_IN_KERNEL").is_ok_and(|hosts| hosts.contains(self.name))
    }

    pub fn namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(self.name)
    }

    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(File::open(self.namespace()).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// Has a key of this generation from now on; gives the peer that others see.
    pub fn add_key(&self, generation: u64) -> Peer {
        let key = SecretKey::generate().unwrap();
        let public = key.public();
        self.keys.lock().unwrap().push((generation, key));
        let endpoint = SocketAddr::from(([192, 0, 2, self.number], port(BASE_PORT, generation)));
        Peer { key: public, endpoint, inner: self.inner(generation) }
    }

    pub fn drop_key(&self, generation: u64) {
        self.keys.lock().unwrap().retain(|(found, _)| *found != generation);
    }

    pub fn inner(&self, generation: u64) -> Ipv6Addr {
        inner_address(self.node, generation)
    }

    /// A device for each key, all with these peers.
    pub fn desired(&self, peers: &[Peer], send_by: u64) -> Desired {
        let device = |(generation, key): &(u64, SecretKey)| Device {
            name: instance().device(*generation),
            key: key.clone(),
            port: port(BASE_PORT, *generation),
            mtu: 1420,
            inner: self.inner(*generation),
            peers: peers.to_vec(),
        };
        let devices = self.keys.lock().unwrap().iter().map(device).collect();
        Desired { devices, send_by: Some(instance().device(send_by)) }
    }

    /// Where the processes' sockets are.
    pub fn sockets(&self) -> PathBuf {
        self.directory.path().join("tunnels")
    }

    fn tunnels(&self) -> Tunnels<Linux> {
        let settings = Settings {
            instance: instance(),
            kind: if self.in_kernel() { Kind::Kernel } else { Kind::Userspace },
            directory: self.sockets(),
            command: vec![program()],
        };
        Tunnels::new(Linux::open(settings).unwrap())
    }

    /// One pass as of a daemon that has just started.
    pub fn reconcile(&self, desired: &Desired) -> Report {
        self.inside(|| self.tunnels().reconcile(desired).unwrap())
    }

    /// One pass after which all is well; gives the steps.
    pub fn apply(&self, desired: &Desired) -> Vec<String> {
        let report = self.reconcile(desired);
        assert!(report.is_clean(), "{}: {report:?}", self.name);
        report.steps
    }

    pub fn observed(&self) -> Observed {
        self.inside(|| self.tunnels().observed().unwrap())
    }

    /// The processes of the host's devices, found as the machine sees them.
    pub fn processes(&self) -> Vec<i32> {
        let directory = self.directory.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains(directory) && line.contains("--inner") {
                found.push(pid);
            }
        }
        found
    }

    /// Whether as many devices are carried as there should be, by whatever carries them.
    pub fn carries(&self, devices: usize) -> bool {
        let processes = if self.in_kernel() { 0 } else { devices };
        self.observed().devices.len() == devices && self.processes().len() == processes
    }

    /// Devices, routes, processes and sockets of tunnels.
    pub fn left(&self) -> String {
        let name = self.name;
        let mut left =
            sh(&format!("ip -n {name} -o link | grep bthw || true; ip -n {name} -6 route | grep fdbe || true"));
        let sockets = self.sockets().read_dir().map_or(0, Iterator::count);
        if sockets > 0 || !self.processes().is_empty() {
            left.push_str(&format!("{sockets} sockets, processes {:?}", self.processes()));
        }
        left
    }

    pub fn socket(&self, address: impl Into<IpAddr>) -> UdpSocket {
        let address = address.into();
        let socket = self.inside(|| UdpSocket::bind((address, 0)).unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

/// Both hosts with one key each, and each other's.
pub fn connect(a: &Host, b: &Host) -> (Peer, Peer) {
    let (peer_a, peer_b) = (a.add_key(1), b.add_key(1));
    a.apply(&a.desired(std::slice::from_ref(&peer_b), 1));
    b.apply(&b.desired(std::slice::from_ref(&peer_a), 1));
    (peer_a, peer_b)
}

/// Sends a datagram from one host to the other's inner address, and gives what arrived and from whom.
pub fn deliver(from: &Host, to: &Host, generation: u64, text: &[u8]) -> (Vec<u8>, IpAddr) {
    let receiver = to.socket(to.inner(generation));
    let sender = from.socket(Ipv6Addr::UNSPECIFIED);
    sender.send_to(text, receiver.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 2000];
    let (len, source) = receiver.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), source.ip())
}

pub fn instance() -> Instance {
    Instance::new("bth").unwrap()
}

/// Runs a shell command outside of both hosts.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Waits until a state is as it should be, and says what it was last if it never is.
pub fn wait_for<T: std::fmt::Debug>(what: &str, mut state: impl FnMut() -> T, good: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let now = state();
        if good(&now) {
            return now;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: still {now:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
