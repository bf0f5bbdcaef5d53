//! The agent's connections: messages in, messages out, nothing waits.
//!
//! Owns framing and back-pressure per connection. What a request means is `mod.rs`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use berth_shim::protocol::{self, Receiver, Reply, Request};
use rustix::event::PollFlags;

/// Most connections at once: one to watch, some for execs.
const MAX_CLIENTS: usize = 128;
/// Bytes held for a client that does not read; more, and it is cut off.
const MAX_OUTBOX: usize = 1 << 20;

/// One connection.
pub struct Client {
    /// Number, never used twice.
    pub id: u64,
    stream: UnixStream,
    receiver: Receiver,
    outbox: Vec<u8>,
    /// Wants every change of state.
    pub subscribed: bool,
    closed: bool,
}

/// All connections.
#[derive(Default)]
pub struct Clients {
    list: Vec<Client>,
    next_id: u64,
}

impl Clients {
    /// Takes a waiting connection.
    pub fn accept(&mut self, listener: &UnixListener) {
        let Ok((stream, _)) = listener.accept() else { return };
        if self.list.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            return;
        }
        self.next_id += 1;
        self.list.push(Client {
            id: self.next_id,
            stream,
            receiver: Receiver::default(),
            outbox: Vec::new(),
            subscribed: false,
            closed: false,
        });
    }

    /// What to poll for, by client.
    pub fn ports(&self) -> impl Iterator<Item = (u64, &UnixStream, PollFlags)> {
        self.list.iter().map(|client| {
            let out = if client.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            (client.id, &client.stream, PollFlags::IN | out)
        })
    }

    /// The connection of that number.
    pub fn get(&mut self, id: u64) -> Option<&mut Client> {
        self.list.iter_mut().find(|client| client.id == id)
    }

    /// Sends to everyone who subscribed.
    pub fn broadcast(&mut self, reply: &Reply) {
        self.list.iter_mut().filter(|client| client.subscribed).for_each(|client| client.send(reply, &[]));
    }

    /// Removes closed connections and returns their numbers.
    pub fn sweep(&mut self) -> Vec<u64> {
        let gone = self.list.iter().filter(|client| client.closed).map(|client| client.id).collect();
        self.list.retain(|client| !client.closed);
        gone
    }

    /// Whether anybody is connected.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Lets the last messages out before the end; waits for slow readers only briefly.
    pub fn flush(&mut self) {
        for client in &mut self.list {
            let _ = client.stream.set_nonblocking(false);
            let _ = client.stream.set_write_timeout(Some(std::time::Duration::from_millis(200)));
            client.write();
        }
    }
}

impl Client {
    /// Reads what has come and gives the requests in it, each with all descriptors received so far.
    pub fn requests(&mut self) -> Vec<(Request, Vec<OwnedFd>)> {
        match self.receiver.fill(&self.stream) {
            Ok(true) => {}
            Ok(false) => self.closed = true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
        let mut requests = Vec::new();
        loop {
            match self.receiver.message::<Request>() {
                Ok(Some(request)) => {
                    let fds = if takes_descriptors(&request) { self.receiver.take_fds() } else { Vec::new() };
                    requests.push((request, fds));
                }
                Ok(None) => return requests,
                Err(error) => {
                    eprintln!("berth-shim: {error}");
                    self.closed = true;
                    return requests;
                }
            }
        }
    }

    /// Queues a message. Descriptors go out at once or the connection is cut.
    pub fn send(&mut self, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let Ok(frame) = protocol::encode(reply) else { return };
        if self.outbox.len() + frame.len() > MAX_OUTBOX {
            self.closed = true;
            return;
        }
        if fds.is_empty() {
            self.outbox.extend_from_slice(&frame);
            self.write();
            return;
        }
        match protocol::send(self.stream.as_fd(), &frame, fds) {
            Ok(sent) if self.outbox.is_empty() => self.outbox.extend_from_slice(&frame[sent..]),
            _ => self.closed = true,
        }
    }

    /// Sends what is queued, as far as it goes.
    pub fn write(&mut self) {
        while !self.outbox.is_empty() && !self.closed {
            match protocol::send(self.stream.as_fd(), &self.outbox, &[]) {
                Ok(sent) => drop(self.outbox.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.closed = true,
            }
        }
    }
}

fn takes_descriptors(request: &Request) -> bool {
    matches!(request, Request::Exec(_) | Request::Attach { .. } | Request::KeepFd { .. })
}
