//! A machine on the hosts' wire that is no part of the cluster: a client of what the cluster publishes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// Before an answer that does not come counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `work` in a network namespace, in a thread of its own.
///
/// # Panics
/// When the namespace cannot be entered.
pub fn inside<T: Send>(namespace: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let namespace = File::open(namespace).expect("a network namespace");
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("tests run as root");
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter();
            work()
        });
        thread.join().expect("the work does not panic")
    })
}

/// Such a machine. Dropping it takes it away.
pub struct Outside {
    keeper: Child,
    address: IpAddr,
}

impl Outside {
    pub(crate) fn new(address: IpAddr) -> Self {
        // Without a look for duplicates its addresses stay as they are: a browser gives up what it loads when they change.
        let script = "
            for of in all default; do echo 0 > /proc/sys/net/ipv6/conf/$of/accept_dad; done
            ip link set lo up && echo ready && read -r _";
        let keeper = crate::host::keeper(Command::new("unshare").args(["--net", "sh", "-ec", script]));
        Self { keeper, address }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Its address on the wire.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its network namespace.
    pub fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.keeper.id()).into()
    }

    /// All that a TCP server says until it closes.
    pub fn ask(&self, to: SocketAddr) -> io::Result<String> {
        ask(&self.namespace(), to)
    }

    /// What a UDP server answers.
    pub fn ask_udp(&self, to: SocketAddr) -> io::Result<String> {
        ask_udp(&self.namespace(), to)
    }

    /// Whether a new TCP connection is refused, not left hanging.
    pub fn is_refused(&self, to: SocketAddr) -> bool {
        self.ask(to).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Requests over HTTP, each on a connection of its own, one after the other by each of `threads`, to the addresses in turn.
    pub fn load(&self, to: &[SocketAddr], threads: usize) -> Load {
        Load::start(&self.namespace(), to, threads)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// All that a TCP server says until it closes, asked from a namespace.
pub fn ask(namespace: &Path, to: SocketAddr) -> io::Result<String> {
    let mut stream = inside(namespace, || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// What a UDP server answers, asked from a namespace.
pub fn ask_udp(namespace: &Path, to: SocketAddr) -> io::Result<String> {
    let any: SocketAddr = if to.is_ipv6() { ([0u16; 8], 0).into() } else { ([0u8; 4], 0).into() };
    let socket = inside(namespace, || UdpSocket::bind(any))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"?\n")?;
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).trim().to_owned())
}

/// Requests that go on until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Answers>>,
}

/// What became of the requests.
#[derive(Debug, Default)]
pub struct Answers {
    /// Those that were answered with 200.
    pub answered: usize,
    /// The others: when they failed, and how.
    pub failed: Vec<(Instant, String)>,
    /// How long answers took, each.
    pub times: Vec<Duration>,
}

impl Load {
    fn start(namespace: &Path, to: &[SocketAddr], threads: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let start = |first| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            let (namespace, to) = (namespace.to_owned(), to.to_vec());
            std::thread::spawn(move || {
                setns(File::open(namespace).expect("a namespace"), CloneFlags::CLONE_NEWNET)
                    .expect("tests run as root");
                let mut answers = Answers::default();
                for to in to.iter().cycle().skip(first) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    answers.note(*to);
                    done.fetch_add(1, Ordering::Relaxed);
                }
                answers
            })
        };
        let threads = (0..threads).map(start).collect();
        Self { stop, done, threads }
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until there were that many in all.
    pub fn wait_for(&self, requests: usize) {
        while self.done.load(Ordering::Relaxed) < requests {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends them once there were that many in all.
    pub fn stop_after(self, requests: usize) -> Answers {
        self.wait_for(requests);
        self.stop()
    }

    /// Ends them.
    ///
    /// # Panics
    /// When a client thread did.
    pub fn stop(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Answers::default();
        for thread in self.threads {
            let part = thread.join().expect("a client thread does not panic");
            all.answered += part.answered;
            all.failed.extend(part.failed);
            all.times.extend(part.times);
        }
        all.failed.sort_by_key(|(at, _)| *at);
        all
    }
}

impl Answers {
    fn note(&mut self, to: SocketAddr) {
        let start = Instant::now();
        match request(to) {
            Ok(text) if text.starts_with("HTTP/1.1 200") || text.starts_with("HTTP/1.0 200") => {
                self.answered += 1;
                self.times.push(start.elapsed());
            }
            Ok(text) => {
                self.failed.push((start, format!("{to} answers {:?}", text.lines().next().unwrap_or_default())))
            }
            Err(error) => {
                self.failed.push((start, format!("{to}: {error}")));
                // A server that refuses is asked again a little later.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn request(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: web\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
