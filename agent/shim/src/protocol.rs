//! Requests and replies between agent and shim, and how they travel.
//!
//! Owns the framing: a little-endian `u32` length, that many bytes of JSON, file descriptors
//! attached to the first byte (`SCM_RIGHTS`). Works on blocking and non-blocking sockets alike and
//! must never block by itself.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::exit::ExitRecord;

/// Longest frame accepted, in bytes: an exec with a big environment fits.
pub const MAX_FRAME: usize = 1 << 20;
/// Most file descriptors in one message.
pub const MAX_FDS: usize = 4;

/// What the agent asks of a shim. One connection carries any number, answered in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Reply::State`] now and again at every change.
    Subscribe,
    /// Lets the command run; [`Reply::Done`] once it was executed.
    Start,
    /// Sends a signal to the first process, or on an exec's connection to that process.
    Signal {
        /// Number.
        signal: i32,
    },
    /// Resizes the container's terminal, or on an exec's connection that one.
    Resize {
        /// Lines.
        rows: u16,
        /// Columns.
        cols: u16,
    },
    /// Runs another process; the descriptors are its stdin, stdout, stderr, or none with a terminal.
    /// Answered by [`Reply::ExecStarted`] and later [`Reply::Exited`]. Closing the connection kills it, unless it is detached.
    Exec(ExecRequest),
    /// Copies the output to the descriptors: stdout, stderr, and stdin's read end when asked.
    Attach {
        /// A third descriptor feeds the container's standard input.
        stdin: bool,
    },
    /// Keeps a descriptor for a later life of the agent.
    KeepFd {
        /// Under this name; an older one is closed.
        name: String,
    },
    /// Hands out a copy of a kept descriptor.
    TakeFd {
        /// Name it was kept under.
        name: String,
    },
    /// Kills the container if there is one, and ends the shim.
    Shutdown,
}

/// A process to run beside the container's first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Command.
    pub args: Vec<String>,
    /// `KEY=VALUE` on top of the container's.
    pub env: Vec<String>,
    /// The container's when `None`.
    pub cwd: Option<String>,
    /// The container's when `None`.
    pub user: Option<String>,
    /// Rows and columns of its terminal.
    pub tty: Option<(u16, u16)>,
    /// All capabilities there are, no seccomp.
    pub privileged: bool,
    /// It runs on when its client goes; its terminal, if any, is the shim's.
    #[serde(default)]
    pub detach: bool,
}

/// What a shim answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "re", rename_all = "snake_case")]
pub enum Reply {
    /// Where the container is.
    State(State),
    /// The request was carried out.
    Done,
    /// It was not.
    Failed(Failure),
    /// The exec runs; with a terminal its master descriptor comes along.
    ExecStarted {
        /// Process id seen from the host.
        pid: i32,
    },
    /// The exec has ended.
    Exited(ExitRecord),
    /// The descriptor asked for comes along.
    Fd,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub enum State {
    /// It could not be created.
    Failed(Failure),
    /// Set up, waiting for `Start`.
    Created {
        /// First process.
        pid: i32,
    },
    /// Its command runs.
    Running {
        /// First process.
        pid: i32,
    },
    /// It has ended.
    Exited(ExitRecord),
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// In words, with the object's name.
    pub message: String,
    /// 126 or 127 when the command itself is at fault.
    pub command_exit_code: Option<i32>,
}

impl Failure {
    /// A failure that is not the command's fault.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), command_exit_code: None }
    }

    /// A command that cannot be run, with the code a shell would give.
    pub fn command(message: impl Into<String>, exit_code: i32) -> Self {
        Self { message: message.into(), command_exit_code: Some(exit_code) }
    }
}

/// What can go wrong on the wire.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The socket failed.
    #[error("shim socket: {0}")]
    Io(#[from] io::Error),
    /// The other side closed in the middle of a message.
    #[error("shim socket closed in the middle of a message")]
    Truncated,
    /// A message larger than [`MAX_FRAME`].
    #[error("shim message of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLong(usize),
    /// Not a message of this protocol.
    #[error("shim message: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Bytes of one message, ready for [`send`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let len = frame.len() - 4;
    if len > MAX_FRAME {
        return Err(ProtocolError::TooLong(len));
    }
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(frame)
}

/// Sends as much of `bytes` as the socket takes, `fds` with the first byte; returns the count.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Sends one whole message on a blocking socket.
pub fn send_all<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> Result<(), ProtocolError> {
    let frame = encode(message)?;
    let mut sent = send(&socket, &frame, fds)?;
    while sent < frame.len() {
        sent += send(&socket, &frame[sent..], &[])?;
    }
    Ok(())
}

/// Collects messages and descriptors from a socket.
#[derive(Debug, Default)]
pub struct Receiver {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Receiver {
    /// Reads once. `Ok(false)` is the end of the stream; `WouldBlock` passes through as an error.
    pub fn fill(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut chunk = [0u8; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.fds.extend(fds);
            }
        }
        self.bytes.extend_from_slice(&chunk[..message.bytes]);
        Ok(message.bytes > 0)
    }

    /// The next whole message, if there is one yet.
    pub fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ProtocolError> {
        let Some(header) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*header) as usize;
        if len > MAX_FRAME {
            return Err(ProtocolError::TooLong(len));
        }
        let Some(body) = self.bytes.get(4..4 + len) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + len);
        Ok(Some(message))
    }

    /// The descriptors that came with the messages so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Whether a message has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Reads a blocking socket until there is a message; `None` at its end.
    pub fn receive<T: DeserializeOwned>(&mut self, socket: impl AsFd) -> Result<Option<T>, ProtocolError> {
        loop {
            if let Some(message) = self.message()? {
                return Ok(Some(message));
            }
            if !self.fill(&socket)? {
                return if self.is_partial() { Err(ProtocolError::Truncated) } else { Ok(None) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write, pipe};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn messages_and_descriptors_arrive_in_order() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut read, write) = pipe().unwrap();
        send_all(&a, &Request::Signal { signal: 15 }, &[]).unwrap();
        send_all(&a, &Request::KeepFd { name: "dns".into() }, &[write.as_fd()]).unwrap();
        drop((a, write));

        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(&b).unwrap(), Some(Request::Signal { signal: 15 }));
        assert_eq!(receiver.receive(&b).unwrap(), Some(Request::KeepFd { name: "dns".into() }));
        let mut fds = receiver.take_fds();
        assert_eq!(fds.len(), 1);
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        assert_eq!(receiver.receive::<Request>(&b).unwrap(), None);
    }

    #[test]
    fn a_hostile_length_and_a_cut_message_are_errors() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(matches!(Receiver::default().receive::<Request>(&b), Err(ProtocolError::TooLong(_))));

        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&[9, 0, 0, 0, b'{']).unwrap();
        drop(a);
        assert!(matches!(Receiver::default().receive::<Request>(&b), Err(ProtocolError::Truncated)));
    }
}
