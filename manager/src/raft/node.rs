//! One manager's part in the Raft group: opens what is on disk, takes part, stops cleanly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, Config, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::store::Hub;

use super::campaign::{Campaigner, Pulse};
use super::datadir::{DataDir, DataDirError};
use super::disk::{Disk, RealDisk};
use super::forward::Forward;
use super::handover::Stepping;
use super::intake::Intake;
use super::log::{LogError, LogStore};
use super::machine::Machine;
use super::members::Members;
use super::metrics::{RaftFigures, RaftMetrics};
use super::proposer::{ProposeError, Proposer};
use super::snapshot::{SnapshotError, SnapshotStore};
use super::transport::{Connect, Network, Peers, RaftService};
use super::types::typ;

/// How often the size of the log is looked at.
const SIZE_CHECK: Duration = Duration::from_millis(500);
/// How long a start may wait for a leader.
const LEADER_WAIT: Duration = Duration::from_secs(30);
/// How long a stop may wait for tasks that still use the log.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// Settings of the Raft group.
#[derive(Debug, Clone)]
pub struct RaftSettings {
    /// This manager's Raft id, not 0.
    pub id: u64,
    /// Address that the other managers reach this one at.
    pub address: String,
    /// Make a cluster of one where there is nothing on disk yet. A manager that joins a cluster waits to be taken in
    /// instead.
    pub found: bool,
    /// Between two heartbeats of the leader. Default 100 ms.
    pub heartbeat: Duration,
    /// A follower that hears nothing for a random time of this range campaigns. Default 300 to 600 ms.
    pub election: (Duration, Duration),
    /// Entries after which a snapshot is made. Default 10,000.
    pub snapshot_entries: u64,
    /// Bytes of entries on disk after which a snapshot is made. Default 32 MiB.
    pub snapshot_bytes: u64,
    /// Entries that stay in the log behind a snapshot, for followers that are a little late. Default 500.
    pub keep_entries: u64,
    /// Where the log's file comes from. Default [`RealDisk`].
    pub disk: Arc<dyn Disk>,
    /// What it counts.
    pub metrics: RaftMetrics,
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            id: 1,
            address: String::new(),
            found: true,
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(300), Duration::from_millis(600)),
            snapshot_entries: 10_000,
            snapshot_bytes: 32 << 20,
            keep_entries: 500,
            disk: Arc::new(RealDisk),
            metrics: RaftMetrics::default(),
        }
    }
}

/// Why a manager cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum RaftNodeError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The settings contradict each other.
    #[error("the Raft settings cannot be used: {problem}")]
    Settings {
        /// What is wrong.
        problem: String,
    },
    /// Raft did not start.
    #[error("Raft cannot start: {problem}")]
    Start {
        /// What is wrong.
        problem: String,
    },
    /// Nobody leads.
    #[error("no leader was elected within {} s: {problem}", LEADER_WAIT.as_secs())]
    NoLeader {
        /// The last state seen.
        problem: String,
    },
}

/// Who leads, as far as a manager knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leader {
    /// The term.
    pub term: u64,
    /// Raft id of the leader of that term, once it is known.
    pub id: Option<u64>,
}

/// One manager's part in the Raft group.
pub struct RaftNode {
    raft: typ::Raft,
    hub: Hub,
    log: LogStore,
    snapshots: SnapshotStore,
    pulse: Arc<Pulse>,
    forward: Forward,
    proposer: Proposer,
    leads: watch::Receiver<bool>,
    leader: watch::Receiver<Leader>,
    dismissed: watch::Receiver<bool>,
    cut_off: watch::Receiver<bool>,
    quiet: Duration,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// Another manager has to take this one in.
    waits: bool,
    /// Held until everything else has stopped.
    _dir: DataDir,
}

