//! Writes: transactions that wait together become one batch, each with an outcome of its own.
//!
//! One batch is on its way to the leader at a time; whatever arrives meanwhile is the next one. The queue is bounded: when
//! it is full, callers wait.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::{Conflict, Hub, Snapshot, State, Transaction};

use super::forward::Forward;
use super::gather::Gather;
use super::intake::Written;
use super::metrics::RaftMetrics;
use super::types::Request;
use super::wire;

/// Encoded bytes of one transaction at most.
pub const MAX_TRANSACTION_BYTES: usize = 4 << 20;
/// Encoded bytes of one batch, unless its first transaction alone is larger.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Transactions in one batch.
const MAX_BATCH: usize = 1024;
/// Transactions that wait; callers beyond them wait for a place.
const QUEUE: usize = 1024;
/// How often [`Proposer::write`] looks again after a conflict.
const ATTEMPTS: usize = 16;

/// A transaction is on disk and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Log index of its entry: the version of everything it wrote.
    pub index: u64,
}

/// Why a transaction was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// It does not fit the state; nothing of it was applied.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Only the leader writes.
    #[error("this manager is not the leader{}", leader_hint(leader.as_deref()))]
    NotLeader {
        /// Address of the leader, if it is known.
        leader: Option<String>,
    },
    /// One transaction may not be that large.
    #[error("the change has {bytes} bytes, at most {MAX_TRANSACTION_BYTES} are allowed in one: split it")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
    },
    /// The leader was lost while it wrote. The transaction may or may not have been applied.
    #[error("the leader was lost meanwhile; the change may or may not have been made: look, and try again")]
    Lost,
    /// The manager stops or has failed. The transaction may or may not have been applied.
    #[error("the manager is stopping; the change may or may not have been made")]
    Stopped,
}

fn leader_hint(leader: Option<&str>) -> String {
    leader.map_or_else(|| " and knows none".to_owned(), |leader| format!(", {leader} is"))
}

/// Takes transactions; clones share the queue.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Waiting>,
    hub: Hub,
}

struct Waiting {
    transaction: Transaction,
    encoded: Bytes,
    reply: oneshot::Sender<Result<Committed, ProposeError>>,
}

impl Proposer {
    /// Starts batching until `stop`.
    pub(super) fn start(
        forward: Forward,
        hub: Hub,
        metrics: RaftMetrics,
        stop: CancellationToken,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Gather::new(waiting, |waiting: &Waiting| waiting.encoded.len(), MAX_BATCH_BYTES, MAX_BATCH);
        let batcher = Batcher { forward, waiting, metrics };
        (Self { queue, hub }, tokio::spawn(batcher.run(stop)))
    }

    /// Writes one transaction; returns once it is on disk and in the snapshot that [`Hub::snapshot`] gives. Dropping the
    /// future does not take the transaction back.
    pub async fn propose(&self, transaction: Transaction) -> Result<Committed, ProposeError> {
        let encoded = wire::encode_for_batch(&transaction);
        if encoded.len() > MAX_TRANSACTION_BYTES {
            return Err(ProposeError::TooLarge { bytes: encoded.len() });
        }
        let (reply, outcome) = oneshot::channel();
        let waiting = Waiting { transaction, encoded, reply };
        self.queue.send(waiting).await.map_err(|_| ProposeError::Stopped)?;
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }

    /// Makes a transaction from the newest state and writes it; looks again when somebody else was faster. `None` from
    /// `make` means that nothing is to be done. Returns the state after the write.
    pub async fn write<E: From<ProposeError>>(
        &self,
        mut make: impl FnMut(&State) -> Result<Option<Transaction>, E>,
    ) -> Result<Snapshot, E> {
        let mut attempt = 1;
        loop {
            let state = self.hub.snapshot();
            let Some(transaction) = make(&state)? else { return Ok(state) };
            match self.propose(transaction).await {
                Ok(_) => return Ok(self.hub.snapshot()),
                Err(ProposeError::Conflict(conflict)) if conflict.is_stale() && attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Makes batches of what waits.
struct Batcher {
    forward: Forward,
    waiting: Gather<Waiting>,
    metrics: RaftMetrics,
}

impl Batcher {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(batch) = self.waiting.next(&stop).await {
            self.commit(batch).await;
        }
        for waiting in self.waiting.close().await {
            // A caller that is gone needs no answer.
            let _ = waiting.reply.send(Err(ProposeError::Stopped));
        }
    }

    async fn commit(&self, mut batch: Vec<Waiting>) {
        let transactions: Arc<[Transaction]> =
            batch.iter_mut().map(|waiting| mem::take(&mut waiting.transaction)).collect();
        let encoded = wire::concatenated(batch.iter().map(|waiting| &waiting.encoded));
        match self.forward.write(Request::new(encoded, transactions)).await {
            Ok(Written { index, outcomes, .. }) => {
                for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                    let outcome = outcome.map(|()| Committed { index }).map_err(ProposeError::Conflict);
                    self.metrics.transactions(outcome.as_ref().map(drop), 1);
                    let _ = waiting.reply.send(outcome);
                }
            }
            Err(error) => {
                self.metrics.transactions(Err(&error), batch.len());
                for waiting in batch {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }
}
