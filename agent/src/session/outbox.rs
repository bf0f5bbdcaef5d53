//! Which statuses a session has told, and which of them the manager has acknowledged.
//!
//! Owns the sequence numbers of one session. A new session starts empty: everything unacknowledged is told again.

use std::collections::{BTreeMap, VecDeque};

use berth_proto::id::TaskId;
use berth_proto::pb;

use crate::worker::{Batch, Board};

/// Statuses in one message at most.
const BATCH: usize = 512;
/// Messages on their way at most; what changes meanwhile goes with the next, the latest status of each task only.
const IN_FLIGHT: usize = 4;

/// The outbox of one session.
#[derive(Debug, Default)]
pub struct Outbox {
    sequence: u64,
    told: BTreeMap<TaskId, u64>,
    in_flight: VecDeque<(u64, Vec<(TaskId, u64)>)>,
}

impl Outbox {
    /// The next message, when there is something to tell and room to tell it.
    pub fn next(&mut self, board: &Board) -> Option<pb::StatusBatch> {
        if self.in_flight.len() >= IN_FLIGHT {
            return None;
        }
        let Batch { reports } = board.take(&self.told, BATCH);
        if reports.is_empty() {
            return None;
        }
        self.sequence += 1;
        let versions: Vec<_> = reports.iter().map(|(task, version, _)| (*task, *version)).collect();
        self.told.extend(versions.iter().copied());
        self.in_flight.push_back((self.sequence, versions));
        let reports = reports.into_iter().map(|(task, _, status)| pb::TaskReport {
            task_id: task.to_string(),
            status: Some((&status).into()),
            host_ports: Vec::new(),
        });
        Some(pb::StatusBatch { sequence: self.sequence, reports: reports.collect() })
    }

    /// The manager has everything up to `sequence`.
    pub fn acknowledged(&mut self, sequence: u64, board: &Board) {
        while self.in_flight.front().is_some_and(|(sent, _)| *sent <= sequence) {
            let Some((_, versions)) = self.in_flight.pop_front() else { return };
            board.acknowledge(&versions);
            for (task, version) in versions {
                if self.told.get(&task) == Some(&version) {
                    self.told.remove(&task);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use berth_proto::object::TaskStatus;
    use berth_proto::state::TaskState;

    #[test]
    fn statuses_are_told_once_acknowledged_and_told_again_by_a_new_session() {
        let (board, task) = (Board::default(), TaskId::from_random(1));
        let set = |state| board.set(task, TaskStatus { state, ..TaskStatus::default() });
        let mut first = Outbox::default();
        assert_eq!(first.next(&board), None);
        set(TaskState::Preparing);
        set(TaskState::Running);
        let batch = first.next(&board).unwrap();
        assert_eq!((batch.sequence, batch.reports.len()), (1, 1));
        assert_eq!(first.next(&board), None);

        let mut second = Outbox::default();
        assert_eq!(second.next(&board).unwrap().reports.len(), 1, "it was never acknowledged");
        set(TaskState::Failed);
        assert_eq!(second.next(&board).unwrap().sequence, 2);
        second.acknowledged(2, &board);
        assert_eq!(Outbox::default().next(&board), None);
    }

    #[test]
    fn a_manager_that_does_not_answer_is_told_no_more_than_its_room() {
        let board = Board::default();
        let mut outbox = Outbox::default();
        let mut messages = 0;
        for id in 0..20 {
            board.set(TaskId::from_random(id), TaskStatus { state: TaskState::Running, ..TaskStatus::default() });
            messages += usize::from(outbox.next(&board).is_some());
        }
        assert_eq!(messages, IN_FLIGHT);
        outbox.acknowledged(4, &board);
        assert_eq!(outbox.next(&board).unwrap().reports.len(), 16);
    }
}
