//! A manager as one thing: opens the data directory, takes part in Raft, leads when it is elected, serves agents.
//!
//! It starts in two steps, because the word of others may be needed: [`Manager::open`] needs nobody, then its services are
//! served, then [`Manager::ready`] waits for a leader, founds the cluster, or asks to be taken into one.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{ClusterId, Id, NodeId};
use berth_proto::object::{Cluster, ManagerStatus, Meta, Node, NodeStatus};
use berth_proto::spec::{ClusterSpec, NodeSpec};
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::dispatcher::{
    DispatcherParts, DispatcherService, Figures, Floors, News, Registry, figures, hearsay, heartbeat, settle,
};
use crate::identity::authority::{self, AuthorityError, Grant};
use crate::identity::{CertificateService, Identity, rotation};
use crate::loops::{self, ReconcilerConfig, autoscale};
use crate::members::ids::{self, IdsError};
use crate::members::{JoinError, ManagersService, join, tend};
use crate::metrics::ManagerMetrics;
use crate::raft::recover::{self, RecoverError, Sole};
use crate::raft::transport::RaftService;
use crate::raft::{
    Connect, DataDir, DataDirError, Forward, HandOverError, Leader, Members, PlainConnect, ProposeError, Proposer,
    RaftNode, RaftNodeError, RaftSettings,
};
use crate::store::{Hub, State, Transaction};

/// Before loops that ended by themselves are started again.
const RESTART_WAIT: Duration = Duration::from_millis(200);

/// How long a leader that stops may take to hand the lead over.
const HAND_OVER: Duration = Duration::from_secs(5);

/// Settings of a manager.
#[derive(Clone)]
pub struct ManagerConfig {
    /// Its data directory, e.g. `/var/lib/berth/manager`.
    pub data_dir: PathBuf,
    /// The node that this machine is, where that is known already. Otherwise the directory knows it, or draws one.
    pub node: Option<NodeId>,
    /// Start with an empty log and be taken into a cluster, instead of founding one. Only on a fresh directory.
    pub join: bool,
    /// `IP:PORT` of managers that may know who leads: for one that joins, or that comes back with another address.
    pub managers: Vec<String>,
    /// Raft; its id comes from the directory.
    pub raft: RaftSettings,
    /// How other managers are reached.
    pub connect: Arc<dyn Connect>,
    /// Seed and address pools of the loops.
    pub loops: ReconcilerConfig,
    /// Where spans go.
    pub tracer: Tracer,
}

impl ManagerConfig {
    /// Defaults, with everything in `data_dir`; other managers are reached without TLS.
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            node: None,
            join: false,
            managers: Vec::new(),
            raft: RaftSettings::default(),
            connect: Arc::new(PlainConnect),
            loops: ReconcilerConfig::default(),
            tracer: Tracer::off(),
        }
    }
}

