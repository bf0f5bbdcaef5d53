//! One connection to a shim, on tokio.
//!
//! Owns waiting; framing and descriptors are `berth_shim::protocol`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net as std_net;
use std::path::Path;

use berth_shim::protocol::{self, ProtocolError, Receiver, Reply, Request};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Longest path in a socket address, with its terminating NUL.
const MAX_ADDRESS: usize = 107;

/// A connection; dropping it ends an exec that was started on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    receiver: Receiver,
}

/// Runs `call` with a path to `socket` that fits an address, however deep its directory is.
fn with_address<T>(socket: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if socket.as_os_str().len() <= MAX_ADDRESS {
        return call(socket);
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = File::open(parent)?;
    call(&Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name))
}

/// Binds the socket a shim will inherit.
pub(super) fn listen(socket: &Path) -> io::Result<std_net::UnixListener> {
    with_address(socket, |path| std_net::UnixListener::bind(path))
}

impl Connection {
    /// Connects; refused when the shim is gone.
    pub(super) fn open(socket: &Path) -> io::Result<Self> {
        // A unix connect succeeds or fails at once while the backlog has room.
        let stream = with_address(socket, |path| std_net::UnixStream::connect(path))?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, receiver: Receiver::default() })
    }

    /// Sends a request with its descriptors.
    pub(super) async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), ProtocolError> {
        let frame = protocol::encode(request)?;
        let mut sent = 0;
        while sent < frame.len() {
            let fds = if sent == 0 { fds } else { &[] };
            let write = || protocol::send(self.stream.as_fd(), &frame[sent..], fds);
            sent += self.stream.async_io(Interest::WRITABLE, write).await?;
        }
        Ok(())
    }

    /// The next reply; `None` when the shim has closed. Cancel-safe: what was read is kept.
    pub(super) async fn receive(&mut self) -> Result<Option<Reply>, ProtocolError> {
        loop {
            if let Some(reply) = self.receiver.message()? {
                return Ok(Some(reply));
            }
            let Self { stream, receiver } = self;
            if !stream.async_io(Interest::READABLE, || receiver.fill(stream.as_fd())).await? {
                return Ok(None);
            }
        }
    }

    /// Sends and waits for the answer; the shim closing is [`ProtocolError::Truncated`].
    pub(super) async fn call(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Reply, ProtocolError> {
        self.send(request, fds).await?;
        self.receive().await?.ok_or(ProtocolError::Truncated)
    }

    /// Descriptors that came with replies.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.receiver.take_fds()
    }
}
