//! The name server: one UDP and one TCP socket in each container's namespace, all answered from one zone.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use berth_proto::id::TaskId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::counts::{Outcome, Questions};
use super::forward::forward;
use super::upstream::{Upstream, Watched};
use super::wire::{self, Reply};
use super::zone::Zone;
use crate::kernel::DnsSockets;
use crate::model::Desired;

/// Questions forwarded at the same time by the whole node; beyond that the answer is "server failure" at once.
const MAX_FORWARDS: usize = 1024;
/// Open TCP connections per container; beyond that a new one waits to be accepted.
const MAX_CONNECTIONS: usize = 16;
const IDLE: Duration = Duration::from_secs(10);
/// Largest question by UDP.
const LARGEST: usize = 4096;

/// Answers names for all containers of the node. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    shared: Arc<Shared>,
}

struct Shared {
    zone: RwLock<Arc<Zone>>,
    upstream: Watched,
    forwards: Semaphore,
    turn: AtomicUsize,
    running: Mutex<BTreeMap<TaskId, CancellationToken>>,
    questions: Arc<Questions>,
}

impl Dns {
    /// A server that knows nothing yet; upstream servers come from a resolv.conf.
    pub fn new(resolv_conf: PathBuf) -> Self {
        Self {
            shared: Arc::new(Shared {
                zone: RwLock::default(),
                upstream: Watched::new(resolv_conf),
                forwards: Semaphore::new(MAX_FORWARDS),
                turn: AtomicUsize::new(0),
                running: Mutex::default(),
                questions: Arc::default(),
            }),
        }
    }

    /// Replaces what is known.
    pub fn publish(&self, desired: &Desired) {
        let before = self.shared.zone.read().unwrap_or_else(PoisonError::into_inner).clone();
        let zone = Arc::new(Zone::new(desired, &before));
        *self.shared.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// The node's own resolver settings.
    pub fn upstream(&self) -> Arc<Upstream> {
        self.shared.upstream.get()
    }

    /// What became of the questions so far.
    pub fn questions(&self) -> Arc<Questions> {
        Arc::clone(&self.shared.questions)
    }

    /// Answers on a container's sockets from now on; sockets from before are given up. Must be called within a runtime.
    pub fn serve(&self, sockets: DnsSockets) {
        let DnsSockets { task, udp, tcp } = sockets;
        let (udp, tcp) = match (UdpSocket::from_std(udp), TcpListener::from_std(tcp)) {
            (Ok(udp), Ok(tcp)) => (udp, tcp),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%task, %error, "name server's sockets cannot be used");
                return;
            }
        };
        let stop = CancellationToken::new();
        let before = self.running().insert(task, stop.clone());
        before.inspect(CancellationToken::cancel);
        tokio::spawn(serve_udp(self.shared.clone(), task, Arc::new(udp), stop.clone()));
        tokio::spawn(serve_tcp(self.shared.clone(), task, tcp, stop));
    }

    /// Stops answering for tasks that are not desired any more.
    pub fn retain(&self, desired: &Desired) {
        self.running().retain(|task, stop| {
            let keep = desired.sandboxes.contains_key(task);
            if !keep {
                stop.cancel();
            }
            keep
        });
    }

    /// Stops answering.
    pub fn stop_all(&self) {
        std::mem::take(&mut *self.running()).values().for_each(CancellationToken::cancel);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, CancellationToken>> {
        self.shared.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn answer(&self, task: TaskId, question: &[u8], tcp: bool) -> Reply {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner).clone();
        let reply = wire::answer(&zone, task, question, tcp, self.turn.fetch_add(1, Ordering::Relaxed));
        if let Reply::Send(answer) = &reply {
            self.questions.note(Outcome::of_answer(answer));
        }
        reply
    }

    async fn pass_on(&self, servers: &[std::net::IpAddr], question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let Ok(_permit) = self.forwards.try_acquire() else {
            self.questions.note(Outcome::Failed);
            return wire::failure(question, tcp);
        };
        let own;
        let servers = if servers.is_empty() {
            own = self.upstream.get();
            &own.servers
        } else {
            servers
        };
        let answer = forward(servers, question, tcp).await;
        self.questions.note(if answer.is_some() { Outcome::Forwarded } else { Outcome::Failed });
        answer.or_else(|| wire::failure(question, tcp))
    }
}

async fn serve_udp(shared: Arc<Shared>, task: TaskId, socket: Arc<UdpSocket>, stop: CancellationToken) {
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            biased;
            // Cancel-safe: a token.
            () = stop.cancelled() => return,
            // Cancel-safe: a datagram is taken whole or not at all.
            received = socket.recv_from(&mut buffer) => received,
        };
        let (len, client) = match received {
            Ok(received) => received,
            // An earlier answer found its client gone.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => {
                tracing::warn!(%task, %error, "name server's socket failed");
                return;
            }
        };
        match shared.answer(task, &buffer[..len], false) {
            Reply::Ignore => {}
            Reply::Send(answer) => drop(socket.send_to(&answer, client).await),
            Reply::Forward(servers) => {
                let (shared, socket, question) = (shared.clone(), socket.clone(), buffer[..len].to_vec());
                // Bounded by the permits of `pass_on`, which answers at once when they are used up.
                tokio::spawn(async move {
                    if let Some(answer) = shared.pass_on(&servers, &question, false).await {
                        drop(socket.send_to(&answer, client).await);
                    }
                });
            }
        }
    }
}

async fn serve_tcp(shared: Arc<Shared>, task: TaskId, listener: TcpListener, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            // Cancel-safe: a token.
            () = stop.cancelled() => return,
            // Cancel-safe: a connection that is not accepted stays in the backlog.
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            // Dropping a half-read connection closes it, which is what stopping means.
            let _ = stop.run_until_cancelled(converse(&shared, task, stream)).await;
            drop(place);
        });
    }
}

/// Questions and answers by TCP, each with its length in front (RFC 1035 section 4.2.2).
async fn converse(shared: &Shared, task: TaskId, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let len = timeout(IDLE, stream.read_u16()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let mut question = vec![0; usize::from(len)];
        timeout(IDLE, stream.read_exact(&mut question)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let answer = match shared.answer(task, &question, true) {
            Reply::Ignore => return Ok(()),
            Reply::Send(answer) => Some(answer),
            Reply::Forward(servers) => shared.pass_on(&servers, &question, true).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        // In one piece: two small ones would wait for each other (Nagle, delayed acknowledgement).
        let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
        stream.write_all(&framed).await?;
    }
}
