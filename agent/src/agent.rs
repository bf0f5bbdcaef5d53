//! The agent of one node: everything put together, started, and stopped without touching the containers.
//!
//! Owns the wiring and the start: records are read, containers of a former life found, then adopted. Never decides anything
//! about a task.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use berth_image::{ImageError, ImageStore, StoreOptions};
use berth_netoverlay::{Overlay, OverlayError};
use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::NodeDescription;
use berth_proto::pb;
use berth_proto::spec::Labels;
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use berth_tunnel::TunnelError;
use dashmap::DashMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::NodeFacts;
use crate::db::{Change, Db, DbError, Records, Writer};
use crate::executor::{self, Barrier, FilesDir, FilesError, NodeExecutor, NodeImages};
use crate::figures::{Meter, MeterSetup};
use crate::local::{LocalService, LocalSetup};
use crate::metrics::{AgentPart, PullMetrics, Sources, TaskMetrics};
use crate::net::{self, Driver};
use crate::node::describe;
use crate::probe::{DataPath, Prober, ProberSetup};
use crate::reach::{ManagerAddress, Reach};
use crate::runtime::{Runtime, RuntimeError, ShimRuntime, ShimRuntimeOptions};
use crate::secure::{Keeper, KeeperSetup, SecureConfig, TunnelLinks};
use crate::session::{self, Client, ClientSetup, Identity, Link, Settled, Sink};
use crate::share::{NodePeers, ShareService, Told};
use crate::standing::Standing;
use crate::volume::{VolumeError, VolumeStore};
use crate::worker::{Board, Inventory, Item, Recorder, Restored, Touched, Worker, WorkerSetup, publishing};

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// This node.
    pub node: NodeId,
    /// The agent's directory: records, tasks, volumes, images.
    pub data_dir: PathBuf,
    /// Host name to report; the machine's when `None`.
    pub hostname: Option<String>,
    /// Address that others reach this node at; empty lets the manager take the stream's.
    pub address: String,
    /// Labels of the engine (`engine.labels.*` in constraints).
    pub engine_labels: Labels,
    /// Absolute parent of the containers' control groups; daemons that share a host must differ in it.
    pub cgroup_parent: String,
    /// The network side; daemons that share a host must differ in `instance`, `table` and `netns_dir`.
    pub network: berth_netoverlay::Config,
    /// Encrypted links; daemons that share a host must differ in `directory` and `base_port`.
    pub secure: SecureConfig,
    /// The image store's settings.
    pub images: StoreOptions,
    /// By which way packets for tasks of other nodes go.
    pub data_path: DataPath,
    /// Where spans go.
    pub tracer: Tracer,
}