impl RaftNode {
    /// [`Self::open`] and [`Self::ready`] in one: for a manager that needs no others to start.
    ///
    /// # Errors
    /// As those.
    pub async fn start(dir: DataDir, settings: RaftSettings, connect: Arc<dyn Connect>) -> Result<Self, RaftNodeError> {
        let node = Self::open(dir, settings, connect).await?;
        match node.ready().await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.stop().await;
                Err(error)
            }
        }
    }

    /// Opens what is on disk and takes part; makes a cluster of one where there is nothing yet, if it may. Its
    /// [service](Self::service) has to be served from now on: the others' word may be needed to find a leader.
    ///
    /// # Errors
    /// When what is on disk cannot be read, or the settings contradict each other.
    pub async fn open(dir: DataDir, settings: RaftSettings, connect: Arc<dyn Connect>) -> Result<Self, RaftNodeError> {
        let config = Arc::new(config(&settings)?);
        let sealer = Arc::new(dir.sealer()?);
        let log = LogStore::open(&dir.log(), &*settings.disk, Arc::clone(&sealer))?;
        let snapshots = SnapshotStore::open(dir.snapshots(), sealer, log.clone())?.counted(settings.metrics.clone());
        let machine = Machine::open(snapshots.clone())?;
        let (hub, outcomes) = (machine.hub().clone(), machine.outcomes().clone());
        let peers = Peers::new(connect);
        let network = Network::new(peers.clone(), snapshots.clone(), settings.id);
        let raft = typ::Raft::new(settings.id, config, network, log.clone(), machine).await.map_err(start_failed)?;
        let is_new = !raft.is_initialized().await.map_err(start_failed)?;
        if is_new && settings.found {
            let members = BTreeMap::from([(settings.id, BasicNode { addr: settings.address.clone() })]);
            raft.initialize(members).await.map_err(start_failed)?;
        }
        // One that stopped before it was taken in, or after it was let go, has a log without itself in it.
        let id = settings.id;
        let is_member = raft.with_raft_state(move |state| state.membership_state.effective().get_node(&id).is_some());
        let waits = !is_member.await.map_err(start_failed)?;
        let stop = CancellationToken::new();
        let stepping = Stepping::default();
        let (intake, writer) = Intake::start(raft.clone(), stepping.clone(), settings.metrics.clone(), stop.clone());
        let forward = Forward {
            id: settings.id,
            raft: raft.clone(),
            intake,
            peers: peers.clone(),
            outcomes,
            stepping,
            rounds: Arc::default(),
        };
        let (proposer, batcher) = Proposer::start(forward.clone(), hub.clone(), settings.metrics.clone(), stop.clone());
        let pulse = Arc::new(Pulse::new(settings.election.0));
        let (dismissed_tx, dismissed) = watch::channel(false);
        let (cut_off_tx, cut_off) = watch::channel(false);
        let campaigner = Campaigner {
            id: settings.id,
            raft: raft.clone(),
            log: log.clone(),
            peers,
            pulse: Arc::clone(&pulse),
            heartbeat: settings.heartbeat,
            election: settings.election,
            dismissed: dismissed_tx.clone(),
            cut_off: cut_off_tx,
        };
        let (leads_tx, leads) = watch::channel(false);
        let (leader_tx, leader) = watch::channel(Leader::default());
        let follower = Follower {
            id: settings.id,
            raft: raft.clone(),
            leads: leads_tx,
            leader: leader_tx,
            dismissed: dismissed_tx,
        };
        let tasks = vec![
            batcher,
            writer,
            tokio::spawn(campaigner.run(stop.clone())),
            tokio::spawn(follower.run(stop.clone())),
            tokio::spawn(limit_size(raft.clone(), log.clone(), settings.snapshot_bytes, stop.clone())),
        ];
        let quiet = settings.election.0;
        Ok(Self {
            raft,
            hub,
            log,
            snapshots,
            pulse,
            forward,
            proposer,
            leads,
            leader,
            dismissed,
            cut_off,
            quiet,
            stop,
            tasks,
            waits,
            _dir: dir,
        })
    }

    /// Returns once a leader is known and everything that was committed before is applied. A manager that waits to
    /// be taken in is ready at once.
    ///
    /// # Errors
    /// When nobody leads within half a minute.
    pub async fn ready(&self) -> Result<(), RaftNodeError> {
        if self.waits { Ok(()) } else { self.caught_up().await }
    }

    /// True for a manager that was no member when it was opened: another has to take it in.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// The service that the other managers call.
    pub fn service(&self) -> RaftService {
        RaftService::new(self.forward.clone(), self.log.clone(), self.snapshots.clone(), Arc::clone(&self.pulse))
    }

    /// Waits until everything that was committed before this call is applied here: a read after it is linearizable.
    ///
    /// # Errors
    /// When nobody leads.
    pub async fn linearizable(&self) -> Result<(), ProposeError> {
        self.forward.linearizable().await
    }

    /// Where writes and reads of this manager go.
    pub fn forward(&self) -> &Forward {
        &self.forward
    }

    /// Changes and reads who takes part.
    pub fn members(&self) -> Members {
        Members { forward: self.forward.clone(), quiet: self.quiet }
    }

    /// Returns once this manager is no member of the group any more. It must stop then, and its log is of no use.
    pub async fn dismissed(&self) {
        let mut dismissed = self.dismissed.clone();
        if dismissed.wait_for(|dismissed| *dismissed).await.is_err() {
            // Stopped as a member.
            std::future::pending::<()>().await;
        }
    }

    /// The term, and who leads as far as this manager knows.
    pub fn leader(&self) -> (u64, Option<u64>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        (metrics.current_term, metrics.current_leader)
    }

    /// Ids of the voters.
    pub fn voters(&self) -> BTreeSet<u64> {
        self.raft.metrics().borrow().membership_config.membership().voter_ids().collect()
    }

    /// Where commits are published.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Takes writes.
    pub fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    /// Who leads, as it changes.
    pub fn watch_leader(&self) -> watch::Receiver<Leader> {
        self.leader.clone()
    }

    /// True while this manager has lost the others: for a few seconds it has heard of no leader, or leads no quorum.
    pub fn cut_off(&self) -> watch::Receiver<bool> {
        self.cut_off.clone()
    }

    /// True while this manager leads.
    pub fn leads(&self) -> watch::Receiver<bool> {
        self.leads.clone()
    }

    /// What a scrape reads of it.
    pub fn figures(&self) -> RaftFigures {
        let (log_bytes, snapshot) = (self.log.watch_bytes(), self.snapshots.watch_current());
        RaftFigures { members: self.members(), log_bytes, snapshot }
    }

    /// Bytes of the log's entries on disk.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Log index that the current snapshot reaches to; 0 when there is none.
    pub fn snapshot_index(&self) -> u64 {
        self.raft.metrics().borrow().snapshot.map_or(0, |id| id.index)
    }

    /// Makes a snapshot now, in the background.
    pub async fn snapshot_now(&self) {
        // Raft that has stopped makes none.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Returns once Raft has failed, with the reason: a full disk, a damaged file. The manager must stop then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "Raft has stopped".to_owned();
            }
        }
    }

    /// Stops: writes that wait are refused, what was acknowledged is on disk.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop cleanly");
        }
        for task in self.tasks {
            // A panic was reported where it happened.
            let _ = task.await;
        }
        self.hub.close();
        drop((self.raft, self.proposer, self.forward, self.snapshots));
        if !self.log.released(RELEASE_WAIT).await {
            tracing::warn!("the log is still in use by a task that does not end");
        }
        let flushed = tokio::task::spawn_blocking(move || self.log.flush()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write the committed index");
        }
    }

    /// Returns once a leader is known and everything that was committed before is applied.
    ///
    /// # Errors
    /// When nobody leads within half a minute.
    pub async fn caught_up(&self) -> Result<(), RaftNodeError> {
        let end = tokio::time::Instant::now() + LEADER_WAIT;
        // A manager that led when it stopped believes so until it hears of its successor: its word is not enough.
        while let Err(error) = self.linearizable().await {
            if tokio::time::Instant::now() >= end || !self.is_running() {
                return Err(RaftNodeError::NoLeader { problem: error.to_string() });
            }
        }
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.raft.metrics().borrow().running_state.is_ok()
    }
}

