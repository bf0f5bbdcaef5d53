//! A throw-away host for one test: the test's process is started again inside network and mount namespaces of its own, so
//! that nothing it makes is seen by (or survives on) the machine that runs it.
//!
//! Outside of the host there is one client machine, another namespace at the far end of a veth pair: host 192.0.2.1 and
//! 2001:db8::1, client 192.0.2.2 and 2001:db8::2.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use berth_netoverlay::model::{
    Attachment, Backend, DnsConfig, Driver, EndpointMode, Mode, Network, Proto, PublishedPort, SandboxSpec, Service,
    ServiceBackend, Subnet,
};
use berth_netoverlay::{Config, Overlay};
use berth_proto::id::{NetworkId, ServiceId, TaskId};
use nix::sched::{CloneFlags, setns};

const MARK: &str = "BERTH_TEST_HOST";
/// What translates virtual addresses in tests that do not say it: `nft`, `ebpf`, or what is usual.
const BACKEND_OF_ALL: &str = "BERTH_TEST_SERVICE_BACKEND";
static BACKEND: LazyLock<String> = LazyLock::new(|| std::env::var(BACKEND_OF_ALL).unwrap_or_default());
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Long enough for a slow machine; no test waits it out when things are right.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How often something is made and taken away again: `few` times, or as often as `BERTH_NET_ROUNDS` says, a multiple of 100 so
/// that the last round of a test takes its networks away too.
pub fn rounds(few: u16) -> u16 {
    std::env::var("BERTH_NET_ROUNDS").map_or(few, |rounds| rounds.parse().unwrap())
}

/// Runs a test on a host of its own.
pub fn on_a_host<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Host) -> F) {
    on_hosts(name, std::slice::from_ref(&*BACKEND), test);
}

/// Runs a test on a host of its own for each of the things that can translate virtual addresses.
pub fn by_each_backend<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Host) -> F) {
    on_hosts(name, &["nft", "ebpf"].map(str::to_owned), test);
}

/// The same for programs only.
pub fn by_programs<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Host) -> F) {
    on_hosts(name, &["ebpf".to_owned()], test);
}

fn on_hosts<F: Future<Output = ()>>(name: &str, backends: &[String], test: impl FnOnce(Host) -> F) {
    if std::env::var_os(MARK).is_none() {
        let me = std::env::current_exe().unwrap();
        for backend in backends {
            let status = Command::new("unshare")
                .args(["--net", "--mount", "--propagation", "private", "--"])
                .arg(&me)
                .args(["--exact", name, "--nocapture", "--test-threads", "1"])
                .env(MARK, "1")
                .env(BACKEND_OF_ALL, backend)
                .status()
                .expect("util-linux's unshare is needed");
            assert!(status.success(), "{name} ({backend}) failed on its host: {status}");
        }
        return;
    }
    let host = Host::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test(host));
}

pub struct Host {
    directory: tempfile::TempDir,
    client: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // iproute2's names live in a directory of this mount namespace.
        sh("mkdir -p /run/netns && mount -t tmpfs none /run/netns");
        sh("ip link set lo up && ip netns add client && ip link add up0 type veth peer name eth0 netns client");
        sh("ip addr add 192.0.2.1/24 dev up0 && ip -6 addr add 2001:db8::1/64 dev up0 nodad && ip link set up0 up");
        sh(
            "ip -n client link set lo up && ip -n client link set eth0 up && ip -n client addr add 192.0.2.2/24 dev eth0",
        );
        sh("ip -n client -6 addr add 2001:db8::2/64 dev eth0 nodad");
        std::fs::write(directory.path().join("resolv.conf"), "nameserver 192.0.2.2\nsearch corp.example\n").unwrap();
        Self { directory, client: PathBuf::from("/run/netns/client") }
    }

    pub fn config(&self) -> Config {
        Config {
            netns_dir: self.directory.path().join("netns"),
            bpf_dir: self.directory.path().join("bpf"),
            service_backend: match BACKEND.as_str() {
                "nft" => Some(ServiceBackend::Nft),
                "ebpf" => Some(ServiceBackend::Ebpf),
                _ => Config::default().service_backend,
            },
            resolv_conf: self.directory.path().join("resolv.conf"),
            ..Config::default()
        }
    }

    pub async fn overlay(&self) -> Overlay {
        Overlay::open(self.config()).await.unwrap()
    }

    /// The machine outside.
    pub fn client(&self) -> &Path {
        &self.client
    }

    /// The namespace of a task.
    pub fn task(&self, n: u8) -> PathBuf {
        self.directory.path().join("netns").join(task(n).to_string())
    }
}

/// Runs a shell command in the host's namespace.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{script}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs `work` in a namespace, in a thread of its own.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// The host itself, as a namespace to be `inside` of.
pub fn node() -> &'static Path {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    OWN.get_or_init(|| PathBuf::from(format!("/proc/{}/ns/net", std::process::id())))
}

/// A TCP server in a namespace that tells each client `<name> <client address>` and then echoes.
pub fn tcp_server(namespace: &Path, port: u16, name: &str) {
    let listener =
        inside(namespace, || TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))));
    let (listener, name) = (listener.unwrap(), name.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || greet(stream, &name));
        }
    });
}

fn greet(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    stream.write_all(format!("{name} {peer}\n").as_bytes())?;
    let mut buffer = [0; 256];
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..len])?;
    }
}

/// A UDP server in a namespace that answers every datagram with `<name> <client address>`.
pub fn udp_server(namespace: &Path, port: u16, name: &str) {
    let socket = inside(namespace, || UdpSocket::bind(("::", port)).or_else(|_| UdpSocket::bind(("0.0.0.0", port))));
    let (socket, name) = (socket.unwrap(), name.to_owned());
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
        }
    });
}