/// Why a manager cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Which node the directory is.
    #[error(transparent)]
    Ids(#[from] IdsError),
    /// Raft.
    #[error(transparent)]
    Raft(#[from] RaftNodeError),
    /// The others do without it.
    #[error("this node is not one of the managers any more: it was demoted or removed while this manager was off")]
    Dismissed,
    /// No cluster takes it in.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A cluster of one cannot be made.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The first objects cannot be written.
    #[error("cannot write the first objects of the cluster")]
    Bootstrap(#[from] ProposeError),
    /// The cluster's CA cannot be made.
    #[error("cannot make the cluster's CA")]
    Authority(#[from] AuthorityError),
}

impl ManagerError {
    /// The others take this node for no manager: what it is, they know.
    pub fn is_no_manager(&self) -> bool {
        match self {
            Self::Dismissed => true,
            Self::Join(JoinError::Refused(status)) => status.code() == tonic::Code::PermissionDenied,
            _ => false,
        }
    }
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
    /// Makes reads see everything that was acknowledged before: [`Forward::linearizable`].
    pub forward: Forward,
    /// Who takes part in Raft.
    pub members: Members,
    /// Where spans go.
    pub tracer: Tracer,
    /// What is counted and read of this manager.
    pub metrics: Arc<berth_metrics::Registry>,
}

/// A running manager.
pub struct Manager {
    raft: RaftNode,
    settings: RaftSettings,
    managers: Vec<String>,
    node: NodeId,
    registry: Registry,
    floors: Floors,
    figures: Figures,
    news: News,
    tracer: Tracer,
    counts: ManagerMetrics,
    metrics: Arc<berth_metrics::Registry>,
    stop: CancellationToken,
    duties: JoinHandle<()>,
}

impl Manager {
    /// Opens the data directory and takes part. Needs no other manager; its services are to be served from now on.
    ///
    /// # Errors
    /// When the directory cannot be used, or is another node's.
    pub async fn open(config: ManagerConfig) -> Result<Self, ManagerError> {
        let dir = DataDir::open(&config.data_dir)?;
        let node = ids::node(&dir, config.node)?;
        let id = ids::raft(&dir, config.join)?;
        let counts = ManagerMetrics::default();
        let settings = RaftSettings { id, found: !config.join, metrics: counts.raft.clone(), ..config.raft };
        let raft = RaftNode::open(dir, settings.clone(), config.connect).await?;
        let (stop, registry, floors) = (CancellationToken::new(), Registry::new(), Floors::new());
        let figures = Figures::default();
        let tracer = config.tracer.of_node(node);
        let news = News::start(raft.hub().clone(), floors.clone(), stop.clone());
        let metrics = Arc::new(counts.registry(&raft, &registry));
        // Ends with `stop`, or with Raft, which closes the hub.
        tokio::spawn(counts.store.clone().follow(raft.hub().clone(), stop.clone()));
        let duties = Duties {
            hub: raft.hub().clone(),
            proposer: raft.proposer().clone(),
            forward: raft.forward().clone(),
            members: raft.members(),
            leader: raft.watch_leader(),
            registry: registry.clone(),
            floors: floors.clone(),
            figures: figures.clone(),
            node,
            loops: config.loops,
            tracer: tracer.clone(),
            counts: counts.clone(),
        };
        let duties = tokio::spawn(duties.run(raft.leads(), stop.clone()));
        let managers = config.managers;
        Ok(Self {
            raft,
            settings,
            managers,
            node,
            registry,
            floors,
            figures,
            news,
            tracer,
            counts,
            metrics,
            stop,
            duties,
        })
    }

    /// Returns once a leader is known and everything that was committed before is applied here: founds the cluster on a
    /// fresh directory, or asks until this manager is taken in. What is served before then waits, or is refused.
    ///
    /// # Errors
    /// When nobody leads, or the cluster does not take this manager in. It has to be [shut down](Self::shutdown) then.
    pub async fn ready(&self) -> Result<(), ManagerError> {
        tokio::select! {
            biased;
            // Cancel-safe: it stays so.
            () = self.raft.dismissed() => Err(ManagerError::Dismissed),
            // Dropped only when nobody will lead this manager any more.
            took_part = self.take_part() => took_part,
        }
    }

    async fn take_part(&self) -> Result<(), ManagerError> {
        let RaftSettings { id, address, .. } = &self.settings;
        let members = self.raft.members();
        let moved = members.view().addresses.get(id).is_some_and(|known| known != address);
        if self.raft.waits() || moved {
            join::join(&members, &self.managers, *id, address).await?;
        }
        self.raft.caught_up().await?;
        if members.view().voters == BTreeSet::from([*id]) {
            bootstrap(self.raft.proposer(), self.node, &self.settings).await?;
        }
        Ok(())
    }

    /// Makes a cluster of one of a directory whose cluster has lost its quorum; keeps everything. No manager may run on it.
    /// The directories of the other managers must not be used again.
    ///
    /// # Errors
    /// When the directory cannot be read, or there is no cluster in it.
    pub async fn force_new_cluster(config: &ManagerConfig) -> Result<(), ManagerError> {
        let dir = DataDir::open(&config.data_dir)?;
        Ok(recover::force_new_cluster(&dir, &sole(&dir, config)?).await?)
    }

    /// Makes a cluster of one of a backup, in a fresh directory.
    ///
    /// # Errors
    /// When the directory is not fresh, or the backup is damaged.
    pub async fn restore(config: &ManagerConfig, backup: impl Read) -> Result<(), ManagerError> {
        let dir = DataDir::open(&config.data_dir)?;
        Ok(recover::restore(&dir, &sole(&dir, config)?, backup).await?)
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
            forward: self.raft.forward().clone(),
            members: self.raft.members(),
            tracer: self.tracer.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Raft's service, which only managers may call.
    pub fn raft_service(&self) -> RaftService {
        self.raft.service()
    }

    /// What managers say to each other beside the log; only they may call it.
    pub fn managers_service(&self) -> ManagersService {
        ManagersService::new(&self.raft, self.registry.clone(), self.floors.clone(), self.figures.clone())
    }

    /// The service that agents connect to; [`DispatcherService::into_server`] makes a tonic service of it.
    pub fn dispatcher(&self) -> DispatcherService {
        let parts = DispatcherParts {
            registry: self.registry.clone(),
            news: self.news.clone(),
            floors: self.floors.clone(),
            figures: self.figures.clone(),
            tracer: self.tracer.clone(),
            metrics: self.counts.dispatcher.clone(),
        };
        DispatcherService::new(&self.raft, parts, self.stop.clone())
    }

    /// The service that lets machines in and renews certificates, which anybody may call.
    pub fn certificates(&self) -> CertificateService {
        CertificateService::new(self.raft.hub().clone(), self.raft.proposer().clone())
    }

    /// A certificate for this node, by the CA in its own state: for the node that founds a cluster, and has nobody to ask.
    ///
    /// # Errors
    /// When the CA cannot be used.
    pub fn issue_own(&self) -> Result<Identity, AuthorityError> {
        let state = self.raft.hub().snapshot();
        let cluster = state.cluster().ok_or(AuthorityError::None)?;
        let now = clock::now();
        let grant = Grant { node: self.node, role: NodeRole::Manager, index: state.index(), now };
        authority::issue_own(cluster, &grant, rand::random())
    }

    /// Its part in Raft.
    pub fn raft(&self) -> &RaftNode {
        &self.raft
    }

    /// Returns once the manager has failed and must be stopped, with the reason.
    pub async fn failed(&self) -> String {
        self.raft.failed().await
    }

    /// Returns once this node is no manager any more: it was demoted or removed, and the others do without it. It has to be
    /// shut down then, and its directory [discarded](crate::raft::recover::discard).
    pub async fn dismissed(&self) {
        self.raft.dismissed().await;
    }

    /// Lets another manager lead, where this one does and another could. To be called before the services end: the lead
    /// passes without waiting for an election then.
    pub async fn step_down(&self) {
        let members = self.raft.members();
        let view = members.view();
        let successors: BTreeSet<u64> =
            view.reachable.intersection(&view.voters).copied().filter(|id| *id != view.id).collect();
        if !members.leads() || successors.is_empty() {
            return;
        }
        match tokio::time::timeout(HAND_OVER, members.hand_over(&successors)).await {
            Ok(Ok(()) | Err(HandOverError::NotLeader)) => tracing::info!("handed the lead over"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot hand the lead over: the others will elect"),
            Err(_) => tracing::warn!("handing the lead over takes too long: the others will elect"),
        }
    }

    /// Stops: another leads, sessions end, the loops end, what was acknowledged is on disk.
    pub async fn shutdown(self) {
        self.step_down().await;
        self.stop.cancel();
        // Together: without a quorum the loops wait for writes that only end with Raft.
        let (duties, ()) = tokio::join!(self.duties, self.raft.stop());
        if let Err(error) = duties {
            tracing::error!(%error, "the leader's loops did not stop cleanly");
        }
    }
}

/// What a manager does besides serving: the leader one thing, the others another.
struct Duties {
    hub: Hub,
    proposer: Proposer,
    forward: Forward,
    members: Members,
    leader: watch::Receiver<Leader>,
    registry: Registry,
    floors: Floors,
    figures: Figures,
    node: NodeId,
    loops: ReconcilerConfig,
    tracer: Tracer,
    counts: ManagerMetrics,
}

impl Duties {
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
                tokio::join!(self.follow(&term), until);
            }
        }
    }

    /// Tells the leader until `term` ends.
    async fn follow(&self, term: &CancellationToken) {
        let (hub, members, registry) = (self.hub.clone(), self.members.clone(), self.registry.clone());
        let hearsay = hearsay::run(hub, members.clone(), self.leader.clone(), registry, term.clone());
        let figures = figures::follow(self.figures.clone(), members.clone(), term.clone());
        let settle = settle::follow(self.floors.clone(), members, self.leader.clone(), term.clone());
        tokio::join!(hearsay, settle, figures);
    }

    /// Runs the loops until `term` ends; starts them again when they end before.
    async fn lead(&self, term: &CancellationToken) {
        if !self.knows_everything(term).await {
            return;
        }
        let (hub, proposer, counts) = (self.hub.clone(), self.proposer.clone(), self.counts.dispatcher.clone());
        let health = heartbeat::run(hub, proposer, self.registry.clone(), counts, term.clone());
        let loops = async {
            while !term.is_cancelled() {
                let (hub, proposer, counts) = (self.hub.clone(), self.proposer.clone(), self.counts.loops.clone());
                let run = loops::run(hub, proposer, self.loops.clone(), self.tracer.clone(), counts, term.clone());
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
        let members = tend::run(self.hub.clone(), self.proposer.clone(), self.members.clone(), term.clone());
        let rotation = rotation::run(self.hub.clone(), self.proposer.clone(), term.clone());
        let settle = settle::lead(self.hub.clone(), self.floors.clone(), self.node, term.clone());
        let autoscale = autoscale::run(self.hub.clone(), self.proposer.clone(), self.figures.clone(), term.clone());
        tokio::join!(health, members, rotation, settle, loops, autoscale);
    }
}

impl Duties {
    /// Waits until what leaders before this one have committed is applied here: what they decided must not be decided again.
    /// False when `term` ended before.
    async fn knows_everything(&self, term: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = term.cancelled() => return false,
                // Nothing is lost with it: it is asked again.
                known = self.forward.linearizable() => if known.is_ok() { return true },
            }
        }
    }
}

fn sole(dir: &DataDir, config: &ManagerConfig) -> Result<Sole, ManagerError> {
    let (id, node) = (ids::raft(dir, false)?, ids::node(dir, config.node)?);
    Ok(Sole { id, node, address: config.raft.address.clone() })
}

/// Writes the first objects, and that this node is the manager: the first, or the only one that is left. Does nothing where
/// that is so already.
async fn bootstrap(proposer: &Proposer, node: NodeId, raft: &RaftSettings) -> Result<(), ManagerError> {
    let fresh: ClusterId = Id::from_random(rand::random());
    let make = |state: &State| {
        let now = clock::now();
        let mut transaction = Transaction::new(now, "bootstrap");
        let known = state.cluster().map(|cluster| Cluster::clone(cluster));
        let mut cluster = known.unwrap_or_else(|| first_cluster(fresh));
        if cluster.authority.is_none() {
            cluster.authority = Some(authority::found(cluster.id, now, &mut rand::random)?);
            // One that was made before there were certificates has no word on them.
            cluster.spec.certificate_lifetime = ClusterSpec::default().certificate_lifetime;
            transaction.update(cluster);
        }
        match state.node(node) {
            None => transaction.create(first_node(node, raft, now)),
            Some(known) if !is_manager(known, raft) => {
                let spec = NodeSpec { role: NodeRole::Manager, ..known.spec.clone() };
                transaction.update(Node { spec, manager: Some(status(raft)), ..Node::clone(known) });
            }
            Some(_) => {}
        }
        Ok::<_, ManagerError>((!transaction.is_empty()).then_some(transaction))
    };
    proposer.write(make).await.map(|_| ())
}

fn first_cluster(id: ClusterId) -> Cluster {
    Cluster { id, meta: Meta::default(), spec: ClusterSpec::default(), authority: None, tokens: Vec::new() }
}

fn first_node(id: NodeId, raft: &RaftSettings, now: Timestamp) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Manager, ..NodeSpec::default() },
        description: None,
        status: NodeStatus { at: now, ..NodeStatus::default() },
        manager: Some(status(raft)),
        ingress: Vec::new(),
    }
}

fn status(raft: &RaftSettings) -> ManagerStatus {
    ManagerStatus { raft_id: raft.id, address: raft.address.clone(), leader: true, reachable: true }
}

fn is_manager(node: &Node, raft: &RaftSettings) -> bool {
    node.spec.role == NodeRole::Manager && node.manager.as_ref().is_some_and(|manager| manager.raft_id == raft.id)
}
