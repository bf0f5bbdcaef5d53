//! Questions out, answers in: the sockets at this node's addresses, who is answered, and who waits for an answer.
//!
//! Owns the sockets. Follows the addresses and nodes that it is given, and decides nothing about what is seen.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use berth_netoverlay::plan::PROBE_PORT;
use berth_proto::time::Timestamp;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::allowance::Allowance;
use super::message::{self, Kind, Message};
use super::{echo, socket};

/// How a question is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// A datagram of that many bytes by the tunnel.
    Tunnel(usize),
    /// A datagram straight by the link.
    Straight,
    /// A ping by the tunnel; IPv4 alone.
    Ping,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// There and back.
    pub round_trip: Duration,
    /// How far the other clock is ahead, nanoseconds; 0 of a ping, which has no clock.
    pub clock: i64,
}

/// Everything that is heard. Clones share it.
#[derive(Clone, Default)]
pub struct Ears {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    open: Mutex<BTreeMap<IpAddr, Ear>>,
    /// Addresses of this node at which it cannot listen.
    refused: Mutex<BTreeSet<IpAddr>>,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Addresses of other nodes, and when packets of theirs came in by the tunnel last.
    known: RwLock<BTreeMap<IpAddr, Mutex<Known>>>,
}

struct Known {
    heard: Option<Instant>,
    allowance: Allowance,
}

/// The sockets at one address.
struct Ear {
    main: Arc<UdpSocket>,
    straight: Arc<UdpSocket>,
    ping: Option<Arc<UdpSocket>>,
    _reading: DropGuard,
}

/// A question on the way. As many answers as there are tries fit.
struct Waiting {
    from: IpAddr,
    answers: mpsc::Sender<Heard>,
}

struct Heard {
    sequence: u32,
    message: Option<Message>,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ears {
    /// Listens at exactly these addresses of this node, and answers exactly these of others. Doing it again changes nothing.
    pub fn follow(&self, own: &BTreeSet<IpAddr>, others: &BTreeSet<IpAddr>) {
        let mut known = self.shared.known.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|address, _| others.contains(address));
        for address in others {
            let new = || Mutex::new(Known { heard: None, allowance: Allowance::new(Instant::now()) });
            known.entry(*address).or_insert_with(new);
        }
        drop(known);
        let mut open = lock(&self.shared.open);
        open.retain(|address, _| own.contains(address));
        for address in own {
            if open.contains_key(address) {
                continue;
            }
            match self.open(*address) {
                Ok(ear) => {
                    open.insert(*address, ear);
                    lock(&self.shared.refused).remove(address);
                }
                // Tried again at each call, told once.
                Err(error) if lock(&self.shared.refused).insert(*address) => {
                    tracing::warn!(%address, %error, "cannot listen for probes of other nodes");
                }
                Err(_) => {}
            }
        }
    }

    fn open(&self, address: IpAddr) -> std::io::Result<Ear> {
        let (main, straight) = (Arc::new(socket::open(address)?), Arc::new(socket::open_straight(address)?));
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(read_probes(Arc::clone(&self.shared), Arc::clone(&main))));
        let ping =
            if address.is_ipv4() { socket::open_ping(address) } else { Err(std::io::ErrorKind::Unsupported.into()) };
        let ping = ping.inspect_err(|error| tracing::debug!(%address, %error, "no pings from here")).ok().map(Arc::new);
        if let Some(ping) = &ping {
            let reading = read_pings(Arc::clone(&self.shared), Arc::clone(ping));
            tokio::spawn(stop.clone().run_until_cancelled_owned(reading));
        }
        Ok(Ear { main, straight, ping, _reading: stop.drop_guard() })
    }

    /// When a packet of another node came in by the tunnel last.
    pub fn heard(&self, other: IpAddr) -> Option<Instant> {
        let known = self.shared.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&other).and_then(|known| lock(known).heard)
    }

    /// Asks, as often as there are times to wait. `None`: never answered. Cancel-safe: a late answer is nobody's.
    pub async fn ask(&self, from: IpAddr, to: IpAddr, how: How, waits: &[Duration]) -> Option<Answered> {
        let socket = {
            let open = lock(&self.shared.open);
            let ear = open.get(&from)?;
            match how {
                How::Tunnel(_) => Arc::clone(&ear.main),
                How::Straight => Arc::clone(&ear.straight),
                How::Ping => Arc::clone(ear.ping.as_ref()?),
            }
        };
        let nonce = rand::random();
        let (answers, mut inbound) = mpsc::channel(waits.len().max(1));
        lock(&self.shared.waiting).insert(nonce, Waiting { from: to, answers });
        let _forget = Forget { shared: &self.shared, nonce };
        let mut asked = Vec::with_capacity(waits.len());
        for (sequence, wait) in (0..).zip(waits) {
            asked.push(Instant::now());
            if let Err(error) = send(&socket, to, how, nonce, sequence).await {
                tracing::debug!(%to, ?how, %error, "a probe was not sent");
                if error.raw_os_error() == Some(libc::EMSGSIZE) {
                    return None;
                }
            }
            if let Ok(Some(heard)) = tokio::time::timeout(*wait, inbound.recv()).await {
                return answered(&heard, &asked);
            }
        }
        None
    }
}

