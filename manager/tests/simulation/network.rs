//! A network in memory: pipes between hosts through relays that delay, hold and break what they carry, for each direction
//! of each pair of hosts. Like TCP, a cut loses nothing that is sent again once it heals: what is under way is held.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use berth_manager::raft::{Connect, tuned};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::dice::Dice;

/// A machine, by number.
pub type Host = u8;

/// Bytes under way in a pipe; a writer waits when they are full.
const BUFFER: usize = 64 * 1024;
/// Bytes that a relay carries at a time.
const PARCEL: usize = 16 * 1024;
/// Microseconds that a healthy way takes.
pub const USUAL_DELAY: (u64, u64) = (100, 2_000);

/// One direction between two hosts.
#[derive(Debug, Clone, Copy)]
struct Link {
    cut: bool,
    /// Bounds in microseconds.
    delay: (u64, u64),
    /// Connections of an earlier age are broken.
    age: u64,
}

#[derive(Clone)]
pub struct Network {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    links: BTreeMap<(Host, Host), watch::Sender<Link>>,
    listeners: BTreeMap<String, (Host, mpsc::Sender<Wire>)>,
    dice: Dice,
}

impl Network {
    pub fn new(dice: Dice) -> Self {
        let shared = Shared { links: BTreeMap::new(), listeners: BTreeMap::new(), dice };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// What arrives at `address`, which is on `host` from now on.
    pub fn listen(&self, host: Host, address: &str) -> impl Stream<Item = io::Result<Wire>> + Send + 'static {
        let (accept, accepted) = mpsc::channel(16);
        self.shared.lock().unwrap().listeners.insert(address.to_owned(), (host, accept));
        ReceiverStream::new(accepted).map(Ok)
    }

    /// A channel from `host` to whatever is at `address`.
    pub fn channel(&self, host: Host, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        let (network, address) = (self.clone(), address.to_owned());
        let connector = tower::service_fn(move |_: Uri| {
            let (network, address) = (network.clone(), address.clone());
            async move { network.dial(host, &address).await.map(TokioIo::new) }
        });
        Ok(tuned(endpoint).connect_with_connector_lazy(connector))
    }

    async fn dial(&self, from: Host, address: &str) -> io::Result<DuplexStream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = |shared: &Shared| shared.listeners.get(address).cloned();
        let (to, _) = listener(&self.shared.lock().unwrap()).ok_or_else(refused)?;
        let ways = [(from, to), (to, from)].map(|way| self.link(way));
        for way in &ways {
            // An answer that does not come is waited for: whoever dials has a limit.
            let mut way = way.subscribe();
            let wait = self.delay(*way.borrow());
            tokio::time::sleep(wait).await;
            let _ = way.wait_for(|link| !link.cut).await;
        }
        let (_, accept) = listener(&self.shared.lock().unwrap()).ok_or_else(refused)?;
        let (near, near_relay) = tokio::io::duplex(BUFFER);
        let (far_relay, far) = tokio::io::duplex(BUFFER);
        accept.send(Wire { stream: far, from }).await.map_err(|_| refused())?;
        let (near_read, near_write) = tokio::io::split(near_relay);
        let (far_read, far_write) = tokio::io::split(far_relay);
        let [there, back] = ways;
        let relays = [(near_read, far_write, there), (far_read, near_write, back)];
        for (read, write, link) in relays {
            let dice = self.shared.lock().unwrap().dice.split();
            tokio::spawn(relay(read, write, link.subscribe(), dice));
        }
        Ok(near)
    }

    fn delay(&self, link: Link) -> Duration {
        self.shared.lock().unwrap().dice.micros(link.delay.0..link.delay.1)
    }

    fn link(&self, way: (Host, Host)) -> watch::Sender<Link> {
        let fresh = || watch::Sender::new(Link { cut: false, delay: USUAL_DELAY, age: 0 });
        self.shared.lock().unwrap().links.entry(way).or_insert_with(fresh).clone()
    }

    fn change(&self, ways: impl Iterator<Item = (Host, Host)>, change: impl Fn(&mut Link)) {
        ways.for_each(|way| self.link(way).send_modify(&change));
    }

    /// Cuts one direction, or heals it.
    pub fn cut(&self, from: Host, to: Host, cut: bool) {
        self.change(std::iter::once((from, to)), |link| link.cut = cut);
    }

    /// Cuts a host off from all, or heals it.
    pub fn isolate(&self, host: Host, all: &[Host], cut: bool) {
        self.change(both_ways(host, all), |link| link.cut = cut);
    }

    /// Makes everything from and to the host slow.
    pub fn slow_down(&self, host: Host, all: &[Host], micros: (u64, u64)) {
        self.change(both_ways(host, all), |link| link.delay = micros);
    }

    /// Breaks the connections of a host.
    pub fn reset(&self, host: Host, all: &[Host]) {
        self.change(both_ways(host, all), |link| link.age += 1);
    }

    /// Everything carries again, at its usual speed.
    pub fn heal(&self) {
        let links: Vec<_> = self.shared.lock().unwrap().links.values().cloned().collect();
        for link in links {
            link.send_modify(|link| (link.cut, link.delay) = (false, USUAL_DELAY));
        }
    }
}

fn both_ways(host: Host, all: &[Host]) -> impl Iterator<Item = (Host, Host)> {
    all.iter().filter(move |other| **other != host).flat_map(move |other| [(host, *other), (*other, host)])
}

/// Carries one direction of a connection.
async fn relay(
    mut read: ReadHalf<DuplexStream>,
    mut write: WriteHalf<DuplexStream>,
    mut link: watch::Receiver<Link>,
    mut dice: Dice,
) {
    let mut broken = link.clone();
    let age = link.borrow().age;
    let carry = async {
        let mut parcel = vec![0; PARCEL];
        loop {
            let Ok(length) = read.read(&mut parcel).await else { return };
            let (least, most) = link.borrow().delay;
            tokio::time::sleep(dice.micros(least..most)).await;
            let _ = link.wait_for(|link| !link.cut).await;
            if length == 0 {
                let _ = write.shutdown().await;
                return;
            }
            if write.write_all(&parcel[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        _ = broken.wait_for(|link| link.age != age) => {}
        () = carry => {}
    }
}

/// How one host reaches managers.
pub struct Dialler {
    pub network: Network,
    pub host: Host,
}

impl Connect for Dialler {
    fn channel(&self, _id: u64, address: &str) -> Result<Channel, String> {
        self.network.channel(self.host, address)
    }
}

/// What a server accepts; knows which host is at the other end.
pub struct Wire {
    stream: DuplexStream,
    from: Host,
}

/// Which host a connection comes from.
#[derive(Clone, Copy)]
pub struct Caller(pub Host);

impl Connected for Wire {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        Caller(self.from)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
