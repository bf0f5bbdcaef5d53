//! What openraft is configured with.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Conflict, Transaction};

use super::snapshot::SnapshotFile;
use super::wire;

openraft::declare_raft_types!(
    /// Berth's Raft: batches of transactions in, an outcome for each transaction out.
    pub TypeConfig:
        D = Request,
        R = Response,
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotFile,
);

/// Openraft's errors and ids with our types filled in.
pub mod typ {
    use super::TypeConfig;

    /// A log id.
    pub type LogId = openraft::LogId<u64>;
    /// A vote.
    pub type Vote = openraft::Vote<u64>;
    /// A log entry.
    pub type Entry = openraft::Entry<TypeConfig>;
    /// A membership.
    pub type Membership = openraft::Membership<u64, openraft::BasicNode>;
    /// A membership with the entry that brought it.
    pub type StoredMembership = openraft::StoredMembership<u64, openraft::BasicNode>;
    /// What identifies a snapshot.
    pub type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;
    /// A snapshot.
    pub type Snapshot = openraft::Snapshot<TypeConfig>;
    /// The Raft handle.
    pub type Raft = openraft::Raft<TypeConfig>;
    /// An error of the storage.
    pub type StorageError = openraft::StorageError<u64>;
    /// The same, with what was being done.
    pub type StorageIOError = openraft::StorageIOError<u64>;
}

/// A batch of transactions as it goes through the log: encoded, and decoded too where it was made.
#[derive(Clone)]
pub struct Request {
    encoded: Bytes,
    /// One part for each batch that came into it; none when it is only there encoded.
    decoded: Vec<Arc<[Transaction]>>,
}

impl Request {
    /// A batch that was just made; `encoded` is the `Batch` message of `transactions`.
    pub fn new(encoded: Bytes, transactions: Arc<[Transaction]>) -> Self {
        Self { encoded, decoded: vec![transactions] }
    }

    /// A batch that came from disk or from another manager.
    pub fn from_encoded(encoded: Bytes) -> Self {
        Self { encoded, decoded: Vec::new() }
    }

    /// The `Batch` message.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Several batches that were just made, as one.
    pub fn joined<'a>(batches: impl Iterator<Item = &'a Self> + Clone) -> Self {
        Self {
            encoded: wire::concatenated(batches.clone().map(Self::encoded)),
            decoded: batches.flat_map(|batch| &batch.decoded).cloned().collect(),
        }
    }

    /// True when the transactions are there decoded.
    pub fn is_decoded(&self) -> bool {
        !self.decoded.is_empty()
    }

    /// The transactions, if this manager took the batch in.
    pub fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.decoded.iter().flat_map(|part| part.iter())
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<batch of {} bytes>", self.encoded.len())
    }
}

/// What became of a batch. Empty for entries that are no batch.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// One outcome for each transaction, in order.
    pub outcomes: Vec<Result<(), Conflict>>,
}
