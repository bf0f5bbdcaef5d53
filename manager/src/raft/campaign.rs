//! When a manager asks to lead, and whether another would get its vote.
//!
//! openraft's own elections are off: a manager that comes back from a cut would come with a raised term and unseat a
//! healthy leader. Instead a manager that hears nothing of a leader first asks the others whether they would vote for it
//! (pre-vote: Ongaro, "Consensus: Bridging Theory and Practice", section 9.6), which changes nothing, and campaigns only
//! when a quorum would.
//!
//! Its own heartbeats are off too: it gives up what is not answered within the time between two, so that managers whose
//! answers take longer would never agree on anything. Here a leader says that it is there as often as it should, and an answer
//! may take as long as a leader may be silent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_proto::pb;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::storage::RaftLogStorage;
use openraft::{BasicNode, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::log::LogStore;
use super::node::set;
use super::transport::Peers;
use super::types::typ;
use super::wire;

/// How long an answer to a pre-vote is waited for.
const ANSWER: Duration = Duration::from_millis(200);
/// Between two looks at whether the leader has been silent for too long.
const LOOK: Duration = Duration::from_millis(20);
/// A manager that heard of no leader and no quorum for this long has lost the others: longer than a few elections.
const CUT_OFF: Duration = Duration::from_secs(3);

/// When a leader was last heard of.
#[derive(Debug)]
pub struct Pulse {
    heard: Mutex<Instant>,
    /// A leader that is silent for less than this is alive.
    quiet: Duration,
}

impl Pulse {
    /// Nothing heard yet: the time runs from now.
    pub fn new(quiet: Duration) -> Self {
        Self { heard: Mutex::new(Instant::now()), quiet }
    }

    /// A leader, or somebody who may become one, said something.
    pub fn heard(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// For how long nothing was heard.
    pub fn silence(&self) -> Duration {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// What the manager with `raft` and `log` answers to `candidate`, whose log ends at `last`.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn would_vote(
        &self,
        raft: &typ::Raft,
        log: &LogStore,
        candidate: u64,
        last: Option<typ::LogId>,
    ) -> Result<pb::RaftPreVoted, typ::StorageError> {
        let own = log.clone().get_log_state().await?.last_log_id;
        let metrics = raft.metrics().borrow().clone();
        let is_member = metrics.membership_config.membership().get_node(&candidate).is_some();
        let silent = match metrics.state {
            // One that is cut off from the others has nobody to lead.
            ServerState::Leader => since_quorum(&metrics) >= 2 * self.quiet,
            _ => self.silence() >= self.quiet,
        };
        Ok(pb::RaftPreVoted { granted: is_member && grants(silent, own, last), dismissed: !is_member && own >= last })
    }
}

/// For how long the leader has heard of no quorum.
fn since_quorum(metrics: &RaftMetrics<u64, BasicNode>) -> Duration {
    metrics.millis_since_quorum_ack.map_or(Duration::ZERO, Duration::from_millis)
}

/// A vote is given when nobody leads as far as this manager knows, and the other's log is no older than its own.
fn grants(silent: bool, own: Option<typ::LogId>, last: Option<typ::LogId>) -> bool {
    silent && last >= own
}

/// The voters of the membership, without `own`; `None` when `own` is not a voter.
fn other_voters(metrics: &RaftMetrics<u64, BasicNode>, own: u64) -> Option<Vec<(u64, String)>> {
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    if !voters.contains(&own) {
        return None;
    }
    let address = |id: u64| membership.get_node(&id).map_or_else(String::new, |node| node.addr.clone());
    Some(voters.into_iter().filter(|id| *id != own).map(|id| (id, address(id))).collect())
}

/// Whether `granted` is a majority in each half of a membership, joint or not.
fn is_quorum(metrics: &RaftMetrics<u64, BasicNode>, granted: &[u64]) -> bool {
    let configs = metrics.membership_config.membership().get_joint_config();
    configs.iter().all(|voters| voters.iter().filter(|id| granted.contains(id)).count() * 2 > voters.len())
}

/// Looks for a silent leader and campaigns, until `stop`.
pub struct Campaigner {
    /// This manager.
    pub id: u64,
    /// Its Raft.
    pub raft: typ::Raft,
    /// Its log.
    pub log: LogStore,
    /// The others.
    pub peers: Peers,
    /// When a leader was last heard of.
    pub pulse: Arc<Pulse>,
    /// Between two signs of life of a leader.
    pub heartbeat: Duration,
    /// Bounds of the silence after which it campaigns.
    pub election: (Duration, Duration),
    /// Set when another says that this manager is no member any more.
    pub dismissed: watch::Sender<bool>,
    /// Whether this manager has lost the others.
    pub cut_off: watch::Sender<bool>,
}

impl Campaigner {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut patience = self.patience();
        let mut beat = Instant::now();
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: nothing is lost but time.
                () = tokio::time::sleep(LOOK) => {}
            }
            let metrics = self.raft.metrics().borrow().clone();
            let leads = metrics.state == ServerState::Leader;
            let silence = if leads { since_quorum(&metrics) } else { self.pulse.silence() };
            set(&self.cut_off, silence >= CUT_OFF);
            if leads {
                self.pulse.heard();
                if beat <= Instant::now() {
                    beat = Instant::now() + self.heartbeat;
                    if self.raft.trigger().heartbeat().await.is_err() {
                        return;
                    }
                }
                continue;
            }
            let Some(others) = other_voters(&metrics, self.id) else { continue };
            if !others.is_empty() && self.pulse.silence() < patience {
                continue;
            }
            patience = self.patience();
            if !self.would_win(&metrics, others).await {
                continue;
            }
            tracing::info!(term = metrics.current_term + 1, "campaigning");
            // Its outcome shows in the metrics; a lost campaign is followed by another after a new silence.
            self.pulse.heard();
            if self.raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }

    fn patience(&self) -> Duration {
        let (least, most) = self.election;
        least + most.saturating_sub(least).mul_f64(rand::random::<f64>())
    }

    async fn would_win(&self, metrics: &RaftMetrics<u64, BasicNode>, others: Vec<(u64, String)>) -> bool {
        let Ok(log) = self.log.clone().get_log_state().await else { return false };
        let last = log.last_log_id;
        let mut granted = vec![self.id];
        let mut answers: FuturesUnordered<_> =
            others.into_iter().map(|(id, address)| self.ask(id, address, last)).collect();
        while !is_quorum(metrics, &granted) {
            match answers.next().await {
                Some(Some(id)) => granted.push(id),
                Some(None) => {}
                None => return false,
            }
        }
        true
    }

    /// The manager's id if it would vote for this one.
    async fn ask(&self, id: u64, address: String, last: Option<typ::LogId>) -> Option<u64> {
        let mut client = self.peers.client(id, &address).ok()?;
        let question = pb::RaftPreVote { candidate: self.id, last: last.as_ref().map(wire::log_id) };
        let answer = tokio::time::timeout(ANSWER, client.pre_vote(question)).await.ok()?;
        // Whoever was let go and is no manager any more is not even answered.
        let denied = answer.as_ref().is_err_and(|status| status.code() == Code::PermissionDenied);
        let answer = answer.map(tonic::Response::into_inner).unwrap_or_default();
        if answer.dismissed || denied {
            self.dismissed.send_replace(true);
        }
        answer.granted.then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    #[test]
    fn a_vote_is_given_only_without_a_leader_and_to_a_log_that_is_no_older() {
        let at = |term, index| Some(typ::LogId::new(CommittedLeaderId::new(term, 1), index));
        assert!(grants(true, at(1, 5), at(1, 5)));
        assert!(grants(true, at(1, 5), at(2, 3)), "a newer term counts more than a longer log");
        assert!(grants(true, None, at(1, 1)));
        assert!(!grants(true, at(1, 5), at(1, 4)));
        assert!(!grants(false, at(1, 5), at(1, 9)), "a leader was heard a moment ago");
    }
}
