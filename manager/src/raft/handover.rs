//! Handing the lead over, for a leader that is to go: it takes no more writes, lets the manager that is to follow it catch
//! up, falls silent for as long as a leader that was heard is believed in, and then asks that manager to campaign at once
//! (Ongaro, "Consensus: Bridging Theory and Practice", section 3.10). openraft 0.9 has no such transfer of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_proto::pb;
use openraft::{BasicNode, RaftMetrics, ServerState};
use tonic::Status;

use super::transport::Peers;
use super::types::typ;

/// How long the successor may take to catch up, and to win.
const PATIENCE: Duration = Duration::from_secs(2);
/// Added to the silence: the others' clocks began a little later.
const MARGIN: Duration = Duration::from_millis(20);

/// Why the lead was not handed over. The manager goes on leading.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// It does not lead.
    #[error("this manager does not lead")]
    NotLeader,
    /// Nobody could follow.
    #[error("no other manager could lead: bring one back, or promote another node")]
    NoSuccessor,
    /// The successor did not catch up or did not win in time.
    #[error("manager {id} did not take over in time")]
    Late {
        /// Raft id.
        id: u64,
    },
    /// The successor did not do as it was asked.
    #[error("manager {id} does not take over: {status}")]
    Refused {
        /// Raft id.
        id: u64,
        /// Its answer.
        status: Box<Status>,
    },
}

/// True while the leader steps down: it takes no writes then. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stepping(Arc<AtomicBool>);

impl Stepping {
    /// Whether it steps down.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes back to leading when it is dropped; harmless where another leads.
struct Silence<'a> {
    raft: &'a typ::Raft,
    stepping: &'a Stepping,
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.raft.runtime_config().heartbeat(true);
        self.stepping.0.store(false, Ordering::Relaxed);
    }
}

/// Hands the lead over to one of `successors`; returns once this manager leads no more.
pub(super) async fn hand_over(
    raft: &typ::Raft,
    peers: &Peers,
    stepping: &Stepping,
    quiet: Duration,
    successors: &BTreeSet<u64>,
) -> Result<(), HandOverError> {
    let metrics = raft.metrics().borrow().clone();
    if metrics.state != ServerState::Leader {
        return Err(HandOverError::NotLeader);
    }
    let (id, address) = successor(&metrics, successors).ok_or(HandOverError::NoSuccessor)?;
    stepping.0.store(true, Ordering::Relaxed);
    let _silence = Silence { raft, stepping };
    let has_all = |metrics: &RaftMetrics<u64, BasicNode>| {
        matched(metrics, id) >= metrics.last_log_index || metrics.state != ServerState::Leader
    };
    until(raft, id, has_all).await?;
    raft.runtime_config().heartbeat(false);
    tokio::time::sleep(quiet + MARGIN).await;
    let mut client = peers.client(id, &address).map_err(|_| HandOverError::NoSuccessor)?;
    let asked = tokio::time::timeout(PATIENCE, client.take_over(pb::RaftTakeOver {})).await;
    let answer = asked.map_err(|_| HandOverError::Late { id })?;
    answer.map_err(|status| HandOverError::Refused { id, status: Box::new(status) })?;
    until(raft, id, |metrics| metrics.state != ServerState::Leader).await
}

/// The voter among `candidates` whose log is the longest.
fn successor(metrics: &RaftMetrics<u64, BasicNode>, candidates: &BTreeSet<u64>) -> Option<(u64, String)> {
    let membership = metrics.membership_config.membership();
    let voters = membership.voter_ids().filter(|id| *id != metrics.id && candidates.contains(id));
    let id = voters.max_by_key(|id| matched(metrics, *id))?;
    Some((id, membership.get_node(&id)?.addr.clone()))
}

fn matched(metrics: &RaftMetrics<u64, BasicNode>, id: u64) -> Option<u64> {
    metrics.replication.as_ref()?.get(&id)?.as_ref().map(|id| id.index)
}

async fn until(
    raft: &typ::Raft,
    id: u64,
    reached: impl Fn(&RaftMetrics<u64, BasicNode>) -> bool,
) -> Result<(), HandOverError> {
    let mut metrics = raft.metrics();
    match tokio::time::timeout(PATIENCE, metrics.wait_for(|metrics| reached(metrics))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(HandOverError::NotLeader),
        Err(_) => Err(HandOverError::Late { id }),
    }
}