fn answered(heard: &Heard, asked: &[Instant]) -> Option<Answered> {
    let sent = asked.get(usize::try_from(heard.sequence).ok()?)?;
    let round_trip = heard.at.saturating_duration_since(*sent);
    let half = i64::try_from(round_trip.as_nanos() / 2).ok()?;
    let ahead = |message: Message| message.answered_at.0.saturating_sub(message.asked_at.0.saturating_add(half));
    Some(Answered { round_trip, clock: heard.message.map_or(0, ahead) })
}

async fn send(socket: &UdpSocket, to: IpAddr, how: How, nonce: u64, sequence: u32) -> std::io::Result<usize> {
    let probe = |kind, size| Message { kind, sequence, nonce, asked_at: now(), answered_at: Timestamp(0) }.encode(size);
    match how {
        How::Tunnel(size) => socket.send_to(&probe(Kind::Question, size), (to, PROBE_PORT)).await,
        How::Straight => socket.send_to(&probe(Kind::Straight, message::LEN), (to, PROBE_PORT)).await,
        How::Ping => socket.send_to(&echo::request(nonce, sequence as u16), (to, 0)).await,
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Takes a question back that nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    nonce: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.shared.waiting).remove(&self.nonce);
    }
}

/// Answers questions of known nodes, and gives answers to who waits for them.
async fn read_probes(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    // What a question is filled up with is of no interest.
    let mut buffer = [0; message::LEN];
    loop {
        let (len, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // Of a packet of ours that was refused somewhere.
            Err(error) => {
                tracing::debug!(%error, "reading probes");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(message) = Message::parse(&buffer[..len]) else { continue };
        if !shared.admit(source.ip(), message.kind) {
            continue;
        }
        match message.kind {
            Kind::Answer => shared.give(source.ip(), message.nonce, message.sequence, Some(message)),
            Kind::Question | Kind::Straight => {
                // Always to the port of probes, which lets them in. A full queue loses it like a full link.
                let to = SocketAddr::new(source.ip(), PROBE_PORT);
                let _ = socket.try_send_to(&message.answered(now()).encode(message::LEN), to);
            }
        }
    }
}

async fn read_pings(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = [0; 128];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, source)) => {
                if let Some((nonce, sequence)) = echo::reply(&buffer[..len]) {
                    shared.give(source.ip(), nonce, u32::from(sequence), None);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "reading pings");
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Shared {
    /// Whether a packet of that address is looked at: it is another node's, and that has not asked too much.
    fn admit(&self, source: IpAddr, kind: Kind) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(&source) else { return false };
        let (mut known, now) = (lock(known), Instant::now());
        if kind != Kind::Straight {
            known.heard = Some(now);
        }
        kind == Kind::Answer || known.allowance.take(now)
    }

    fn give(&self, source: IpAddr, nonce: u64, sequence: u32, message: Option<Message>) {
        let waiting = lock(&self.waiting);
        if let Some(waiting) = waiting.get(&nonce).filter(|waiting| waiting.from == source) {
            // Full only of answers to earlier tries.
            let _ = waiting.answers.try_send(Heard { sequence, message, at: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// For questions that nobody answers.
    const SHORT: [Duration; 2] = [Duration::from_millis(50); 2];
    const WAIT: [Duration; 1] = [Duration::from_secs(20)];

    fn address(node: u8) -> IpAddr {
        [127, 47, 79, node].into()
    }

    /// Node 1 asks, all others answer; each knows all of `known`.
    fn ears(own: &[u8], known: &[u8]) -> Ears {
        let ears = Ears::default();
        let all = |nodes: &[u8]| nodes.iter().map(|node| address(*node)).collect();
        ears.follow(&all(own), &all(known));
        ears
    }

    #[tokio::test]
    async fn many_nodes_are_asked_at_once_and_each_answers_for_itself() {
        let nodes: Vec<u8> = (2..=100).collect();
        let (asker, _answerers) = (ears(&[1], &nodes), ears(&nodes, &[1]));
        let ask = |node: u8| {
            let asker = &asker;
            async move {
                let small = asker.ask(address(1), address(node), How::Tunnel(message::LEN), &WAIT).await.unwrap();
                let large = asker.ask(address(1), address(node), How::Tunnel(1400), &WAIT).await;
                let ping = asker.ask(address(1), address(node), How::Ping, &WAIT).await;
                assert!(small.clock.abs() < 1_000_000_000 && large.is_some() && ping.is_some(), "{node}: {small:?}");
            }
        };
        futures::future::join_all(nodes.iter().map(|node| ask(*node))).await;
        assert!(nodes.iter().all(|node| asker.heard(address(*node)).is_some()));
        assert!(lock(&asker.shared.waiting).is_empty(), "nothing stays behind");
    }

    #[tokio::test]
    async fn strangers_are_not_answered_and_addresses_come_and_go() {
        let (asker, answerer) = (ears(&[101], &[102]), ears(&[102], &[]));
        let ask = || asker.ask(address(101), address(102), How::Tunnel(0), &SHORT);
        assert_eq!(ask().await, None, "it does not know who asks");
        assert_eq!(answerer.heard(address(101)), None);
        answerer.follow(&[address(102)].into(), &[address(101)].into());
        let found = asker.ask(address(101), address(102), How::Tunnel(0), &WAIT).await;
        assert!(found.is_some() && answerer.heard(address(101)).is_some());
        asker.follow(&BTreeSet::new(), &[address(102)].into());
        assert_eq!(ask().await, None, "it has no address to ask from");
        asker.follow(&[address(101)].into(), &[address(102)].into());
        assert!(asker.ask(address(101), address(102), How::Tunnel(0), &WAIT).await.is_some(), "and has one again");
    }
}
