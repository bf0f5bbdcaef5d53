//! What the threads of the process share: the TUN device, the UDP socket, the peers.
//!
//! A device has its key and port once and for ever; its peers change.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::x25519::{PublicKey as Point, StaticSecret};
use nix::sys::socket::{setsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::peers::Peers;
use super::{inward, outward, privileges};
use crate::key::SecretKey;
use crate::name::DeviceName;

/// Handshakes a second before clients have to prove their address with a cookie. Each is verified twice, so half of it.
const HANDSHAKES: u64 = 2000;
/// Room for what arrives while the threads are busy, bytes.
const BUFFER: usize = 4 << 20;
const STACK: usize = 128 << 10;

/// The device.
pub(super) struct Device {
    pub name: DeviceName,
    pub tun: File,
    link: OnceLock<Arc<Link>>,
    broken: AtomicBool,
}

/// The device once it has a key.
pub(super) struct Link {
    pub key: SecretKey,
    pub secret: StaticSecret,
    pub public: Point,
    pub socket: UdpSocket,
    pub port: u16,
    v6: bool,
    pub limiter: Arc<RateLimiter>,
    pub peers: Peers,
}

impl Device {
    pub fn new(name: DeviceName, tun: File) -> Self {
        Self { name, tun, link: OnceLock::new(), broken: AtomicBool::new(false) }
    }

    pub fn link(&self) -> Option<&Arc<Link>> {
        self.link.get()
    }

    /// Whether a thread had to give up: the TUN device is gone, or the socket.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether the TUN device was deleted.
    pub fn is_unplugged(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(&self.tun, PollFlags::ERR)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fds[0].revents().contains(PollFlags::ERR))
    }

    /// Opens the port and starts to carry packets. To be told the same again is no error; another key or port is.
    pub fn begin(self: &Arc<Self>, key: &SecretKey, port: u16) -> io::Result<()> {
        if let Some(link) = self.link.get() {
            let same = link.key == *key && link.port == port;
            return if same { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBUSY)) };
        }
        let link = Arc::new(Link::open(key, port)?);
        privileges::drop_all()?;
        self.thread("out", Arc::clone(&link), outward::run)?;
        self.thread("in", Arc::clone(&link), inward::run)?;
        // Set by this thread only.
        let _ = self.link.set(link);
        Ok(())
    }

    fn thread(
        self: &Arc<Self>,
        name: &str,
        link: Arc<Link>,
        work: fn(&Device, &Link) -> io::Result<()>,
    ) -> io::Result<()> {
        let device = Arc::clone(self);
        let body = move || {
            // Also when it panics: half a tunnel is none, and the daemon starts another.
            let _guard = Broken(&device);
            let _ = work(&device, &link);
        };
        std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(body).map(drop)
    }
}

struct Broken<'a>(&'a Device);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        self.0.broken.store(true, Ordering::Relaxed);
    }
}

impl Link {
    fn open(key: &SecretKey, port: u16) -> io::Result<Self> {
        // Both families where the host has them.
        let (socket, v6) = match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Ok(socket) => (socket, true),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(_) => (UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?, false),
        };
        // Without the privilege the host's limit holds, and bursts are lost earlier.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER);
        // Kernels before 5.0 hand over each datagram by itself.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        let secret = key.curve();
        let public = Point::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES));
        Ok(Self { key: key.clone(), secret, public, socket, port, v6, limiter, peers: Peers::default() })
    }

    /// An endpoint as the socket takes it.
    pub fn address(&self, endpoint: SocketAddr) -> SocketAddr {
        match endpoint {
            SocketAddr::V4(v4) if self.v6 => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            other => other,
        }
    }
}
