//! Where a batch is written: here while this manager leads, otherwise by the leader.
//!
//! A batch is given again only when it is certain that nobody took it: a second copy could not do its work twice
//! (preconditions), but its outcome would look like somebody else's.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_proto::pb;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::handover::Stepping;
use super::intake::{COMMIT_PATIENCE, Intake, Written};
use super::outcomes::Outcomes;
use super::proposer::ProposeError;
use super::transport::Peers;
use super::types::{Request, typ};

/// How long a write waits for somebody to lead. Longer than an election.
const LEADER_PATIENCE: Duration = Duration::from_secs(5);
/// How long a committed entry may take to come here.
const APPLY_PATIENCE: Duration = Duration::from_secs(5);
/// A leader that was followed by another may still say within this what became of a batch.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Before asking again when nobody leads; a change of leader is noticed at once.
const RETRY: Duration = Duration::from_millis(25);

/// Writes batches, wherever the leader is.
#[derive(Clone)]
pub struct Forward {
    /// This manager.
    pub id: u64,
    /// Its Raft.
    pub raft: typ::Raft,
    /// What it takes in while it leads.
    pub intake: Intake,
    /// The others.
    pub peers: Peers,
    /// What became of entries, as applied here.
    pub outcomes: Outcomes,
    /// Whether it is about to let another lead.
    pub stepping: Stepping,
    /// Reads that wait.
    pub rounds: Arc<Rounds>,
}

/// Rounds of asking what is committed; one at a time.
#[derive(Default)]
pub struct Rounds {
    begun: AtomicU64,
    /// Number and outcome of the last one that ended.
    last: tokio::sync::Mutex<Option<(u64, Result<(), ProposeError>)>>,
}

/// What one attempt came to.
enum Attempt {
    Done(Written),
    /// Nobody took it.
    NotTaken,
    Failed(ProposeError),
}

