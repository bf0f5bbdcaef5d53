//! Thousands of agents in this process: the real join, certificates, session and task state machines, over real connections;
//! only the machine under each is not there.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use berth_agent::reach::{ManagerAddress, Reach};
use berth_agent::session::{Client, ClientSetup, Identity, Link, Sink};
use berth_agent::worker::{Board, Inventory, Restored, Worker, WorkerSetup};
use berth_manager::identity::join::join_once_answered;
use berth_manager::identity::{Credentials, JoinToken};
use berth_proto::id::NodeId;
use berth_proto::object::{NodeDescription, NodeResources};
use berth_proto::pb;
use berth_trace::Tracer;
use nix::sys::socket::{Shutdown, SockaddrIn, getpeername, shutdown};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::machine::{Machine, Telling};

/// Whole processors of each agent's machine; a task reserves one.
pub const CPUS: u64 = 10;
const NANO: u64 = 1_000_000_000;
/// Between two looks at all agents.
const LOOK: Duration = Duration::from_millis(10);

/// Agents that have joined.
pub struct Fleet {
    agents: Vec<Agent>,
    port: u16,
    stop: CancellationToken,
}

struct Agent {
    board: Arc<Board>,
    machine: Arc<Machine>,
    /// When each of its sessions came up.
    ups: Arc<Mutex<Vec<Instant>>>,
}

impl Fleet {
    /// Starts this many machines at the same moment, which join at `manager` and begin their sessions.
    pub async fn join(count: usize, manager: &str, token: &str) -> Self {
        let token: JoinToken = token.parse().expect("the manager's token");
        let stop = CancellationToken::new();
        let joining: Vec<_> = (0..count)
            .map(|number| tokio::spawn(join(number, manager.to_owned(), token.clone(), stop.clone())))
            .collect();
        let mut agents = Vec::new();
        for agent in joining {
            agents.push(agent.await.expect("an agent joins"));
        }
        let port = manager.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("HOST:PORT");
        Self { agents, port, stop }
    }

    /// Waits until each agent's session has come up `times` times; gives when that was.
    pub async fn sessions(&self, times: usize) -> Vec<Instant> {
        self.when(|agent| agent.ups.lock().expect("no holder panics").get(times - 1).copied()).await
    }

    /// Waits until each agent has `tasks` of which it has said everything, and the manager has acknowledged it.
    pub async fn told(&self, tasks: usize) {
        let nothing_sent = BTreeMap::new();
        self.when(|agent| {
            let has_all = agent.machine.came.lock().expect("no holder panics").len() >= tasks;
            (has_all && agent.board.take(&nothing_sent, 1).reports.is_empty()).then_some(())
        })
        .await;
    }

    /// When each task of each agent came to it.
    pub fn came(&self) -> Vec<Instant> {
        self.agents.iter().flat_map(|agent| agent.machine.came.lock().expect("no holder panics").clone()).collect()
    }

    /// Tasks that were told to end.
    pub fn disturbed(&self) -> usize {
        self.agents.iter().map(|agent| agent.machine.disturbed.load(Ordering::Relaxed)).sum()
    }

    /// Cuts every connection to the manager; says how many there were.
    pub fn cut(&self) -> usize {
        let mut cut = 0;
        for entry in fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten() {
            let fd: Option<RawFd> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let is_ours = |fd: &RawFd| getpeername::<SockaddrIn>(*fd).is_ok_and(|peer| peer.port() == self.port);
            if let Some(fd) = fd.filter(is_ours) {
                // One that has broken meanwhile is cut already.
                cut += usize::from(shutdown(fd, Shutdown::Both).is_ok());
            }
        }
        cut
    }

