//! A manager as one thing: opens the data directory, takes part in Raft, leads when it is elected, serves agents.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_proto::id::{ClusterId, Id, NodeId};
use berth_proto::object::{Cluster, ManagerStatus, Meta, Node, NodeStatus};
use berth_proto::spec::{ClusterSpec, NodeSpec};
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::dispatcher::{DispatcherService, Registry, heartbeat};
use crate::loops::{self, ReconcilerConfig};
use crate::raft::datadir::write_whole;
use crate::raft::{
    Connect, DataDir, DataDirError, PlainConnect, ProposeError, Proposer, RaftNode, RaftNodeError, RaftSettings,
};
use crate::store::{Hub, State, Transaction};

/// Before loops that ended by themselves are started again.
const RESTART_WAIT: Duration = Duration::from_millis(200);

/// Settings of a manager.
#[derive(Clone)]
pub struct ManagerConfig {
    /// Its data directory, e.g. `/var/lib/berth/manager`.
    pub data_dir: PathBuf,
    /// Raft.
    pub raft: RaftSettings,
    /// How other managers are reached.
    pub connect: Arc<dyn Connect>,
    /// Seed and address pools of the loops.
    pub loops: ReconcilerConfig,
}

impl ManagerConfig {
    /// Defaults, with everything in `data_dir`; other managers are reached without TLS.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            raft: RaftSettings::default(),
            connect: Arc::new(PlainConnect),
            loops: ReconcilerConfig::default(),
        }
    }
}

/// Why a manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Raft.
    #[error(transparent)]
    Raft(#[from] RaftNodeError),
    /// The first objects cannot be written.
    #[error("cannot write the first objects of the cluster")]
    Bootstrap(#[from] ProposeError),
}

/// What services need of a manager; clones share it.
#[derive(Clone)]
pub struct ControlHandle {
    /// Where commits are published: snapshots and watches.
    pub hub: Hub,
    /// Takes writes.
    pub proposer: Proposer,
    /// True while this manager leads.
    pub leads: watch::Receiver<bool>,
    /// The node that this manager runs on.
    pub node: NodeId,
}

/// A running manager.
pub struct Manager {
    raft: RaftNode,
    node: NodeId,
    registry: Registry,
    stop: CancellationToken,
    leader: JoinHandle<()>,
}

impl Manager {
    /// Opens the data directory and starts. On the first start this makes the cluster, with this node as its manager.
    pub async fn open(config: ManagerConfig) -> Result<Self, ManagerError> {
        let dir = DataDir::open(&config.data_dir)?;
        let node = node_id(dir.path())?;
        let raft = RaftNode::start(dir, config.raft.clone(), config.connect.clone()).await?;
        let stop = CancellationToken::new();
        let registry = Registry::new();
        if let Err(error) = bootstrap(raft.proposer(), node, &config.raft).await {
            raft.stop().await;
            return Err(error.into());
        }
        let leader = Leader {
            hub: raft.hub().clone(),
            proposer: raft.proposer().clone(),
            registry: registry.clone(),
            loops: config.loops,
        };
        let leader = tokio::spawn(leader.run(raft.leads(), stop.clone()));
        Ok(Self { raft, node, registry, stop, leader })
    }

    /// The node that this manager runs on. It stays the same as long as the data directory does.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// What services need.
    pub fn handle(&self) -> ControlHandle {
        ControlHandle {
            hub: self.raft.hub().clone(),
            proposer: self.raft.proposer().clone(),
            leads: self.raft.leads(),
            node: self.node,
        }
    }

    /// The service that agents connect to; [`DispatcherService::into_server`] makes a tonic service of it.
    pub fn dispatcher(&self) -> DispatcherService {
        let (hub, proposer) = (self.raft.hub().clone(), self.raft.proposer().clone());
        DispatcherService::new(hub, proposer, self.registry.clone(), self.stop.clone())
    }

    /// Its part in Raft.
    pub fn raft(&self) -> &RaftNode {
        &self.raft
    }

    /// Returns once the manager has failed and must be stopped, with the reason.
    pub async fn failed(&self) -> String {
        self.raft.failed().await
    }

    /// Stops: sessions end, the loops end, what was acknowledged is on disk.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.leader.await {
            tracing::error!(%error, "the leader's loops did not stop cleanly");
        }
        self.raft.stop().await;
    }
}

/// What only the leader does.
struct Leader {
    hub: Hub,
    proposer: Proposer,
    registry: Registry,
    loops: ReconcilerConfig,
}

impl Leader {
    async fn run(self, mut leads: watch::Receiver<bool>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let leading = *leads.borrow_and_update();
            let term = stop.child_token();
            let until = async {
                tokio::select! {
                    biased;
                    // Cancel-safe: a token stays cancelled.
                    () = stop.cancelled() => {}
                    // Cancel-safe: the newest value is read at the top.
                    _ = leads.changed() => {}
                }
                term.cancel();
            };
            if leading {
                tokio::join!(self.lead(&term), until);
            } else {
                until.await;
            }
        }
    }

    /// Runs the loops until `term` ends; starts them again when they end before.
    async fn lead(&self, term: &CancellationToken) {
        let health = heartbeat::run(self.hub.clone(), self.proposer.clone(), self.registry.clone(), term.clone());
        let loops = async {
            while !term.is_cancelled() {
                let run = loops::run(self.hub.clone(), self.proposer.clone(), self.loops.clone(), term.clone());
                // A task of its own, so that a panic in it ends only it.
                match tokio::spawn(run).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::info!(%error, "the loops ended"),
                    Err(error) => tracing::error!(%error, "the loops failed; starting them again"),
                }
                tokio::select! {
                    biased;
                    // Cancel-safe: a token stays cancelled.
                    () = term.cancelled() => {}
                    // Cancel-safe: nothing is lost but time.
                    () = tokio::time::sleep(RESTART_WAIT) => {}
                }
            }
        };
        tokio::join!(health, loops);
    }
}

/// The id of this node, drawn on the first start.
fn node_id(dir: &Path) -> Result<NodeId, DataDirError> {
    let path = dir.join("node.id");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let damaged = |_| DataDirError::Damaged { path: path.clone(), problem: "it should hold a node id" };
            text.trim().parse().map_err(damaged)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id: NodeId = Id::from_random(rand::random());
            write_whole(&path, format!("{id}\n").as_bytes())?;
            Ok(id)
        }
        Err(source) => Err(DataDirError::Io { what: "read", path, source }),
    }
}

/// Makes the cluster and this node where they are not there yet.
async fn bootstrap(proposer: &Proposer, node: NodeId, raft: &RaftSettings) -> Result<(), ProposeError> {
    let cluster: ClusterId = Id::from_random(rand::random());
    let make = |state: &State| {
        let now = Timestamp::from(SystemTime::now());
        let mut transaction = Transaction::new(now, "bootstrap");
        if state.cluster().is_none() {
            transaction.create(Cluster {
                id: cluster,
                meta: Meta::default(),
                spec: ClusterSpec::default(),
                authority: None,
            });
        }
        if state.node(node).is_none() {
            transaction.create(first_node(node, raft, now));
        }
        Ok::<_, ProposeError>((!transaction.is_empty()).then_some(transaction))
    };
    proposer.write(make).await.map(|_| ())
}

fn first_node(id: NodeId, raft: &RaftSettings, now: Timestamp) -> Node {
    let manager = ManagerStatus { raft_id: raft.id, address: raft.address.clone(), leader: true, reachable: true };
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Manager, ..NodeSpec::default() },
        description: None,
        status: NodeStatus { at: now, ..NodeStatus::default() },
        manager: Some(manager),
    }
}
