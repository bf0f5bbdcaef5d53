//! The status of every task on this node: what the session still has to tell the managers, and what anybody may look at.
//!
//! Owns the latest status of each task and what was acknowledged. Never blocks: one entry for each task, the latest wins.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_proto::id::TaskId;
use berth_proto::object::TaskStatus;
use berth_proto::state::TaskState;
use tokio::sync::{Notify, watch};

/// The board.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<TaskId, Entry>>,
    dirty: Notify,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    status: TaskStatus,
    /// Raised with each change; a report is settled once the managers acknowledged this version.
    version: u64,
    acknowledged: u64,
    gone: bool,
}

/// Statuses that go up together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Task, version, status.
    pub reports: Vec<(TaskId, u64, TaskStatus)>,
}

impl Board {
    /// Sets the status of a task; returns the state before, `None` for one that had no status yet.
    pub fn set(&self, task: TaskId, status: TaskStatus) -> Option<TaskState> {
        let mut entries = self.entries();
        let before = entries.get(&task).map(|entry| entry.status.state);
        let entry = entries.entry(task).or_insert(Entry {
            status: TaskStatus::default(),
            version: 0,
            acknowledged: 0,
            gone: false,
        });
        entry.status = status;
        entry.version += 1;
        drop(entries);
        self.dirty.notify_one();
        self.changed.send_modify(|count| *count += 1);
        before
    }

    /// Nothing is left of the task. What was not acknowledged yet is still told.
    pub fn gone(&self, task: TaskId) {
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&task) {
            entry.gone = true;
            if entry.acknowledged >= entry.version {
                entries.remove(&task);
            }
        }
        drop(entries);
        self.changed.send_modify(|count| *count += 1);
    }

    /// The status of a task.
    pub fn get(&self, task: TaskId) -> Option<TaskStatus> {
        self.entries().get(&task).map(|entry| entry.status.clone())
    }

    /// Wakes at each change; look again then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until there may be something to tell. Cancel-safe.
    pub async fn wait(&self) {
        self.dirty.notified().await;
    }

    /// Up to `limit` statuses that were not told yet in this session; `sent` is what the session told and waits for.
    pub fn take(&self, sent: &BTreeMap<TaskId, u64>, limit: usize) -> Batch {
        let entries = self.entries();
        let untold = entries.iter().filter(|(task, entry)| {
            entry.version > entry.acknowledged && sent.get(task).is_none_or(|version| *version < entry.version)
        });
        Batch {
            reports: untold.take(limit).map(|(task, entry)| (*task, entry.version, entry.status.clone())).collect(),
        }
    }

    /// The managers have these statuses.
    pub fn acknowledge(&self, batch: &[(TaskId, u64)]) {
        let mut entries = self.entries();
        for (task, version) in batch {
            let Some(entry) = entries.get_mut(task) else { continue };
            entry.acknowledged = entry.acknowledged.max(*version);
            if entry.gone && entry.acknowledged >= entry.version {
                entries.remove(task);
            }
        }
    }

    /// A new session: everything is told again, the managers may have lost what they acknowledged to nobody's knowledge.
    pub fn forget_acknowledged(&self) {
        for entry in self.entries().values_mut() {
            entry.acknowledged = 0;
        }
        self.dirty.notify_one();
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    fn status(state: TaskState) -> TaskStatus {
        TaskStatus { state, ..TaskStatus::default() }
    }

    #[test]
    fn statuses_coalesce_and_are_told_until_acknowledged() {
        let (board, task) = (Board::default(), TaskId::from_random(1));
        board.set(task, status(TaskState::Preparing));
        board.set(task, status(TaskState::Running));
        let batch = board.take(&BTreeMap::new(), 10);
        assert_eq!(batch.reports, [(task, 2, status(TaskState::Running))]);
        let sent = BTreeMap::from([(task, 2)]);
        assert!(board.take(&sent, 10).reports.is_empty(), "told once in a session");
        assert_eq!(board.take(&BTreeMap::new(), 10).reports.len(), 1, "and again in the next");
        board.set(task, status(TaskState::Failed));
        assert_eq!(board.take(&sent, 10).reports.len(), 1, "a newer one goes out beside the one under way");
        board.acknowledge(&[(task, 2)]);
        assert_eq!(board.take(&BTreeMap::new(), 10).reports.len(), 1);
        board.acknowledge(&[(task, 3)]);
        assert!(board.take(&BTreeMap::new(), 10).reports.is_empty());
    }

    #[test]
    fn a_task_that_is_gone_is_kept_until_its_end_was_told() {
        let (board, task) = (Board::default(), TaskId::from_random(1));
        board.set(task, status(TaskState::Shutdown));
        board.gone(task);
        assert_eq!(board.take(&BTreeMap::new(), 10).reports.len(), 1);
        board.acknowledge(&[(task, 1)]);
        assert_eq!(board.get(task), None);
    }
}