    async fn when<T>(&self, look: impl Fn(&Agent) -> Option<T>) -> Vec<T> {
        let mut found: Vec<Option<T>> = self.agents.iter().map(|_| None).collect();
        loop {
            for (agent, found) in self.agents.iter().zip(&mut found) {
                if found.is_none() {
                    *found = look(agent);
                }
            }
            if found.iter().all(Option::is_some) {
                return found.into_iter().flatten().collect();
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn join(number: usize, manager: String, token: JoinToken, stop: CancellationToken) -> Agent {
    let joined = join_once_answered(std::slice::from_ref(&manager), &token).await.expect("the token is good");
    let node = joined.identity.node;
    let way = Way(Credentials::new(joined.identity).expect("the manager's certificate is good"));
    let (board, machine) = (Arc::new(Board::default()), Arc::new(Machine::default()));
    let worker = Worker::new(WorkerSetup {
        inventory: Arc::new(Inventory::default()),
        board: Arc::clone(&board),
        executor: Arc::clone(&machine) as _,
        reports: Arc::new(Telling(Arc::clone(&board))),
        records: None,
        now: || SystemTime::now().into(),
        tracer: Tracer::off(),
        restored: Restored::default(),
        shutdown: stop.clone(),
    });
    let parts = Arc::new(Parts { worker, membership: watch::Sender::new(None) });
    let link = watch::Sender::new(None);
    let ups = count_sessions(link.subscribe());
    let client = Client::new(ClientSetup {
        identity: identity(number, node),
        board: Arc::clone(&board),
        membership: parts.membership.subscribe(),
        sink: parts,
        reach: Arc::new(way),
        given: watch::channel(vec![ManagerAddress { node: None, address: manager }]).1,
        link,
    });
    tokio::spawn(client.run(stop));
    Agent { board, machine, ups }
}

/// Notes when a session comes up, as long as there is a client.
fn count_sessions(mut link: watch::Receiver<Option<Link>>) -> Arc<Mutex<Vec<Instant>>> {
    let ups = Arc::<Mutex<Vec<Instant>>>::default();
    let noted = Arc::clone(&ups);
    tokio::spawn(async move {
        while link.changed().await.is_ok() {
            if link.borrow_and_update().is_some() {
                noted.lock().expect("no holder panics").push(Instant::now());
            }
        }
    });
    ups
}

fn identity(number: usize, node: NodeId) -> Identity {
    let resources = NodeResources { nano_cpus: CPUS * NANO, memory: 64 << 30, ..NodeResources::default() };
    let description = NodeDescription {
        hostname: format!("agent{number}"),
        resources,
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..NodeDescription::default()
    };
    Identity {
        node,
        description,
        routes: watch::Sender::default().subscribe(),
        images: watch::channel([crate::IMAGE.to_owned()].into()).1,
        keys: watch::Sender::default().subscribe(),
        figures: watch::Sender::default().subscribe(),
        // Nobody reaches the agents: they have no containers to look into.
        address: String::new(),
        session: String::new(),
    }
}

/// What the session's messages go to, as in the real agent but for network and disk.
struct Parts {
    worker: Worker,
    membership: watch::Sender<Option<pb::Membership>>,
}

#[async_trait]
impl Sink for Parts {
    async fn complete(&self, assignments: Vec<pb::Assignment>, _: u64) {
        self.worker.apply_complete(assignments).await;
        self.worker.look();
    }

    async fn changes(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>, _: u64) {
        self.worker.apply_changes(updates, removals).await;
        self.worker.look();
    }

    async fn in_force(&self) {}

    async fn settled(&self, _: u64) {}

    async fn membership(&self, membership: pb::Membership) {
        self.membership.send_replace(Some(membership));
    }
}

/// The way to the manager, with the agent's certificate.
struct Way(Credentials);

impl Reach for Way {
    fn manager(&self, manager: &ManagerAddress) -> Result<Channel, String> {
        self.0.channel_to_manager(&manager.address)
    }

    fn node(&self, _: NodeId, _: &str) -> Result<Channel, String> {
        Err("simulated agents fetch nothing from each other".to_owned())
    }
}
