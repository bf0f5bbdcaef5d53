//! Where actors tell what they found: the board at once, the records in the background.

use std::sync::Arc;

use berth_proto::id::TaskId;
use berth_proto::object::TaskStatus;
use berth_proto::pb;
use prost::Message;

use super::Board;
use crate::db::{Change, Writer};
use crate::metrics::TaskMetrics;
use crate::task::{Prepared, Reports};

/// Board and records together.
pub struct Recorder {
    board: Arc<Board>,
    records: Writer,
    metrics: TaskMetrics,
}

impl Recorder {
    /// A recorder.
    pub fn new(board: Arc<Board>, records: Writer, metrics: TaskMetrics) -> Self {
        Self { board, records, metrics }
    }
}

impl Reports for Recorder {
    fn status(&self, task: TaskId, status: &TaskStatus) {
        let before = self.board.set(task, status.clone());
        self.metrics.status(task, before, status);
        self.records.try_put(Change::Status(task, pb::TaskStatus::from(status).encode_to_vec()));
    }

    fn prepared(&self, task: TaskId, prepared: &Prepared) {
        if let Ok(json) = serde_json::to_vec(prepared) {
            self.records.try_put(Change::Prepared(task, json));
        }
    }

    fn gone(&self, task: TaskId) {
        self.metrics.gone(task);
        self.board.gone(task);
        self.records.forget(task);
    }
}
