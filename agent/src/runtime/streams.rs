//! Pipes and terminals as tokio streams.
//!
//! Owns making them non-blocking and reading a closed terminal as end of file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
    let half = |fd: OwnedFd| AsyncFd::register(fd).map(|fd| Box::new(Terminal(fd)));
    Ok((half(master.try_clone()?)?, half(master.try_clone()?)?, master))
}

struct Terminal(AsyncFd<OwnedFd>);

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let attempt = guard.try_io(|fd| {
                let mut chunk = [0; 4096];
                let room = buffer.remaining().min(chunk.len());
                let size = rustix::io::read(fd.get_ref().as_fd(), &mut chunk[..room])?;
                buffer.put_slice(&chunk[..size]);
                Ok(())
            });
            match attempt {
                // The last process has closed its side.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref().as_fd(), bytes)?)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
