//! Publishes every commit to any number of readers: a snapshot, and the stream of commits after it.
//!
//! The writer never waits for a reader. Commits stay in one shared ring; a reader that falls behind the ring is told so
//! and starts again from a fresh snapshot. There is no queue per reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::event::{Author, Commit, Event};
use super::state::{Snapshot, State};

/// Commits that the ring keeps.
const RING_COMMITS: usize = 4096;
/// Events that the ring keeps in all its commits together, beyond the newest commit.
const RING_EVENTS: usize = 32_768;
/// Encoded bytes of the log entries behind the commits that the ring keeps, beyond the newest commit: what was replaced
/// or removed stays in memory as long as its commit does.
const RING_BYTES: usize = 8 << 20;

/// Why a reader gets no next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The commit is not in the ring any more; [`Subscription::resync`] starts again.
    #[error("fell behind: commits after index {after} are not kept any more, the oldest kept one is {oldest}")]
    Lagged {
        /// Index that the reader had seen.
        after: u64,
        /// Oldest index that can still be read.
        oldest: u64,
    },
    /// The manager has stopped.
    #[error("the manager has stopped")]
    Closed,
}

/// Where commits are published. Clones share it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    ring: Mutex<Ring>,
    /// Number of publications so far; `None` once closed.
    turn: watch::Sender<Option<u64>>,
}

#[derive(Default)]
struct Ring {
    snapshot: Snapshot,
    commits: VecDeque<Arc<Commit>>,
    /// Encoded bytes of each of `commits`.
    sizes: VecDeque<usize>,
    events: usize,
    bytes: usize,
    /// Readers that have seen this index or a later one miss nothing.
    floor: u64,
}

impl Hub {
    /// A hub whose first snapshot is `state`.
    pub fn new(state: State) -> Self {
        let floor = state.index();
        let mut ring = Ring { snapshot: Arc::new(state), ..Ring::default() };
        ring.floor = floor;
        Self { shared: Arc::new(Shared { ring: Mutex::new(ring), turn: watch::Sender::new(Some(0)) }) }
    }

    /// The newest state.
    pub fn snapshot(&self) -> Snapshot {
        Arc::clone(&self.ring().snapshot)
    }

    /// The newest state and everything after it.
    pub fn subscribe(&self) -> (Snapshot, Subscription) {
        let turn = self.shared.turn.subscribe();
        let snapshot = self.snapshot();
        let subscription = Subscription { hub: self.clone(), turn, seen: snapshot.index() };
        (snapshot, subscription)
    }

    /// Everything after log index `seen`, if it is still in the ring.
    pub fn resume(&self, seen: u64) -> Result<Subscription, WatchError> {
        let turn = self.shared.turn.subscribe();
        self.ring().after(seen)?;
        Ok(Subscription { hub: self.clone(), turn, seen })
    }

    /// The commits that are still in the ring, oldest first.
    pub fn commits(&self) -> Vec<Arc<Commit>> {
        self.ring().commits.iter().cloned().collect()
    }

    /// Publishes the state after log entry `state.index()`, what the entry did, who did it, and its encoded size.
    pub fn publish(&self, state: State, events: Vec<Event>, authors: Vec<Author>, bytes: usize) {
        let mut ring = self.ring();
        let commit = Commit { index: state.index(), events: events.into(), authors: authors.into() };
        ring.snapshot = Arc::new(state);
        if !commit.events.is_empty() {
            ring.push(Arc::new(commit), bytes);
        }
        drop(ring);
        self.announce();
    }

    /// Publishes a state that did not come about by commits (a snapshot of another manager): every reader must resync.
    pub fn reset(&self, state: State) {
        let mut ring = self.ring();
        ring.floor = state.index();
        ring.snapshot = Arc::new(state);
        ring.commits.clear();
        ring.sizes.clear();
        (ring.events, ring.bytes) = (0, 0);
        drop(ring);
        self.announce();
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.shared.turn.receiver_count()
    }

    /// Ends every subscription.
    pub fn close(&self) {
        self.shared.turn.send_replace(None);
    }

    fn announce(&self) {
        self.shared.turn.send_modify(|turn| *turn = turn.map(|turn| turn + 1));
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, commit: Arc<Commit>, bytes: usize) {
        self.events += commit.events.len();
        self.bytes += bytes;
        self.commits.push_back(commit);
        self.sizes.push_back(bytes);
        while self.is_over() {
            let (Some(oldest), Some(bytes)) = (self.commits.pop_front(), self.sizes.pop_front()) else { break };
            self.events -= oldest.events.len();
            self.bytes -= bytes;
            self.floor = oldest.index;
        }
    }

