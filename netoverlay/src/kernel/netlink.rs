//! A blocking netlink socket: requests with their answers, dumps, transactions.
//!
//! Owns message framing and error reports. A socket belongs for ever to the namespace in which it was opened, whatever thread
//! uses it, so a namespace is entered once and then only its sockets are used.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols};

use super::KernelError;
use crate::nft::message::{DUMP, Message, attribute};

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const HEADER: usize = 16;
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
const FLAG_INTERRUPTED: u16 = 0x10;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_TEXT: u16 = 0x200;
/// Room for the messages of the largest transaction, and for all its errors.
const BUFFER: usize = 64 << 20;
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
    /// Links, addresses, routes, rules of the calling thread's namespace.
    pub fn route() -> Result<Self, KernelError> {
        Self::open(protocols::NETLINK_ROUTE)
    }

    /// Packet filter and connection tracking of the calling thread's namespace.
    pub fn filter() -> Result<Self, KernelError> {
        Self::open(protocols::NETLINK_NETFILTER)
    }

    /// Sockets of the calling thread's namespace.
    pub fn sockets() -> Result<Self, KernelError> {
        Self::open(protocols::NETLINK_SOCK_DIAG)
    }

    fn open(protocol: isize) -> Result<Self, KernelError> {
        let fail = |action| move |source| KernelError::Socket { action, source };
        let mut socket = Socket::new(protocol).map_err(fail("open"))?;
        socket.bind_auto().map_err(fail("bind"))?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(fail("connect"))?;
        socket.set_ext_ack(true).map_err(fail("setup"))?;
        socket.set_cap_ack(true).map_err(fail("setup"))?;
        // Refused without CAP_NET_ADMIN over the initial namespace; the default size then does for all but huge tables.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        Ok(Self { socket, sequence: 0 })
    }

    /// The number of its network namespace.
    pub fn netns_cookie(&self) -> Result<u64, KernelError> {
        use std::os::fd::AsRawFd;
        super::bpf::netns_cookie(self.socket.as_raw_fd())
            .map_err(|source| KernelError::Socket { action: "cookie", source })
    }

    /// Sends one request and waits until the kernel has done it.
    pub fn request(&mut self, message: Message) -> io::Result<()> {
        self.transact(vec![message]).map_err(|(_, error)| error)
    }

    /// Sends messages together; the last one (before a closing edge) is acknowledged. The first error comes back with the
    /// index of its message.
    pub fn transact(&mut self, mut messages: Vec<Message>) -> Result<(), (usize, io::Error)> {
        let edges = usize::from(messages.len() > 1);
        let last = messages.len() - 1 - edges;
        messages[last].flags |= ACK;
        let first = self.sequence.wrapping_add(1);
        self.send(&messages).map_err(|e| (0, e))?;
        let mut failed: Option<(usize, io::Error)> = None;
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(|e| (0, e))?;
            for (head, body) in frames(&datagram) {
                let index = head.sequence.wrapping_sub(first) as usize;
                if head.kind != TYPE_ERROR || index >= messages.len() {
                    continue;
                }
                match error_of(&head, body) {
                    Some(error) => drop(failed.get_or_insert((index, error))),
                    None if index != last => continue,
                    None => {}
                }
                // A failed transaction may end with an error of its edge instead of an answer to its last message.
                if index == last || (failed.is_some() && (index == 0 || index > last)) {
                    return failed.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Sends requests that do not depend on each other and waits until the kernel has done them all; `harmless` errors are none.
    /// The first other one comes back.
    pub fn request_all(&mut self, mut messages: Vec<Message>, harmless: &[i32]) -> io::Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        messages.iter_mut().for_each(|message| message.flags |= ACK);
        let first = self.sequence.wrapping_add(1);
        self.send(&messages)?;
        let (mut left, mut failed) = (messages.len(), None);
        while left > 0 {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (head, body) in frames(&datagram) {
                let index = head.sequence.wrapping_sub(first) as usize;
                if head.kind != TYPE_ERROR || index >= messages.len() {
                    continue;
                }
                left = left.saturating_sub(1);
                let error = error_of(&head, body);
                let error = error.filter(|e| !e.raw_os_error().is_some_and(|code| harmless.contains(&code)));
                failed = failed.or(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Asks for everything of a kind. Starts again when the kernel says that things changed meanwhile.
    pub fn dump(&mut self, message: &Message) -> io::Result<Vec<Answer>> {
        for _ in 0..ATTEMPTS {
            if let Some(answers) = self.dump_once(message)? {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "changed during each of several listings"))
    }

    fn dump_once(&mut self, message: &Message) -> io::Result<Option<Vec<Answer>>> {
        let mut message = message.clone();
        message.flags |= DUMP;
        self.send(&[message])?;
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (head, body) in frames(&datagram) {
                if head.sequence != self.sequence {
                    continue;
                }
                whole &= head.flags & FLAG_INTERRUPTED == 0;
                match head.kind {
                    TYPE_DONE => return Ok(whole.then_some(answers)),
                    TYPE_ERROR => {
                        if let Some(error) = error_of(&head, body) {
                            return Err(error);
                        }
                    }
                    kind => answers.push(Answer { kind, body: body.to_vec() }),
                }
            }
        }
    }

    /// Asks for one thing.
    pub fn get(&mut self, message: Message) -> io::Result<Option<Answer>> {
        self.send(&[message])?;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let ours = frames(&datagram).find(|(head, _)| head.sequence == self.sequence);
            if let Some((head, body)) = ours {
                return match head.kind {
                    TYPE_ERROR => error_of(&head, body).map_or(Ok(None), Err),
                    kind => Ok(Some(Answer { kind, body: body.to_vec() })),
                };
            }
        }
    }

    fn send(&mut self, messages: &[Message]) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(messages.iter().map(|m| m.body.len() + HEADER + 4).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            let len = (HEADER + message.body.len()) as u32;
            datagram.extend_from_slice(&len.to_ne_bytes());
            datagram.extend_from_slice(&message.kind.to_ne_bytes());
            datagram.extend_from_slice(&(message.flags | REQUEST).to_ne_bytes());
            datagram.extend_from_slice(&self.sequence.to_ne_bytes());
            datagram.extend_from_slice(&0u32.to_ne_bytes());
            datagram.extend_from_slice(&message.body);
            datagram.resize(datagram.len().next_multiple_of(4), 0);
        }
        let sent = self.socket.send(&datagram, 0)?;
        debug_assert_eq!(sent, datagram.len(), "netlink takes a datagram whole");
        Ok(())
    }
}

struct Head {
    kind: u16,
    flags: u16,
    sequence: u32,
}

fn frames(mut rest: &[u8]) -> impl Iterator<Item = (Head, &[u8])> {
    std::iter::from_fn(move || {
        let raw = rest.get(..HEADER)?;
        let word = |at: usize| u32::from_ne_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([raw[at], raw[at + 1]]);
        let (len, head) = (word(0) as usize, Head { kind: half(4), flags: half(6), sequence: word(8) });
        let body = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((head, body))
    })
}

/// The error in an error message; `None` is an acknowledgement.
fn error_of(head: &Head, body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let error = io::Error::from_raw_os_error(-code);
    if head.flags & FLAG_TEXT != 0 && head.flags & FLAG_CAPPED != 0 {
        let text = body.get(4 + HEADER..).and_then(|tlvs| attribute(tlvs, 1));
        if let Some(text) = text {
            let text = String::from_utf8_lossy(text);
            tracing::debug!(%error, explanation = text.trim_end_matches('\0'), "netlink refused a request");
        }
    }
    Some(error)
}

/// A message about links, addresses, routes or rules as bytes.
pub(super) fn route_message(message: &RouteNetlinkMessage, flags: u16) -> Message {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    Message { kind: message.message_type(), flags, body }
}

/// Reads an answer about links, addresses, routes or rules. `None` for what the library cannot read: never one of ours.
pub(super) fn read_route(answer: &Answer) -> Option<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.message_type = answer.kind;
    RouteNetlinkMessage::deserialize(&header, &answer.body).ok()
}
