//! Managers that talk over loopback, each link through a relay that can be cut.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_manager::raft::{Connect, DataDir, PlainConnect, RaftNode, RaftSettings};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

/// Looks until `look` gives `Ok`.
pub async fn eventually<E: Debug>(what: &str, mut look: impl FnMut() -> Result<(), E>) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match look() {
            Ok(()) => return,
            Err(last) => assert!(Instant::now() < end, "waited for {what}; last seen: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One manager.
struct Member {
    dir: tempfile::TempDir,
    address: SocketAddr,
    running: Option<(RaftNode, CancellationToken, tokio::task::JoinHandle<()>)>,
}

/// A link that can be cut, in both directions at once.
#[derive(Clone)]
struct Cut {
    is_cut: watch::Sender<bool>,
    /// Connections that were refused while it was cut.
    refused: Arc<AtomicUsize>,
}

/// Several managers.
pub struct Group {
    members: BTreeMap<u64, Member>,
    wires: Wires,
}

/// Connects through relays: one for each pair of managers.
#[derive(Clone, Default)]
struct Wires {
    cuts: Arc<Mutex<BTreeMap<u64, Cut>>>,
}

struct From {
    own: u64,
    wires: Wires,
}

impl Connect for From {
    fn channel(&self, id: u64, address: &str) -> Result<Channel, String> {
        let relay = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        relay.set_nonblocking(true).map_err(|error| error.to_string())?;
        let here = relay.local_addr().map_err(|error| error.to_string())?.to_string();
        let cuts = [self.wires.cut(self.own), self.wires.cut(id)];
        tokio::spawn(run_relay(TcpListener::from_std(relay).unwrap(), address.to_owned(), cuts));
        PlainConnect.channel(id, &here)
    }
}

async fn run_relay(listener: TcpListener, target: String, cuts: [Cut; 2]) {
    while let Ok((near, _)) = listener.accept().await {
        if let Some(cut) = cuts.iter().find(|cut| *cut.is_cut.borrow()) {
            cut.refused.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (target, cuts) = (target.clone(), cuts.clone());
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(&target).await else { return };
            let [mut one, mut other] = cuts.map(|cut| cut.is_cut.subscribe());
            let (mut near, mut far) = (near, far);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = one.wait_for(|cut| *cut) => {}
                _ = other.wait_for(|cut| *cut) => {}
            }
        });
    }
}

impl Wires {
    fn cut(&self, member: u64) -> Cut {
        let fresh = || Cut { is_cut: watch::Sender::new(false), refused: Arc::default() };
        self.cuts.lock().unwrap().entry(member).or_insert_with(fresh).clone()
    }
}

fn settings(id: u64, address: SocketAddr) -> RaftSettings {
    RaftSettings {
        id,
        address: address.to_string(),
        found: id == 1,
        snapshot_entries: 50,
        keep_entries: 10,
        ..RaftSettings::default()
    }
}

impl Group {
    /// A group of this many managers, all voters; 1 founds it.
    pub async fn of(count: u64) -> Self {
        let mut group = Self { members: BTreeMap::new(), wires: Wires::default() };
        group.add(1).await;
        for id in 2..=count {
            group.join(id).await;
        }
        group
    }

    async fn add(&mut self, id: u64) {
        let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        self.members.insert(id, Member { dir, address, running: None });
        self.start(id).await;
    }

    /// A new manager that the leader takes in.
    pub async fn join(&mut self, id: u64) {
        self.add(id).await;
        let address = self.members[&id].address.to_string();
        self.node(self.leader()).members().take_in(id, &address).await.unwrap();
    }

    /// Starts a manager from its data directory.
    pub async fn start(&mut self, id: u64) {
        let member = self.members.get_mut(&id).unwrap();
        let listener = TcpListener::bind(member.address).await.unwrap();
        let connect = Arc::new(From { own: id, wires: self.wires.clone() });
        let dir = DataDir::open(member.dir.path()).unwrap();
        let stop = CancellationToken::new();
        // Raft answers before it has a leader: it may need the others' word to get one.
        let opened = RaftNode::open(dir, settings(id, member.address), connect).await.unwrap();
        let served = Server::builder()
            .add_service(opened.service().into_server())
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { served.await.unwrap() });
        opened.ready().await.unwrap();
        let node = opened;
        self.members.get_mut(&id).unwrap().running = Some((node, stop, server));
    }

    /// Stops a manager; its data directory stays.
    pub async fn stop(&mut self, id: u64) {
        let (node, stop, server) = self.members.get_mut(&id).unwrap().running.take().unwrap();
        stop.cancel();
        server.abort();
        let _ = server.await;
        node.stop().await;
    }

    pub fn node(&self, id: u64) -> &RaftNode {
        &self.members[&id].running.as_ref().unwrap().0
    }

    fn running(&self) -> impl Iterator<Item = u64> {
        self.members.iter().filter(|(_, member)| member.running.is_some()).map(|(id, _)| *id)
    }

    /// Who leads, as those who run see it.
    pub fn leader(&self) -> u64 {
        let leading: Vec<u64> = self.running().filter(|id| *self.node(*id).leads().borrow()).collect();
        *leading.last().unwrap_or_else(|| panic!("nobody leads"))
    }

    pub fn followers(&self) -> Vec<u64> {
        let leader = self.leader();
        self.running().filter(|id| *id != leader).collect()
    }

    /// Cuts a manager off from all others.
    pub fn cut(&self, id: u64) {
        self.wires.cut(id).is_cut.send_replace(true);
    }

    pub fn heal(&self, id: u64) {
        self.wires.cut(id).is_cut.send_replace(false);
    }

    /// How many connections from or to it were refused while it was cut off.
    pub fn refused(&self, id: u64) -> usize {
        self.wires.cut(id).refused.load(Ordering::Relaxed)
    }
}
