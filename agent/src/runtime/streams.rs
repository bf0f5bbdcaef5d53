//! Pipes and terminals as tokio streams.
//!
//! Owns making them non-blocking and reading a closed terminal as end of file.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;

use super::{Input, Output};

/// A pipe out of a process: our end, the end to give away. `size` is the kernel's buffer in bytes.
pub(super) fn output_pipe(size: Option<usize>) -> io::Result<(Output, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Some(size) = size {
        let _ = rustix::pipe::fcntl_setpipe_size(&write, size);
    }
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((Box::new(pipe::Receiver::from_owned_fd(read)?), write))
}

/// A pipe into a process: our end, the end to give away.
pub(super) fn input_pipe() -> io::Result<(Input, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&write, true)?;
    Ok((Box::new(pipe::Sender::from_owned_fd(write)?), read))
}

/// A terminal's master, as input and output, and a copy for resizing.
pub(super) fn terminal(master: OwnedFd) -> io::Result<(Input, Output, OwnedFd)> {
    rustix::io::ioctl_fionbio(&master, true)?;
    // To the reactor a terminal is what a pipe is: readable, writable, closed.
    let input = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    let output = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
    Ok((Box::new(input), Box::new(Terminal(output)), master))
}

/// The reading side; it fails where a pipe would end.
struct Terminal(pipe::Receiver);

impl AsyncRead for Terminal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            // The last process has closed its side.
            Poll::Ready(Err(error)) if error.raw_os_error() == Some(libc::EIO) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}
