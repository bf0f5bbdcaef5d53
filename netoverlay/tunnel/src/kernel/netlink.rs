//! A blocking netlink socket: one request at a time, with its answers.
//!
//! Owns message framing and error reports. A socket belongs for ever to the namespace in which it was opened.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

use crate::TunnelError;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
/// Refuse to add what exists.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Replace what exists.
pub(super) const REPLACE: u16 = 0x100;
/// Add what does not exist.
pub(super) const CREATE: u16 = 0x400;
const HEADER: usize = 16;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_INTERRUPTED: u16 = 0x10;
const ATTEMPTS: usize = 8;

/// A socket of one protocol in one namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A message from the kernel.
#[derive(Debug)]
pub(super) struct Answer {
    pub kind: u16,
    pub body: Vec<u8>,
}

impl Netlink {
    pub fn open(protocol: isize) -> Result<Self, TunnelError> {
        let fail = |action| move |source| TunnelError::Socket { action, source };
        let mut socket = Socket::new(protocol).map_err(fail("open"))?;
        socket.bind_auto().map_err(fail("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail("connect"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request, waits until the kernel has done it, and gives what it answered.
    pub fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Answer>> {
        self.exchange(kind, flags | ACK, body).map(|(answers, _)| answers)
    }

    /// Asks for everything of a kind. Starts again when the kernel says that things changed meanwhile.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Answer>> {
        for _ in 0..ATTEMPTS {
            let (answers, whole) = self.exchange(kind, DUMP, body)?;
            if whole {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "changed during each of several listings"))
    }

    fn exchange(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<(Vec<Answer>, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut datagram = Vec::with_capacity(HEADER + body.len());
        datagram.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        datagram.extend_from_slice(&kind.to_ne_bytes());
        datagram.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        datagram.extend_from_slice(&self.sequence.to_ne_bytes());
        datagram.extend_from_slice(&0u32.to_ne_bytes());
        datagram.extend_from_slice(body);
        self.socket.send(&datagram, 0)?;
        let (mut answers, mut whole) = (Vec::new(), true);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for frame in frames(&datagram).filter(|frame| frame.sequence == self.sequence) {
                whole &= frame.flags & FLAG_INTERRUPTED == 0;
                match frame.kind {
                    TYPE_DONE => return Ok((answers, whole)),
                    TYPE_ERROR => return error_of(frame.body).map_or(Ok((answers, whole)), Err),
                    kind => answers.push(Answer { kind, body: frame.body.to_vec() }),
                }
            }
        }
    }
}

struct Frame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn frames(mut rest: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let raw = rest.get(..HEADER)?;
        let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
        let (len, kind, flags, sequence) = (word(0) as usize, half(4), half(6), word(8));
        let body = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Frame { kind, flags, sequence, body })
    })
}

/// The error in an error message; `None` is an acknowledgement.
fn error_of(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// Takes some errno values for success.
pub(super) fn unless<T>(codes: &[i32], result: io::Result<T>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error().is_some_and(|code| codes.contains(&code)) => Ok(()),
        other => other.map(drop),
    }
}

/// Names what the kernel refused.
pub(super) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> TunnelError {
    move |source| TunnelError::Refused { what: what.into(), source }
}