/// Connects from a namespace and keeps the connection; gives the greeting too.
pub fn connect(namespace: &Path, to: impl Into<SocketAddr>) -> io::Result<(TcpStream, String)> {
    let to = to.into();
    let mut stream = inside(namespace, || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" && stream.read(&mut byte)? == 1 {
        line.push(byte[0]);
    }
    Ok((stream, String::from_utf8_lossy(&line).trim().to_owned()))
}

/// The greeting of a TCP server.
pub fn ask(namespace: &Path, to: impl Into<SocketAddr>) -> io::Result<String> {
    connect(namespace, to).map(|(_, greeting)| greeting)
}

/// A client that connects again and again until it is stopped.
pub struct Calls {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<io::Error>)>,
}

impl Calls {
    pub fn start(from: &Path, to: impl Into<SocketAddr>) -> Self {
        let (from, to, stop) = (from.to_owned(), to.into(), Arc::new(AtomicBool::new(false)));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            setns(File::open(from).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            let (mut answered, mut failed) = (0, Vec::new());
            while !until.load(Ordering::Relaxed) {
                match TcpStream::connect_timeout(&to, PATIENCE) {
                    Ok(_) => answered += 1,
                    Err(error) => failed.push(error),
                }
            }
            (answered, failed)
        });
        Self { stop, thread }
    }

    /// How many were answered, and how the others failed.
    pub fn stop(self) -> (usize, Vec<io::Error>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Whether a new connection gets nowhere. A drop is only told apart from a slow answer by waiting.
pub fn is_dropped(namespace: &Path, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    let result = inside(namespace, || TcpStream::connect_timeout(&to, Duration::from_millis(400)));
    result.is_err_and(|e| matches!(e.kind(), io::ErrorKind::TimedOut | io::ErrorKind::NetworkUnreachable))
}

/// Whether a new connection is refused, not left hanging.
pub fn is_refused(namespace: &Path, to: impl Into<SocketAddr>) -> bool {
    let to = to.into();
    let result = inside(namespace, || TcpStream::connect_timeout(&to, PATIENCE));
    result.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

/// The answer of a UDP server.
pub fn ask_udp(socket: &UdpSocket, to: impl Into<SocketAddr>) -> io::Result<String> {
    ask_udp_within(socket, to, PATIENCE)
}

/// The answer of a UDP server, when it comes within a time: a datagram may be lost.
pub fn ask_udp_within(socket: &UdpSocket, to: impl Into<SocketAddr>, time: Duration) -> io::Result<String> {
    socket.set_read_timeout(Some(time))?;
    socket.connect(to.into())?;
    socket.send(b"?")?;
    let mut buffer = [0; 256];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
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

pub fn task(n: u8) -> TaskId {
    TaskId::from_random(0x1000_0000_0000_0000_0000 + u128::from(n))
}

pub fn net_id(n: u8) -> NetworkId {
    NetworkId::from_random(0x2000_0000_0000_0000_0000 + u128::from(n))
}

pub fn service_id(n: u8) -> ServiceId {
    ServiceId::from_random(0x3000_0000_0000_0000_0000 + u128::from(n))
}

/// Network `n` is `10.<n>.0.0/24`.
pub fn network(n: u8, name: &str) -> Network {
    Network {
        id: net_id(n),
        name: name.to_owned(),
        driver: Driver::Bridge,
        subnets: vec![Subnet::with_first_gateway(format!("10.{n}.0.0/24").parse().unwrap()).unwrap()],
        internal: false,
        encrypted: false,
        mtu: None,
        options: Default::default(),
    }
}

/// Task `t` on network `n` has `10.<n>.0.<t>`.
pub fn address(n: u8, t: u8) -> IpAddr {
    [10, n, 0, t].into()
}

/// A task on networks.
pub fn spec(t: u8, networks: &[u8]) -> SandboxSpec {
    let attachment = |n: &u8| Attachment {
        network: net_id(*n),
        addresses: vec![address(*n, t)],
        mac: None,
        aliases: Vec::new(),
        gateway_priority: 0,
    };
    SandboxSpec {
        task: task(t),
        name: format!("web.{t}.x"),
        hostname: format!("h{t}"),
        domainname: None,
        service: None,
        mode: Mode::Networks(networks.iter().map(attachment).collect()),
        ports: Vec::new(),
        dns: DnsConfig::default(),
        extra_hosts: Vec::new(),
        ready: true,
    }
}

/// A service of tasks on network `n` with the address `10.<n>.0.200`.
pub fn service(n: u8, tasks: &[u8], ports: &[PublishedPort]) -> Service {
    let backend = |t: &u8| Backend {
        task: task(*t),
        name: format!("web.{t}.x"),
        hostname: format!("h{t}"),
        node: None,
        addresses: [(net_id(n), vec![address(n, *t)])].into(),
        macs: Default::default(),
        outside: vec![address(n, *t)],
        ready: true,
        named: true,
    };
    Service {
        id: service_id(n),
        name: "shop_web".to_owned(),
        aliases: [(net_id(n), vec!["web".to_owned()])].into(),
        mode: EndpointMode::Vip,
        vips: [(net_id(n), vec![address(n, 200)])].into(),
        backends: tasks.iter().map(backend).collect(),
        ports: ports.to_vec(),
    }
}

pub fn port(proto: Proto, published: u16, target: u16) -> PublishedPort {
    PublishedPort { proto, host_ip: None, published, target }
}
