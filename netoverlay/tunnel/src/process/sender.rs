//! Sending sealed packets in as few system calls as there can be: packets of one size to one peer leave together, and
//! the kernel or the card cuts them apart (`UDP_SEGMENT`).

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

/// Most packets in one call; kernels before 6.9 take no more.
const MAX_SEGMENTS: usize = 64;
/// Most bytes in one call: a UDP datagram's limit, with room for headers.
const MAX_BYTES: usize = 64_000;
/// Largest sealed packet: an IPv6 packet of any size and WireGuard's own bytes.
pub(super) const MAX_PACKET: usize = 65_535 + 64;

/// Packets that wait to leave together.
pub(super) struct Sender<'a> {
    socket: &'a UdpSocket,
    /// The waiting packets and behind them the next one.
    buffer: Vec<u8>,
    len: usize,
    count: usize,
    segment: usize,
    to: Option<SocketAddr>,
    /// Whether the last packet was shorter than the others: nothing may follow it.
    closed: bool,
    together: bool,
}

impl<'a> Sender<'a> {
    pub fn new(socket: &'a UdpSocket) -> Self {
        let buffer = vec![0; MAX_BYTES + MAX_PACKET];
        Self { socket, buffer, len: 0, count: 0, segment: 0, to: None, closed: false, together: true }
    }

    /// Where to put the next packet.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.len..]
    }

    /// Takes the packet of `len` bytes that was put there.
    pub fn push(&mut self, to: SocketAddr, len: usize) -> io::Result<()> {
        let joins = self.together
            && !self.closed
            && self.to == Some(to)
            && self.count < MAX_SEGMENTS
            && len <= self.segment
            && self.len + len <= MAX_BYTES;
        if joins {
            self.closed = len < self.segment;
        } else {
            let start = self.len;
            self.flush()?;
            self.buffer.copy_within(start..start + len, 0);
            (self.to, self.segment) = (Some(to), len);
            // A packet so large leaves no space for another: it goes alone.
            self.closed = len > MAX_BYTES / 2;
        }
        self.len += len;
        self.count += 1;
        if self.len >= MAX_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what waits.
    pub fn flush(&mut self) -> io::Result<()> {
        let (len, count, segment) = (self.len, self.count, self.segment);
        let Some(to) = self.to.take() else { return Ok(()) };
        (self.len, self.count, self.closed) = (0, 0, false);
        if count == 1 {
            return send(self.socket, &self.buffer[..len], to);
        }
        let size = segment as u16;
        let parts = [ControlMessage::UdpGsoSegments(&size)];
        let data = [IoSlice::new(&self.buffer[..len])];
        match sendmsg(self.socket.as_raw_fd(), &data, &parts, MsgFlags::empty(), Some(&SockaddrStorage::from(to))) {
            // A card that cannot, or a kernel before 4.18: one by one, now and from now on.
            Err(Errno::EIO | Errno::EINVAL | Errno::ENOPROTOOPT) => {
                self.together = false;
                self.buffer[..len].chunks(segment).try_for_each(|packet| send(self.socket, packet, to))
            }
            other => lost_or(other.map(drop).map_err(io::Error::from)),
        }
    }
}

/// Sends one packet.
pub(super) fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddr) -> io::Result<()> {
    lost_or(socket.send_to(packet, to).map(drop))
}

/// What cannot be sent is lost, as on any wire. Only a socket that is none any more is an error.
fn lost_or(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Err(error),
        _ => Ok(()),
    }
}
