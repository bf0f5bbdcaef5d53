//! What is done to a data directory while no manager runs on it: a cluster of one is made of what is left of a larger one, or
//! of a backup; what a manager left is removed.
//!
//! A backup is the content of a snapshot file, not sealed: it holds secrets and the cluster's CA.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use berth_proto::id::NodeId;
use berth_proto::object::{ManagerStatus, Node};
use berth_proto::spec::NodeSpec;
use berth_proto::state::NodeRole;
use openraft::storage::{RaftLogStorage, RaftStateMachine};
use openraft::{BasicNode, CommittedLeaderId, RaftLogReader};

use crate::store::{Conflict, State, Transaction};

use super::datadir::{DataDir, DataDirError, sync_parent};
use super::disk::RealDisk;
use super::log::{LogError, LogStore};
use super::machine::Machine;
use super::snapshot::{self, SnapshotError, SnapshotStore};
use super::types::typ;

/// Why a cluster of one cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Raft's storage.
    #[error("cannot read or write what Raft keeps in {dir}", dir = dir.display())]
    Storage {
        /// The directory.
        dir: PathBuf,
        /// What failed.
        source: Box<typ::StorageError>,
    },
    /// There is nothing to make a cluster of.
    #[error("{dir} has no cluster in it: there is nothing to recover", dir = dir.display())]
    Nothing {
        /// The directory.
        dir: PathBuf,
    },
    /// A backup is restored to a fresh directory only.
    #[error("{dir} has a cluster in it already: restore to another --data-dir, or remove that one first", dir = dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The backup is damaged, or it is none.
    #[error("the backup cannot be read")]
    Backup(#[source] io::Error),
    /// What is left contradicts itself.
    #[error("the managers that are gone cannot be struck from the cluster")]
    Conflict(#[source] Box<Conflict>),
}

/// The one manager that is left.
#[derive(Debug, Clone)]
pub struct Sole {
    /// Its Raft id.
    pub id: u64,
    /// The node that it runs on.
    pub node: NodeId,
    /// Address that others will reach it at.
    pub address: String,
}

/// Makes a cluster of one of a directory whose cluster has lost its quorum. Every write that its log has is kept, also those
/// that nobody knows to be committed. The other managers are managers no more; their directories must not be used again.
///
/// # Errors
/// When the directory cannot be read, or there is no cluster in it.
pub async fn force_new_cluster(dir: &DataDir, sole: &Sole) -> Result<(), RecoverError> {
    if !dir.log().exists() {
        return Err(RecoverError::Nothing { dir: dir.path().to_owned() });
    }
    let failed = storage_failed(dir);
    let (mut log, snapshots) = storage(dir)?;
    let mut machine = Machine::open(snapshots.clone())?;
    let (applied, _) = machine.applied_state().await.map_err(&failed)?;
    let after = applied.map_or(Bound::Unbounded, |id: typ::LogId| Bound::Excluded(id.index));
    let entries = log.try_get_log_entries((after, Bound::Unbounded)).await.map_err(&failed)?;
    machine.apply(entries).await.map_err(&failed)?;
    let (last, _) = machine.applied_state().await.map_err(&failed)?;
    let last = last.ok_or_else(|| RecoverError::Nothing { dir: dir.path().to_owned() })?;
    let vote = log.read_vote().await.map_err(&failed)?;
    let term = vote.map_or(0, |vote| vote.leader_id.term).max(last.leader_id.term);
    let state = machine.hub().snapshot();
    found(dir, log, &snapshots, State::clone(&state), term + 1, sole).await
}

/// Makes a cluster of one of a backup, in a fresh directory. The managers of the cluster that was backed up are managers no
/// more.
///
/// # Errors
/// When the directory is not fresh, or the backup is damaged.
pub async fn restore(dir: &DataDir, sole: &Sole, backup: impl Read) -> Result<(), RecoverError> {
    if dir.log().exists() {
        return Err(RecoverError::NotEmpty { dir: dir.path().to_owned() });
    }
    let (_, state) = snapshot::read_content(backup).map_err(RecoverError::Backup)?;
    let (log, snapshots) = storage(dir)?;
    found(dir, log, &snapshots, state, 1, sole).await
}

/// Writes everything that the cluster keeps: what [`restore`] reads.
///
/// # Errors
/// Those of `into`.
pub fn write_backup(state: &State, into: impl Write) -> io::Result<()> {
    let last = typ::LogId::new(CommittedLeaderId::new(0, 0), state.index());
    let meta = typ::SnapshotMeta { last_log_id: Some(last), snapshot_id: "backup".to_owned(), ..Default::default() };
    snapshot::write_content(into, &meta, state).map(drop)
}

fn storage(dir: &DataDir) -> Result<(LogStore, SnapshotStore), RecoverError> {
    let sealer = Arc::new(dir.sealer()?);
    let log = LogStore::open(&dir.log(), &RealDisk, Arc::clone(&sealer))?;
    let snapshots = SnapshotStore::open(dir.snapshots(), sealer, log.clone())?;
    Ok((log, snapshots))
}

/// Writes a snapshot of `state` in which `sole` is the only manager, as if it had been agreed on in `term`, and cuts the log
/// behind it. Begun again after a crash it comes to the same.
async fn found(
    dir: &DataDir,
    mut log: LogStore,
    snapshots: &SnapshotStore,
    mut state: State,
    term: u64,
    sole: &Sole,
) -> Result<(), RecoverError> {
    let failed = storage_failed(dir);
    let index = state.index() + 1;
    let change = alone(&state, sole);
    state.apply(index, &change).map_err(|conflict| RecoverError::Conflict(Box::new(conflict)))?;
    state.advance_to(index);
    let last = typ::LogId::new(CommittedLeaderId::new(term, sole.id), index);
    let nodes = BTreeMap::from([(sole.id, BasicNode { addr: sole.address.clone() })]);
    let membership = typ::Membership::new(vec![BTreeSet::from([sole.id])], nodes);
    let meta = typ::SnapshotMeta {
        last_log_id: Some(last),
        last_membership: typ::StoredMembership::new(Some(last), membership),
        snapshot_id: last.to_string(),
    };
    log.save_vote(&typ::Vote::new(term, sole.id)).await.map_err(&failed)?;
    snapshots.write(&meta, &state)?;
    log.save_committed(Some(last)).await.map_err(&failed)?;
    log.purge(last).await.map_err(&failed)
}

fn storage_failed(dir: &DataDir) -> impl Fn(typ::StorageError) -> RecoverError {
    let dir = dir.path().to_owned();
    move |source| RecoverError::Storage { dir: dir.clone(), source: Box::new(source) }
}

/// Strikes the other managers from the cluster.
fn alone(state: &State, sole: &Sole) -> Transaction {
    let mut transaction = Transaction::new(SystemTime::now().into(), "recovery");
    for node in state.nodes() {
        let is_manager = node.spec.role == NodeRole::Manager || node.manager.is_some();
        let new = if node.id == sole.node {
            let manager =
                ManagerStatus { raft_id: sole.id, address: sole.address.clone(), leader: true, reachable: true };
            let spec = NodeSpec { role: NodeRole::Manager, ..node.spec.clone() };
            Node { spec, manager: Some(manager), ..Node::clone(node) }
        } else if is_manager {
            let spec = NodeSpec { role: NodeRole::Worker, ..node.spec.clone() };
            Node { spec, manager: None, ..Node::clone(node) }
        } else {
            continue;
        };
        transaction.update(new);
    }
    transaction
}

/// Files of a manager's part in the Raft group; the node's identity is none of them.
const PART: [&str; 3] = ["raft.redb", "node.key", "raft.id"];

/// Removes what a manager that was let go leaves: its log, its snapshots, its Raft id. Which node it is stays.
///
/// # Errors
/// When a daemon runs on the directory, or the system refuses.
pub fn discard(path: &Path) -> Result<(), DataDirError> {
    let dir = DataDir::open(path)?;
    let snapshots = dir.snapshots();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { what: "remove", path, source }
    };
    fs::remove_dir_all(&snapshots).map_err(failed(&snapshots))?;
    for name in PART {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&file)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    sync_parent(&snapshots).map_err(failed(path))
}
