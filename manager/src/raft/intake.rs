//! What the leader takes in: batches that wait together, its own and those of the other managers, become one log entry and
//! one fsync.
//!
//! One entry is on its way at a time; whatever arrives meanwhile is the next one (group commit).

use std::time::Duration;

use openraft::ServerState;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Conflict;

use super::gather::Gather;
use super::handover::Stepping;
use super::metrics::RaftMetrics;
use super::proposer::ProposeError;
use super::types::{Request, Response, typ};

/// How long an entry may take to be committed.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(15);
/// Encoded bytes of one log entry, unless its first batch alone is larger.
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// Batches that wait; callers beyond them wait for a place. Each manager gives one at a time.
const QUEUE: usize = 64;

/// Where a batch was written, and what became of it.
#[derive(Debug, Clone)]
pub struct Written {
    /// Log index of its entry.
    pub index: u64,
    /// Place of its first transaction among those of the entry.
    pub first: usize,
    /// Outcome of each of its transactions, in order.
    pub outcomes: Vec<Result<(), Conflict>>,
}

struct Waiting {
    batch: Request,
    reply: oneshot::Sender<Result<Written, ProposeError>>,
}

/// Takes batches while this manager leads; clones share the queue.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
    leading: Leading,
}

/// Whether this manager leads and takes writes.
#[derive(Clone)]
struct Leading {
    raft: typ::Raft,
    stepping: Stepping,
}

impl Leading {
    fn is_true(&self) -> bool {
        !self.stepping.is_on() && self.raft.metrics().borrow().state == ServerState::Leader
    }
}

impl Intake {
    /// Starts to take batches in until `stop`.
    pub fn start(
        raft: typ::Raft,
        stepping: Stepping,
        metrics: RaftMetrics,
        stop: CancellationToken,
    ) -> (Self, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let leading = Leading { raft, stepping };
        let waiting = Gather::new(waiting, |waiting: &Waiting| waiting.batch.encoded().len(), MAX_ENTRY_BYTES, QUEUE);
        let writer = Writer { leading: leading.clone(), waiting, metrics };
        (Self { queue, leading }, tokio::spawn(writer.run(stop)))
    }

    /// True while this manager leads and takes writes.
    pub fn leads(&self) -> bool {
        self.leading.is_true()
    }

    /// Writes a batch; returns once it is committed and applied here. Dropping the future does not take it back.
    ///
    /// # Errors
    /// [`ProposeError::NotLeader`] when it was not taken. [`ProposeError::Lost`] when this manager lost the lead meanwhile: the
    /// batch may be in the log, and may yet be committed by the next leader. [`ProposeError::Stopped`].
    pub async fn write(&self, batch: Request) -> Result<Written, ProposeError> {
        let (reply, written) = oneshot::channel();
        self.queue.send(Waiting { batch, reply }).await.map_err(|_| ProposeError::Stopped)?;
        written.await.unwrap_or(Err(ProposeError::Stopped))
    }
}

/// Makes entries of what waits.
struct Writer {
    leading: Leading,
    waiting: Gather<Waiting>,
    metrics: RaftMetrics,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        while let Some(together) = self.waiting.next(&stop).await {
            self.commit(together).await;
        }
    }

    async fn commit(&self, together: Vec<Waiting>) {
        let entry = Request::joined(together.iter().map(|waiting| &waiting.batch));
        let (index, outcomes) = match self.write(entry).await {
            Ok(written) => written,
            Err(error) => {
                for waiting in together {
                    // A caller that is gone needs no answer.
                    let _ = waiting.reply.send(Err(error.clone()));
                }
                return;
            }
        };
        let mut outcomes = outcomes.into_iter();
        let mut first = 0;
        for Waiting { batch, reply } in together {
            let own: Vec<_> = outcomes.by_ref().take(batch.transactions().count()).collect();
            let next = first + own.len();
            let _ = reply.send(Ok(Written { index, first, outcomes: own }));
            first = next;
        }
    }

    async fn write(&self, request: Request) -> Result<(u64, Vec<Result<(), Conflict>>), ProposeError> {
        if !self.leading.is_true() {
            return Err(ProposeError::NotLeader { leader: None });
        }
        // Raft itself waits for as long as the others do not answer, and for ever where the entry is one that the snapshot of
        // a later leader has passed over.
        let began = Instant::now();
        let written = tokio::time::timeout(COMMIT_PATIENCE, self.leading.raft.client_write(request)).await;
        match written.map_err(|_| ProposeError::Lost)? {
            Ok(written) => {
                self.metrics.commit.observe(began.elapsed().as_secs_f64());
                let Response { outcomes } = written.data;
                Ok((written.log_id.index, outcomes))
            }
            // It led a moment ago: the entry may be in the log, and may yet be committed by the next leader.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::Lost),
            Err(_) => Err(ProposeError::Stopped),
        }
    }
}
