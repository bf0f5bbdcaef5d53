//! The frames of one interface, with what the kernel left undone of them: checksums and segments go out as they came in.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Largest frame before it is cut into segments, with its headers.
pub const MAX_FRAME: usize = 70_000;

/// A packet socket (packet(7)) of one interface.
pub struct Frames(OwnedFd);

impl Frames {
    /// All frames that come in at the interface of that name, of this thread's network namespace.
    pub fn of(interface: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and is nobody else's.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.switch_on(libc::PACKET_VNET_HDR)?;
        socket.switch_on(libc::PACKET_IGNORE_OUTGOING)?;
        // SAFETY: all zeros is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(index).expect("indices are small");
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll and `length` its size.
        let bound = unsafe { libc::bind(fd, (&raw const address).cast(), length) };
        if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
    }

    fn switch_on(&self, option: i32) -> io::Result<()> {
        let on: i32 = 1;
        let length = size_of::<i32>() as libc::socklen_t;
        // SAFETY: `on` is an int and `length` its size.
        let set =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), length) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next frame that is there, as [`Self::send`] takes it; `None` when there is none.
    pub fn receive(&self, into: &mut [u8]) -> Option<usize> {
        // SAFETY: `into` may be written to over its whole length.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) };
        usize::try_from(length).ok()
    }

    /// Sends a frame out. One that the interface does not take is lost, as on any wire.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` may be read over its whole length.
        unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
    }
}

impl AsFd for Frames {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