    fn is_over(&self) -> bool {
        let heavy = self.events > RING_EVENTS || self.bytes > RING_BYTES;
        self.commits.len() > RING_COMMITS || (heavy && self.commits.len() > 1)
    }

    /// The first commit after `seen`, if there is one yet.
    fn after(&self, seen: u64) -> Result<Option<&Arc<Commit>>, WatchError> {
        if seen < self.floor {
            let oldest = self.commits.front().map_or(self.snapshot.index(), |commit| commit.index);
            return Err(WatchError::Lagged { after: seen, oldest });
        }
        Ok(self.commits.get(self.commits.partition_point(|commit| commit.index <= seen)))
    }
}

/// How the state went on.
#[derive(Debug, Clone)]
pub enum Step {
    /// By a commit.
    Commit(Arc<Commit>),
    /// To this index, without an effect.
    Nothing(u64),
}

/// A reader's place in the stream of commits.
pub struct Subscription {
    hub: Hub,
    turn: watch::Receiver<Option<u64>>,
    seen: u64,
}

impl Subscription {
    /// Log index of the last commit or snapshot that this reader has seen; [`Hub::resume`] goes on from there.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The next commit. Cancel-safe: a commit that was not returned is returned next time.
    pub async fn next(&mut self) -> Result<Arc<Commit>, WatchError> {
        loop {
            if self.turn.borrow_and_update().is_none() {
                return Err(WatchError::Closed);
            }
            if let Some(commit) = self.try_next()? {
                return Ok(commit);
            }
            self.turn.changed().await.map_err(|_| WatchError::Closed)?;
        }
    }

    /// The next commit, or the index of a newer state to which nothing but entries without an effect have led.
    /// Cancel-safe like [`Self::next`].
    pub async fn next_step(&mut self) -> Result<Step, WatchError> {
        loop {
            if self.turn.borrow_and_update().is_none() {
                return Err(WatchError::Closed);
            }
            let (commit, index) = {
                // Both at once: a commit comes with its state.
                let ring = self.hub.ring();
                (ring.after(self.seen)?.cloned(), ring.snapshot.index())
            };
            if let Some(commit) = commit {
                self.seen = commit.index;
                return Ok(Step::Commit(commit));
            }
            if index > self.seen {
                self.seen = index;
                return Ok(Step::Nothing(index));
            }
            self.turn.changed().await.map_err(|_| WatchError::Closed)?;
        }
    }

    /// The next commit, if it is there already.
    pub fn try_next(&mut self) -> Result<Option<Arc<Commit>>, WatchError> {
        let commit = self.hub.ring().after(self.seen)?.cloned();
        if let Some(commit) = &commit {
            self.seen = commit.index;
        }
        Ok(commit)
    }

    /// The newest state; the stream goes on after it.
    pub fn resync(&mut self) -> Snapshot {
        let snapshot = self.hub.snapshot();
        self.seen = snapshot.index();
        snapshot
    }

    /// Waits for an event that `wants` it to look again, then for `settle` without another one but no longer than
    /// `ceiling` in all, and returns the newest state. Having fallen behind counts as an event. For level-triggered
    /// loops. Cancel-safe: a cancelled wait forgets only events that the next state includes; see the next full pass.
    pub async fn wake(
        &mut self,
        wants: impl Fn(&Event) -> bool,
        settle: Duration,
        ceiling: Duration,
    ) -> Result<Snapshot, WatchError> {
        self.wanted(&wants).await?;
        let end = Instant::now() + ceiling;
        loop {
            let quiet = (Instant::now() + settle).min(end);
            match tokio::time::timeout_at(quiet, self.wanted(&wants)).await {
                Ok(Ok(())) if Instant::now() < end => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok(())) | Err(_) => return Ok(self.resync()),
            }
        }
    }

    /// Waits for one event that is wanted.
    async fn wanted(&mut self, wants: &impl Fn(&Event) -> bool) -> Result<(), WatchError> {
        loop {
            match self.next().await {
                Ok(commit) if commit.events.iter().any(wants) => return Ok(()),
                Ok(_) => {}
                Err(WatchError::Lagged { .. }) => {
                    self.resync();
                    return Ok(());
                }
                Err(WatchError::Closed) => return Err(WatchError::Closed),
            }
        }
    }
}