impl Forward {
    /// Writes one batch that was just made; returns what became of it once it is applied here.
    pub async fn write(&self, request: Request) -> Result<Written, ProposeError> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        let mut metrics = self.raft.metrics();
        loop {
            // From here on: a new receiver has seen nothing, and would not wait at all.
            metrics.mark_unchanged();
            match self.attempt(&request).await {
                Attempt::Done(written) => return Ok(written),
                Attempt::Failed(error) => return Err(error),
                Attempt::NotTaken if Instant::now() >= deadline => {
                    return Err(ProposeError::NotLeader { leader: self.leader().map(|(_, address)| address) });
                }
                Attempt::NotTaken => {
                    // A change of leader, or a little time: either way it looks again.
                    let changed = tokio::time::timeout(RETRY, metrics.changed()).await;
                    if matches!(changed, Ok(Err(_))) {
                        // Raft has stopped: nothing changes any more.
                        return Err(ProposeError::Stopped);
                    }
                }
            }
        }
    }

    /// Waits until everything that was committed when this is called is applied here (Raft section 8).
    ///
    /// Calls that wait share one round of asking, the first that begins after they came: all agents of a manager that come
    /// back at once cost the leader little.
    pub async fn linearizable(&self) -> Result<(), ProposeError> {
        let came = self.rounds.begun.load(Ordering::Acquire);
        let mut last = self.rounds.last.lock().await;
        if let Some((round, outcome)) = &*last
            && *round > came
        {
            return outcome.clone();
        }
        let round = self.rounds.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let outcome = self.read_round().await;
        *last = Some((round, outcome.clone()));
        outcome
    }

    async fn read_round(&self) -> Result<(), ProposeError> {
        let deadline = Instant::now() + LEADER_PATIENCE;
        loop {
            let index = if self.leads() {
                self.raft.ensure_linearizable().await.ok().map(|id| id.map_or(0, |id| id.index))
            } else if let Some((id, address)) = self.leader()
                && let Ok(mut client) = self.peers.client(id, &address)
            {
                let asked = self.while_leads(id, Duration::ZERO, client.read_index(pb::RaftReadIndexRequest {})).await;
                asked.and_then(Result::ok).map(|answer| answer.into_inner().index)
            } else {
                None
            };
            match index {
                Some(index) if self.outcomes.applied(index, APPLY_PATIENCE).await => return Ok(()),
                _ if Instant::now() >= deadline => {
                    return Err(ProposeError::NotLeader { leader: self.leader().map(|(_, address)| address) });
                }
                _ => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// True while this manager leads and takes writes.
    pub fn leads(&self) -> bool {
        self.intake.leads()
    }

    /// Id and address of the leader, when it is another.
    pub fn leader(&self) -> Option<(u64, String)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader.filter(|leader| *leader != self.id)?;
        let node = metrics.membership_config.membership().get_node(&leader)?;
        Some((leader, node.addr.clone()))
    }

    async fn attempt(&self, request: &Request) -> Attempt {
        if self.leads() {
            return match self.intake.write(request.clone()).await {
                Ok(written) => Attempt::Done(written),
                Err(ProposeError::NotLeader { .. }) => Attempt::NotTaken,
                Err(error) => Attempt::Failed(error),
            };
        }
        match self.leader() {
            Some((id, address)) => self.write_there(id, &address, request).await,
            None => Attempt::NotTaken,
        }
    }

    async fn write_there(&self, id: u64, address: &str, request: &Request) -> Attempt {
        let Ok(mut client) = self.peers.client(id, address) else { return Attempt::NotTaken };
        let proposal = pb::RaftProposal { batch: request.encoded().clone() };
        match self.while_leads(id, LAST_WORD, client.propose(proposal)).await {
            Some(Ok(answer)) => {
                let pb::RaftProposed { index, first } = answer.into_inner();
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                match self.outcomes.of(index, APPLY_PATIENCE).await {
                    Some(outcomes) => Attempt::Done(Written {
                        index,
                        first,
                        outcomes: outcomes.iter().skip(first).take(request.transactions().count()).cloned().collect(),
                    }),
                    None => Attempt::Failed(ProposeError::Lost),
                }
            }
            Some(Err(status)) if was_not_taken(&status) => Attempt::NotTaken,
            Some(Err(_)) | None => Attempt::Failed(ProposeError::Lost),
        }
    }

    /// What the manager `id` answers. `None` once another has led for `grace`, or after [`COMMIT_PATIENCE`]: a host that is
    /// lost says nothing, not even that it is gone, and whoever waits here holds up others.
    async fn while_leads<T>(&self, id: u64, grace: Duration, asked: impl Future<Output = T>) -> Option<T> {
        let mut metrics = self.raft.metrics();
        let led_by_another = async {
            let is_another = |leader: u64| leader != id;
            let changed = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(is_another)).await.map(drop);
            if changed.is_err() {
                // Raft has stopped; the answer, or the patience, ends this.
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            answer = asked => Some(answer),
            // Both lose nothing: the answer is not waited for any more.
            () = led_by_another => None,
            () = tokio::time::sleep(COMMIT_PATIENCE) => None,
        }
    }
}

/// The other does not lead, or was not reached at all.
fn was_not_taken(status: &Status) -> bool {
    status.code() == Code::FailedPrecondition
        || std::iter::successors(status.source(), |error| (*error).source()).any(<dyn Error>::is::<tonic::ConnectError>)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use crate::raft::{DataDir, PlainConnect, RaftNode, RaftSettings};
    use crate::store::Transaction;

    use super::*;

    async fn without_a_leader(place: &Path) -> RaftNode {
        let settings = RaftSettings { found: false, ..RaftSettings::default() };
        RaftNode::open(DataDir::open(place).unwrap(), settings, Arc::new(PlainConnect)).await.unwrap()
    }

    async fn write(forward: &Forward) -> Result<u64, ProposeError> {
        let batch = [Transaction::default()];
        let encoded = crate::raft::wire::encode_for_batch(&batch[0]);
        forward.write(Request::new(encoded, Arc::new(batch))).await.map(|written| written.index)
    }

    /// It spun until its patience ended. Paused time passes only while nothing is busy.
    #[tokio::test(start_paused = true)]
    async fn a_write_that_waits_for_a_leader_is_not_busy() {
        let place = tempfile::tempdir().unwrap();
        let node = without_a_leader(place.path()).await;
        let outcome = write(node.forward()).await;
        assert!(matches!(outcome, Err(ProposeError::NotLeader { leader: None })), "{outcome:?}");
        node.stop().await;
    }

    /// A host that was lost without a word kept all that waited for it until its connection was given up.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_says_nothing_is_not_waited_for_once_another_leads() {
        let place = tempfile::tempdir().unwrap();
        let (dir, settings) = (DataDir::open(place.path()).unwrap(), RaftSettings::default());
        let node = RaftNode::start(dir, settings, Arc::new(PlainConnect)).await.unwrap();
        let begin = Instant::now();
        let lost = node.forward().while_leads(99, LAST_WORD, std::future::pending::<()>()).await;
        assert_eq!(lost, None);
        assert!(begin.elapsed() < COMMIT_PATIENCE, "{:?} of virtual time", begin.elapsed());
        assert_eq!(node.forward().while_leads(99, LAST_WORD, std::future::ready(7)).await, Some(7), "its last word");
        node.stop().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_to_a_raft_that_has_stopped_ends_at_once() {
        let place = tempfile::tempdir().unwrap();
        let node = without_a_leader(place.path()).await;
        node.forward().raft.shutdown().await.unwrap();
        let outcome = write(node.forward()).await;
        assert!(matches!(outcome, Err(ProposeError::Stopped)), "{outcome:?}");
        node.stop().await;
    }
}
