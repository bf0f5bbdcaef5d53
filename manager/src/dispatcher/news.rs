//! Reads each commit once for all sessions, and wakes just those that should look: thousands of sessions that each read every
//! commit would keep a manager from anything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::NodeId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::store::{Hub, Subscription, WatchError};

use super::interest::{Interest, Touched, Urgency};

/// Changes that are not about the node's own tasks are put together for this long.
const SETTLE: Duration = Duration::from_millis(20);
/// Commits that are read before anybody is woken, so that nobody waits for all of a storm.
const COMMITS: usize = 64;

/// By node; the number tells two streams of one node apart.
type Listeners = BTreeMap<(NodeId, u64), Arc<Slot>>;

/// Clones share the listeners.
#[derive(Clone)]
pub struct News {
    listeners: Arc<Mutex<Listeners>>,
}

/// What is kept for one listener.
#[derive(Default)]
struct Slot {
    interest: Mutex<Interest>,
    pending: Mutex<Pending>,
    rung: Notify,
}

#[derive(Default)]
struct Pending {
    urgency: Urgency,
    membership: bool,
    closed: bool,
}

/// One session's ear.
pub struct Listener {
    news: News,
    place: (NodeId, u64),
    slot: Arc<Slot>,
}

impl News {
    /// Reads what is committed until `stop`.
    pub fn start(hub: Hub, stop: CancellationToken) -> Self {
        let news = Self { listeners: Arc::default() };
        let commits = hub.subscribe().1;
        tokio::spawn(news.clone().run(hub, commits, stop));
        news
    }

    /// From now on the node is told. A state that is looked at after this misses nothing of which it is not told.
    pub fn listen(&self, node: NodeId) -> Listener {
        let (place, slot) = ((node, rand::random()), Arc::<Slot>::default());
        lock(&self.listeners).insert(place, Arc::clone(&slot));
        Listener { news: self.clone(), place, slot }
    }

    async fn run(self, hub: Hub, mut commits: Subscription, stop: CancellationToken) {
        loop {
            let commit = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => break,
                // Cancel-safe: a commit that was not returned is returned next time.
                commit = commits.next() => commit,
            };
            let touched = match commit {
                Ok(first) => {
                    // The state is taken after each commit, so that it includes it.
                    let mut touched = Touched::default();
                    let mut next = Some(first);
                    for _ in 0..COMMITS {
                        let Some(commit) = next else { break };
                        let state = hub.snapshot();
                        commit.events.iter().for_each(|event| touched.note(event, &state));
                        // Having fallen behind is told again by the next look.
                        next = commits.try_next().unwrap_or_default();
                    }
                    touched
                }
                Err(WatchError::Lagged { .. }) => {
                    commits.resync();
                    Touched::everything()
                }
                Err(WatchError::Closed) => break,
            };
            self.tell(&touched);
        }
        lock(&self.listeners).values().for_each(|slot| slot.ring(|pending| pending.closed = true));
    }

    fn tell(&self, touched: &Touched) {
        let listeners = lock(&self.listeners);
        if touched.is_of_few() {
            for node in touched.nodes.keys() {
                let of_node = listeners.range((*node, u64::MIN)..=(*node, u64::MAX));
                of_node.for_each(|((node, _), slot)| slot.tell(*node, touched));
            }
        } else {
            listeners.iter().for_each(|((node, _), slot)| slot.tell(*node, touched));
        }
    }
}

impl Slot {
    fn tell(&self, node: NodeId, touched: &Touched) {
        let urgency = touched.urgency(node, &lock(&self.interest));
        let membership = touched.membership(node);
        if urgency > Urgency::Never || membership {
            self.ring(|pending| {
                pending.urgency = urgency.max(pending.urgency);
                pending.membership |= membership;
            });
        }
    }

    fn ring(&self, note: impl FnOnce(&mut Pending)) {
        note(&mut lock(&self.pending));
        self.rung.notify_one();
    }
}

impl Listener {
    /// What the node knows now of others. True when that is another than before: what was committed meanwhile may have been
    /// passed over, and the state has to be looked at again.
    pub fn knows(&self, interest: Interest) -> bool {
        let mut known = lock(&self.slot.interest);
        let is_other = *known != interest;
        *known = interest;
        is_other
    }

    /// Waits for something that the node should hear of; what is not about its own tasks waits for more of its kind. True when
    /// it may have to know something else to stay part of the cluster. Cancel-safe but for the wait for more.
    pub async fn next(&self) -> Result<bool, Status> {
        let mut due: Option<Instant> = None;
        let mut membership = false;
        loop {
            let rung = self.slot.rung.notified();
            let is_due = match due {
                None => {
                    rung.await;
                    false
                }
                Some(due) => timeout_at(due, rung).await.is_err(),
            };
            let pending = std::mem::take(&mut *lock(&self.slot.pending));
            if pending.closed {
                return Err(Status::unavailable("this manager is stopping"));
            }
            membership |= pending.membership;
            if is_due || pending.urgency == Urgency::Now {
                return Ok(membership);
            }
            if pending.urgency == Urgency::Soon || pending.membership {
                due = due.or_else(|| Some(Instant::now() + SETTLE));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.news.listeners).remove(&self.place);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
