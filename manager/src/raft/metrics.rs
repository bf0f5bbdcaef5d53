//! What is counted of Raft, and what is read of it at a scrape. Reads hold nothing open: a manager that stops does not wait for
//! who looks at its figures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use berth_metrics::{Counters, Figures, Histogram, Registry, buckets, counters};
use openraft::ServerState;

use super::members::Members;
use super::proposer::ProposeError;
use super::snapshot::Current;

/// What becomes of transactions.
const OUTCOMES: [&str; 5] = ["committed", "conflict", "no_leader", "lost", "stopped"];

/// What one manager counts of its part in Raft.
#[derive(Debug, Clone)]
pub struct RaftMetrics {
    /// Time until an entry is committed and applied; on the leader.
    pub(super) commit: Histogram,
    /// Time to write a snapshot.
    pub(super) snapshot: Histogram,
    /// Transactions of this manager, by what became of them.
    transactions: Counters<1>,
}

impl Default for RaftMetrics {
    fn default() -> Self {
        Self { commit: buckets::fast(), snapshot: buckets::slow(), transactions: counters("outcome", OUTCOMES) }
    }
}

impl RaftMetrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "berth_raft_commit_seconds",
            "Time until an entry of the log was on the disks of a majority, and applied; on the leader",
            self.commit.clone(),
        );
        registry.register("berth_raft_snapshot_seconds", "Time to write a snapshot", self.snapshot.clone());
        registry.register(
            "berth_raft_transactions",
            "Changes that this manager proposed, by what became of them",
            self.transactions.clone(),
        );
    }

    /// Something became of `count` transactions.
    pub(super) fn transactions(&self, outcome: Result<(), &ProposeError>, count: usize) {
        let outcome = match outcome {
            Ok(()) => "committed",
            Err(ProposeError::Conflict(_) | ProposeError::TooLarge { .. }) => "conflict",
            Err(ProposeError::NotLeader { .. }) => "no_leader",
            Err(ProposeError::Lost) => "lost",
            Err(ProposeError::Stopped) => "stopped",
        };
        self.transactions.get_or_create(&[("outcome", outcome)]).inc_by(count as u64);
    }
}

/// Reads Raft's state.
#[derive(Clone)]
pub struct RaftFigures {
    pub(super) members: Members,
    pub(super) log_bytes: Arc<AtomicU64>,
    pub(super) snapshot: Current,
}

impl RaftFigures {
    /// Writes it.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn write(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let metrics = self.members.forward.raft.metrics().borrow().clone();
        let leads = metrics.state == ServerState::Leader && metrics.running_state.is_ok();
        figures.gauge("berth_raft_is_leader", "1 on the manager that leads", u64::from(leads))?;
        let known = metrics.current_leader.is_some();
        figures.gauge("berth_raft_has_leader", "1 on a manager that knows who leads", u64::from(known))?;
        figures.gauge("berth_raft_term", "Term of the last election", metrics.current_term)?;
        let last = metrics.last_log_index.unwrap_or(0);
        figures.gauge("berth_raft_last_log_index", "Index of the newest entry of the log", last)?;
        let applied = metrics.last_applied.map_or(0, |id| id.index);
        figures.gauge("berth_raft_applied_index", "Index of the newest entry that is applied", applied)?;
        let snapshot = metrics.snapshot.map_or(0, |id| id.index);
        figures.gauge("berth_raft_snapshot_index", "Index that the newest snapshot reaches to", snapshot)?;
        let bytes = self.log_bytes.load(Ordering::Relaxed);
        figures.gauge("berth_raft_log_size_bytes", "Size of the log's entries on disk", bytes)?;
        self.write_snapshot(figures)?;
        let voters = metrics.membership_config.membership().voter_ids().count() as u64;
        figures.gauge("berth_raft_voters", "Managers with a vote", voters)?;
        let matched: BTreeMap<u64, u64> = metrics.replication.filter(|_| leads).map_or_else(BTreeMap::new, |all| {
            all.into_iter().map(|(id, matched)| (id, matched.map_or(0, |log| log.index))).collect()
        });
        self.write_peers(figures, leads, last, &matched)
    }

    /// Nothing where there is none yet.
    fn write_snapshot(&self, figures: &mut Figures<'_>) -> fmt::Result {
        let file = self.snapshot.file().and_then(|file| std::fs::metadata(file.path).ok());
        let size = file.as_ref().map(std::fs::Metadata::len);
        figures.gauge_if("berth_raft_snapshot_size_bytes", "Size of the newest snapshot on disk", size)?;
        let written = file.and_then(|file| file.modified().ok()?.duration_since(UNIX_EPOCH).ok());
        let help = "When the newest snapshot was written, seconds since 1970";
        figures.gauge_if("berth_raft_snapshot_timestamp_seconds", help, written.as_ref().map(Duration::as_secs_f64))
    }

    /// Only the leader knows how the others do: elsewhere there are no samples.
    fn write_peers(
        &self,
        figures: &mut Figures<'_>,
        leads: bool,
        last: u64,
        matched: &BTreeMap<u64, u64>,
    ) -> fmt::Result {
        let view = self.members.view();
        let answering = view.voters.intersection(&view.reachable).count() as u64;
        let help = "Managers with a vote that answer, the leader included; on the leader";
        figures.gauge_if("berth_raft_voters_reachable", help, leads.then_some(answering))?;
        let others: Vec<(u64, &String)> =
            view.addresses.iter().filter(|(id, _)| leads && **id != view.id).map(|(id, at)| (*id, at)).collect();
        let reachable =
            others.iter().map(|(id, address)| ([("peer", address.as_str())], u64::from(view.reachable.contains(id))));
        figures.gauges(
            "berth_raft_peer_reachable",
            "1 for each other manager that answers; on the leader",
            reachable,
        )?;
        let lag = others.iter().map(|(id, address)| {
            let matched = matched.get(id).copied().unwrap_or(0);
            ([("peer", address.as_str())], last.saturating_sub(matched))
        });
        let help = "Entries of the log that another manager does not have yet; on the leader";
        figures.gauges("berth_raft_peer_lag_entries", help, lag)
    }
}