fn config(settings: &RaftSettings) -> Result<Config, RaftNodeError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if settings.heartbeat.is_zero() || settings.heartbeat >= settings.election.0 {
        let problem = format!(
            "heartbeats every {:?} do not keep managers from an election after {:?}",
            settings.heartbeat, settings.election.0
        );
        return Err(RaftNodeError::Settings { problem });
    }
    let config = Config {
        cluster_name: "berth".to_owned(),
        // Its own elections and heartbeats are off (see `campaign`). The time between heartbeats is how long an answer may
        // take, the longest election is how long a vote is not given after a leader was heard.
        enable_elect: false,
        enable_heartbeat: false,
        heartbeat_interval: millis(settings.election.0).saturating_sub(2),
        election_timeout_min: millis(settings.election.0).saturating_sub(1),
        election_timeout_max: millis(settings.election.0),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries),
        max_in_snapshot_log_to_keep: settings.keep_entries,
        ..Config::default()
    };
    config.validate().map_err(|error| RaftNodeError::Settings { problem: error.to_string() })
}

fn start_failed(error: impl std::fmt::Display) -> RaftNodeError {
    RaftNodeError::Start { problem: error.to_string() }
}

fn is_member(metrics: &openraft::RaftMetrics<u64, BasicNode>, id: u64) -> bool {
    metrics.membership_config.membership().get_node(&id).is_some()
}

/// Tells what Raft's metrics say in a few words.
struct Follower {
    id: u64,
    raft: typ::Raft,
    leads: watch::Sender<bool>,
    leader: watch::Sender<Leader>,
    dismissed: watch::Sender<bool>,
}

impl Follower {
    async fn run(self, stop: CancellationToken) {
        let mut metrics = self.raft.metrics();
        let mut was_member = false;
        loop {
            {
                let metrics = metrics.borrow_and_update();
                let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
                set(&self.leads, leads);
                set(&self.leader, Leader { term: metrics.current_term, id: metrics.current_leader });
                let is_member = is_member(&metrics, self.id);
                if was_member && !is_member {
                    set(&self.dismissed, true);
                }
                was_member |= is_member;
            }
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => break,
                // Cancel-safe: the newest value is read at the top.
                changed = metrics.changed() => if changed.is_err() { break },
            }
        }
        self.leads.send_replace(false);
    }
}

pub(super) fn set<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|known| {
        let is_news = *known != value;
        *known = value;
        is_news
    });
}

/// Makes a snapshot and cuts the log when its entries take too much room, however few they are.
async fn limit_size(raft: typ::Raft, log: LogStore, limit: u64, stop: CancellationToken) {
    let mut asked_at = None;
    loop {
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // Cancel-safe: nothing is lost but time.
            () = tokio::time::sleep(SIZE_CHECK) => {}
        }
        let (applied, snapshot) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            (metrics.last_applied.map_or(0, |id| id.index), metrics.snapshot.map_or(0, |id| id.index))
        };
        let done = match asked_at {
            Some(asked) if snapshot >= asked => {
                asked_at = None;
                raft.trigger().purge_log(snapshot).await
            }
            None if log.bytes() > limit && applied > snapshot => {
                asked_at = Some(applied);
                raft.trigger().snapshot().await
            }
            _ => Ok(()),
        };
        if done.is_err() {
            return;
        }
    }
}