impl AgentConfig {
    /// Defaults around a node and its directory (`/var/lib/berth/agent`).
    pub fn new(node: NodeId, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node,
            data_dir: data_dir.into(),
            hostname: None,
            address: String::new(),
            engine_labels: Labels::new(),
            cgroup_parent: "/berth".to_owned(),
            network: berth_netoverlay::Config::default(),
            secure: SecureConfig::default(),
            images: StoreOptions::default(),
            data_path: DataPath::default(),
            tracer: Tracer::off(),
        }
    }
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its directory.
    #[error("cannot use the agent's directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Its records.
    #[error(transparent)]
    Records(#[from] DbError),
    /// The image store.
    #[error("cannot open the image store")]
    Images(#[from] Box<ImageError>),
    /// The volumes.
    #[error("cannot open the volumes")]
    Volumes(#[from] VolumeError),
    /// The directory of files for containers.
    #[error("cannot open the directory of files for containers")]
    Files(#[from] FilesError),
    /// The runtime.
    #[error("cannot start the container runtime")]
    Runtime(#[from] RuntimeError),
    /// The network.
    #[error("cannot open the node's network")]
    Network(#[from] Box<OverlayError>),
    /// Encrypted links.
    #[error("cannot use encrypted links")]
    Secure(#[from] TunnelError),
    /// A worker thread died.
    #[error("a thread of the agent died at start")]
    Thread(#[from] tokio::task::JoinError),
}

/// Why an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By the shutdown; containers run on.
    Stopped,
    /// Its node is not part of the cluster any more, and its containers have ended.
    Retired,
}

/// The agent of one node.
pub struct Agent {
    identity: Identity,
    parts: Arc<Parts>,
    images: ImageStore,
    told: Arc<Told>,
    share: ShareService,
    executor: Arc<NodeExecutor>,
    reach: Arc<dyn Reach>,
    link: watch::Sender<Option<Link>>,
    metrics: Arc<AgentPart>,
    shutdown: CancellationToken,
    retired: CancellationToken,
    writing: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the session and the start share.
struct Parts {
    inventory: Arc<Inventory>,
    board: Arc<Board>,
    network: Arc<Driver>,
    prober: Arc<Prober>,
    worker: Arc<Worker>,
    meter: Arc<Meter>,
    files: Arc<FilesDir>,
    volumes: Arc<VolumeStore>,
    membership: watch::Sender<Option<pb::Membership>>,
    settled: Arc<Settled>,
    secure: Arc<Keeper>,
    /// Something was taken in that is not in force yet.
    stale: AtomicBool,
    /// The same of what encrypted links follow from.
    links_stale: AtomicBool,
    records: Writer,
}

impl Agent {
    /// Opens everything and finds what a former life left. Nothing is started or ended yet, and nobody is reached.
    ///
    /// # Errors
    /// [`AgentError`]; [`DbError::Locked`] inside when another daemon has the directory.
    pub async fn open(config: AgentConfig, reach: Arc<dyn Reach>) -> Result<Self, AgentError> {
        let directory = config.data_dir.clone();
        let (db, records) = blocking(move || open_records(&directory)).await?;
        let options = ShimRuntimeOptions {
            cgroup_parent: config.cgroup_parent.clone(),
            ..ShimRuntimeOptions::under(&config.data_dir)
        };
        let (volumes_dir, files_dir) = (config.data_dir.join("volumes"), config.data_dir.join("files"));
        let open_directories = blocking(move || {
            let runtime = ShimRuntime::new(options)?;
            Ok((runtime, VolumeStore::open(&volumes_dir, now)?, FilesDir::open(&files_dir)?))
        });
        let images_dir = config.data_dir.join("images");
        let open_images = async { Ok(ImageStore::open(images_dir, config.images.clone()).await.map_err(Box::new)?) };
        let open_network = async { Ok(Overlay::open(config.network.clone()).await.map_err(Box::new)?) };
        let ((runtime, volumes, files), images, overlay) =
            tokio::try_join!(open_directories, open_images, open_network)?;
        let description = describe(config.hostname.clone(), config.engine_labels.clone());
        let found = runtime.list().await?;
        let restored = restore(&records, found);
        let links = TunnelLinks::new(&config.secure, &config.network.instance, config.data_dir.join("programs"))?;
        let machine = Machine { runtime: Arc::new(runtime), images, overlay, links, volumes, files, reach };
        Ok(Self::assemble(&config, description, machine, db, records, restored))
    }

    fn assemble(
        config: &AgentConfig,
        description: NodeDescription,
        machine: Machine,
        db: Arc<Db>,
        records: Records,
        restored: Restored,
    ) -> Self {
        let (inventory, board) = (Arc::new(assigned(records.assigned)), Arc::new(Board::default()));
        let tracer = config.tracer.of_node(config.node);
        let (tasks, pulls) = (TaskMetrics::default(), PullMetrics::default());
        let questions = machine.overlay.questions();
        let network: Arc<dyn net::Network> = Arc::new(machine.overlay);
        let prober = prober(config, &machine.reach, &inventory, &network);
        let network = Arc::new(Driver::new(network, Arc::clone(&inventory), config.node, prober.straight()));
        let link = watch::Sender::new(None);
        let settled = Arc::new(Settled::new(link.subscribe()));
        let secure = Arc::new(Keeper::new(KeeperSetup {
            node: config.node,
            config: config.secure.clone(),
            instance: config.network.instance.clone(),
            keys: SecureConfig::keys(&config.data_dir),
            links: Arc::new(machine.links),
            network: Arc::clone(&network),
            inventory: Arc::clone(&inventory),
            settled: Arc::clone(&settled),
        }));
        let peers = NodePeers::new(config.node, link.subscribe(), Arc::clone(&machine.reach));
        let executor = Arc::new(NodeExecutor {
            node: facts(config.node, &description),
            runtime: machine.runtime,
            images: Arc::new(NodeImages::new(machine.images.clone(), Arc::new(peers)).counted(pulls.clone())),
            network: Arc::clone(&network),
            volumes: Arc::new(machine.volumes),
            inventory: Arc::clone(&inventory),
            files: Arc::new(machine.files),
            barrier: Barrier::new(Arc::clone(&settled), Arc::clone(&inventory)),
            secure: Arc::clone(&secure),
            created: DashMap::new(),
            creating: executor::creations(),
            tracer: tracer.clone(),
            metrics: tasks.clone(),
        });
        for (task, prepared) in &restored.prepared {
            executor.volumes.hold_again(*task, &prepared.volumes);
        }
        let (writer, thread) = Writer::start(db);
        let shutdown = CancellationToken::new();
        let worker = Worker::new(WorkerSetup {
            inventory: Arc::clone(&inventory),
            board: Arc::clone(&board),
            executor: Arc::clone(&executor) as Arc<dyn crate::task::Executor>,
            reports: Arc::new(Recorder::new(Arc::clone(&board), writer.clone(), tasks.clone())),
            records: Some(writer.clone()),
            now,
            tracer,
            restored,
            shutdown: shutdown.clone(),
        });
        let worker = Arc::new(worker);
        let meter = Arc::new(Meter::new(MeterSetup {
            inventory: Arc::clone(&inventory),
            worker: Arc::clone(&worker),
            runtime: Arc::clone(&executor.runtime),
        }));
        let sources = Sources {
            worker: Arc::clone(&worker),
            inventory: Arc::clone(&inventory),
            runtime: Arc::clone(&executor.runtime),
            network: Arc::clone(&network),
            questions,
            traffic: machine.images.traffic(),
            link: link.subscribe(),
        };
        let metrics = Arc::new(AgentPart::new(&tasks, &pulls, sources));
        let told = Told::new(machine.images.clone());
        let identity = Identity {
            node: config.node,
            description,
            routes: network.routes(),
            images: told.references(),
            keys: secure.announced(),
            figures: meter.figures(),
            address: config.address.clone(),
            session: String::new(),
        };
        let parts = Parts {
            inventory,
            board,
            network,
            prober,
            worker,
            meter,
            files: Arc::clone(&executor.files),
            volumes: Arc::clone(&executor.volumes),
            membership: watch::Sender::new(records.membership),
            settled,
            secure,
            stale: AtomicBool::new(false),
            links_stale: AtomicBool::new(false),
            records: writer,
        };
        Self {
            identity,
            parts: Arc::new(parts),
            told: Arc::new(told),
            share: ShareService::new(machine.images.clone(), shutdown.clone()),
            images: machine.images,
            executor,
            reach: machine.reach,
            link,
            metrics,
            shutdown,
            retired: CancellationToken::new(),
            writing: std::sync::Mutex::new(Some(thread)),
        }
    }

    /// What this node says of itself, but for its routes, images and keys, which may change.
    pub fn description(&self) -> &NodeDescription {
        &self.identity.description
    }

    /// The manager that a session is up with; `None` without one.
    pub fn link(&self) -> watch::Receiver<Option<Link>> {
        self.link.subscribe()
    }

    /// What the managers said last: who they are, what this node should be, which roots it should trust. From the records of
    /// the life before until a manager is heard; `None` when there was none.
    pub fn membership(&self) -> watch::Receiver<Option<pb::Membership>> {
        self.parts.membership.subscribe()
    }

    /// The service that people's commands reach: logs, exec, attach, stats, copies, images, volumes.
    pub fn local_service(&self) -> LocalService {
        LocalService::new(LocalSetup {
            node: self.identity.node,
            worker: Arc::clone(&self.parts.worker),
            inventory: Arc::clone(&self.parts.inventory),
            runtime: Arc::clone(&self.executor.runtime),
            images: self.images.clone(),
            volumes: Arc::clone(&self.parts.volumes),
            prober: Arc::clone(&self.parts.prober),
            network: Arc::clone(&self.parts.network),
            shutdown: self.shutdown.clone(),
        })
    }

    /// What a scrape shows of this node.
    pub fn metrics(&self) -> Arc<AgentPart> {
        Arc::clone(&self.metrics)
    }

    /// Tells whether nodes are part of the cluster.
    pub fn standing(&self) -> Standing {
        Standing::new(self.link.subscribe(), self.parts.membership.subscribe())
    }

    /// The service that other nodes take images from. Only nodes of the cluster may reach it.
    pub fn share_service(&self) -> ShareService {
        self.share.clone()
    }

    /// The node is not part of its cluster any more: [`Self::run`] ends its containers as their services ask, and returns.
    /// Called by the session too, when a manager says so.
    pub fn retire(&self) {
        self.retired.cancel();
    }

    /// Returns once the node is known not to be part of its cluster any more. Cancel-safe: it stays so.
    pub async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Runs until `shutdown` fires. Containers run on after it; the next life adopts them. Ends earlier, and then its containers
    /// first, when the node is not part of the cluster any more.
    ///
    /// `managers` are those that the node was started with; it knows all once one of them was heard, and over its restarts.
    pub async fn run(&self, managers: watch::Receiver<Vec<ManagerAddress>>, shutdown: CancellationToken) -> Ended {
        let stop = self.shutdown.clone();
        let _stop = stop.clone().drop_guard();
        self.adopt().await;
        // The first session begins with them: the managers give out subnets by what they know of their nodes.
        self.parts.network.look_at_routes().await;
        self.told.look().await;
        let network = Arc::clone(&self.parts.network);
        let following = tokio::spawn({
            let stop = stop.clone();
            async move { network.run(stop).await }
        });
        let (driver, inventory) = (Arc::clone(&self.parts.network), Arc::clone(&self.parts.inventory));
        let publishing = publishing::run(driver, inventory, Arc::clone(&self.parts.worker), stop.clone());
        let publishing = tokio::spawn(publishing);
        let telling = tokio::spawn({
            let (told, stop) = (Arc::clone(&self.told), stop.clone());
            async move { told.run(stop).await }
        });
        let probing = tokio::spawn(Arc::clone(&self.parts.prober).run(stop.clone()));
        let measuring = tokio::spawn(Arc::clone(&self.parts.meter).run(stop.clone()));
        let securing = tokio::spawn({
            let (secure, stop) = (Arc::clone(&self.parts.secure), stop.clone());
            async move { secure.run(stop).await }
        });
        let client = Client::new(ClientSetup {
            identity: self.identity.clone(),
            board: Arc::clone(&self.parts.board),
            sink: Arc::clone(&self.parts) as Arc<dyn Sink>,
            reach: Arc::clone(&self.reach),
            given: managers,
            membership: self.membership(),
            link: self.link.clone(),
        });
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled. The session ends with its client.
            () = self.retired.cancelled() => {}
            ended = client.run(shutdown.clone()) => if ended == session::Ended::Removed { self.retire() },
        }
        self.link.send_replace(None);
        let ended = if self.retired.is_cancelled() { self.end_tasks(&shutdown).await } else { Ended::Stopped };
        stop.cancel();
        self.parts.worker.ended().await;
        let loops = [
            (following, "the network driver"),
            (publishing, "the look at published ports"),
            (telling, "the look at images"),
            (probing, "the look at other nodes"),
            (securing, "the look at encrypted links"),
            (measuring, "the look at what tasks use"),
        ];
        for (running, what) in loops {
            if let Err(error) = running.await {
                tracing::error!(%error, "{what} died");
            }
        }
        self.close_records().await;
        ended
    }

    /// Nothing is assigned to this node any more: containers end by their stop signals and grace periods, then networks go.
    async fn end_tasks(&self, shutdown: &CancellationToken) -> Ended {
        let tasks = self.parts.worker.known().len();
        tracing::warn!(tasks, "this node is not part of the cluster any more: its containers are ended");
        self.parts.worker.apply_complete(Vec::new()).await;
        self.parts.worker.look();
        tokio::select! {
            biased;
            // The next life is told again.
            () = shutdown.cancelled() => return Ended::Stopped,
            () = self.parts.worker.ended() => {}
        }
        self.parts.complete(Vec::new(), 0).await;
        self.parts.in_force().await;
        tracing::info!("no containers are left");
        Ended::Retired
    }

    /// Everything is on disk and the directory is free for the next life when this returns.
    async fn close_records(&self) {
        self.parts.records.close().await;
        let thread = self.writing.lock().unwrap_or_else(PoisonError::into_inner).take();
        let joined = tokio::task::spawn_blocking(move || thread.map(std::thread::JoinHandle::join)).await;
        if !matches!(joined, Ok(None | Some(Ok(())))) {
            tracing::error!("the writer of the agent's records died");
        }
    }

    /// Brings up what the records say, before any manager is heard.
    async fn adopt(&self) {
        // Links first: packets of encrypted networks go by those that are there.
        self.parts.secure.pass().await;
        self.parts.network.sync_nodes().await;
        self.parts.network.sync_networks().await;
        self.reattach().await;
        self.parts.worker.look();
        self.parts.network.kick();
    }

    /// The overlay learns of the networks that running containers have: an attach with the same spec changes nothing.
    async fn reattach(&self) {
        for (task, ready) in self.parts.worker.restored_alive() {
            let work = self.parts.inventory.read(|assigned| {
                let task = assigned.tasks.get(&task)?;
                Some(crate::task::Work { task: Arc::clone(task), spec: Arc::clone(assigned.spec_of(task)?) })
            });
            let Some(work) = work else { continue };
            if let Err(error) = executor::reattach(&self.executor, &work, ready).await {
                tracing::warn!(%task, error, "cannot take over the network of a running task");
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[async_trait]
impl Sink for Parts {
    async fn complete(&self, assignments: Vec<pb::Assignment>, index: u64) {
        self.settled.began(index);
        let touched = self.worker.apply_complete(assignments).await;
        self.secure.heard(index);
        self.applied(touched).await;
        self.network.settle();
        self.clean().await;
    }

    async fn changes(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>, index: u64) {
        // Before any task acts on it. Of the rest, but for this node itself, nobody is told when it is settled.
        if concerns_tasks(&updates, &removals) {
            self.settled.heard(index);
        }
        let touched = self.worker.apply_changes(updates, removals).await;
        if touched.peers {
            self.secure.heard(index);
        }
        self.applied(touched).await;
    }

    async fn in_force(&self) {
        if self.links_stale.swap(false, Ordering::SeqCst) {
            // Others send by a new key of theirs once this node has said that it is on its devices.
            self.secure.pass().await;
        }
        if self.stale.swap(false, Ordering::SeqCst) {
            self.network.sync_services().await;
        }
    }

    async fn settled(&self, index: u64) {
        self.settled.settled(index);
    }

    async fn membership(&self, membership: pb::Membership) {
        if self.membership.borrow().as_ref() == Some(&membership) {
            return;
        }
        self.records.put(Change::Membership(membership.clone())).await;
        self.membership.send_replace(Some(membership));
    }
}

impl Parts {
    /// Networks first: a task cannot join one that the overlay has not heard of.
    async fn applied(&self, touched: Touched) {
        if touched.peers {
            self.network.sync_nodes().await;
        }
        if touched.networks {
            self.network.sync_networks().await;
        }
        self.worker.look();
        if touched.peers || touched.networks {
            self.links_stale.store(true, Ordering::SeqCst);
        }
        if touched.endpoints || touched.peers {
            self.stale.store(true, Ordering::SeqCst);
        }
    }

    /// Removes what belongs to no task any more: files, anonymous volumes. Containers are ended by the worker.
    async fn clean(&self) {
        let known: BTreeSet<TaskId> = self.worker.known();
        let (files, volumes) = (Arc::clone(&self.files), Arc::clone(&self.volumes));
        let cleaned = tokio::task::spawn_blocking(move || {
            if let Err(error) = files.remove_unknown(|task| known.contains(&task)) {
                tracing::warn!(error = %crate::errors::chain(&error), "cannot remove files of tasks that are gone");
            }
            match volumes.remove_orphans(&known) {
                Ok(removed) if removed.is_empty() => {}
                Ok(removed) => tracing::info!(?removed, "removed anonymous volumes of tasks that are gone"),
                Err(error) => tracing::warn!(error = %crate::errors::chain(&error), "cannot remove orphaned volumes"),
            }
        });
        if let Err(error) = cleaned.await {
            tracing::error!(%error, "cleaning up died");
        }
    }
}

fn concerns_tasks(updates: &[pb::Assignment], removals: &[pb::AssignmentKey]) -> bool {
    use pb::assignment::Item;
    use pb::assignment_key::Key;
    updates.iter().any(|update| matches!(update.item, Some(Item::Task(_))))
        || removals.iter().any(|removal| matches!(removal.key, Some(Key::Task(_))))
}

/// What was opened on the machine, and the way to others.
struct Machine {
    runtime: Arc<dyn Runtime>,
    images: ImageStore,
    overlay: Overlay,
    links: TunnelLinks,
    volumes: VolumeStore,
    files: FilesDir,
    reach: Arc<dyn Reach>,
}

fn prober(
    config: &AgentConfig,
    reach: &Arc<dyn Reach>,
    inventory: &Arc<Inventory>,
    network: &Arc<dyn net::Network>,
) -> Arc<Prober> {
    Arc::new(Prober::new(ProberSetup {
        node: config.node,
        inventory: Arc::clone(inventory),
        network: Arc::clone(network),
        reach: Arc::clone(reach),
        data_path: config.data_path,
    }))
}

fn open_records(directory: &Path) -> Result<(Arc<Db>, Records), AgentError> {
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o711)))
        .map_err(|source| AgentError::Directory { path: directory.to_owned(), source })?;
    let db = Db::open(&directory.join("state.redb"))?;
    let records = db.read()?;
    Ok((Arc::new(db), records))
}

fn facts(id: NodeId, description: &NodeDescription) -> NodeFacts {
    NodeFacts { id, hostname: description.hostname.clone(), platform: description.platform.clone() }
}

fn assigned(items: Vec<pb::Assignment>) -> Inventory {
    let inventory = Inventory::default();
    inventory.write(|assigned| {
        items.into_iter().filter_map(|item| Item::parse(item).ok()).for_each(|item| {
            assigned.put(item);
        });
    });
    inventory
}

fn restore(records: &Records, found: Vec<crate::runtime::ContainerState>) -> Restored {
    let id = |state: &crate::runtime::ContainerState| state.id.parse::<TaskId>().ok();
    Restored {
        statuses: records.statuses.iter().cloned().collect(),
        prepared: records.prepared.iter().cloned().collect(),
        found: found.iter().filter_map(|state| Some((id(state)?, executor::found(state)))).collect(),
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AgentError> + Send + 'static,
) -> Result<T, AgentError> {
    tokio::task::spawn_blocking(work).await?
}
