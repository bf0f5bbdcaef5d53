//! Reads each commit once for all sessions, and wakes just those that should look: thousands of sessions that each read every
//! commit would keep a manager from anything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::Service;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::store::{Event, Hub, Object, State, Step, Subscription, WatchError};

use super::endpoints::{Endpoints, EndpointsChange};
use super::floor::Floors;
use super::interest::{Interest, Touched, Urgency};
use super::ledger::Place;
use super::shared::Shared;

/// Between two looks at changes that are not about the node's own tasks: the first one is told at once, those that come
/// after it are put together for this long.
const SETTLE: Duration = Duration::from_millis(20);
/// Commits that are read before anybody is woken, so that nobody waits for all of a storm.
const COMMITS: usize = 64;

/// By node; the number tells two streams of one node apart.
type Listeners = BTreeMap<Place, Arc<Slot>>;

/// Clones share the listeners.
#[derive(Clone)]
pub struct News {
    listeners: Arc<Mutex<Listeners>>,
    endpoints: Arc<Shared>,
    floors: Floors,
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
    place: Place,
    slot: Arc<Slot>,
    /// When it was last told to look.
    last: Option<Instant>,
    /// When it is to look, after something that can wait.
    due: Option<Instant>,
    membership: bool,
}

/// Says what the node has acknowledged.
pub struct Acknowledgements {
    floors: Floors,
    place: Place,
}

impl Acknowledgements {
    /// The node has applied everything up to this message.
    pub fn note(&self, sequence: u64) {
        self.floors.acknowledged(self.place, sequence);
    }
}

impl News {
    /// Reads what is committed until `stop`. To be called within a tokio runtime.
    pub fn start(hub: Hub, floors: Floors, stop: CancellationToken) -> Self {
        let news = Self { listeners: Arc::default(), endpoints: Arc::default(), floors };
        let (state, commits) = hub.subscribe();
        news.floors.has_read(state.index(), false);
        tokio::spawn(news.clone().run(hub, commits, stop));
        news
    }

    /// From now on the node is told. A state that is looked at after this misses nothing of which it is not told.
    pub fn listen(&self, node: NodeId) -> Listener {
        let (place, slot) = ((node, rand::random()), Arc::<Slot>::default());
        self.floors.open(place);
        lock(&self.listeners).insert(place, Arc::clone(&slot));
        Listener { news: self.clone(), place, slot, last: None, due: None, membership: false }
    }

    async fn run(self, hub: Hub, mut commits: Subscription, stop: CancellationToken) {
        loop {
            let step = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => break,
                // Cancel-safe: a commit that was not returned is returned next time.
                step = commits.next_step() => step,
            };
            let touched = match step {
                Ok(Step::Commit(first)) => {
                    // The state is taken after each commit, so that it includes it.
                    let mut touched = Touched::default();
                    let mut next = Some(first);
                    for _ in 0..COMMITS {
                        let Some(commit) = next else { break };
                        let state = hub.snapshot();
                        commit.events.iter().for_each(|event| self.note(&mut touched, event, &state));
                        // Having fallen behind is told again by the next look.
                        next = commits.try_next().unwrap_or_default();
                    }
                    touched
                }
                Ok(Step::Nothing(_)) => Touched::default(),
                Err(WatchError::Lagged { .. }) => {
                    commits.resync();
                    Touched::everything()
                }
                Err(WatchError::Closed) => break,
            };
            self.tell(&touched, commits.seen());
        }
        lock(&self.listeners).values().for_each(|slot| slot.ring(|pending| pending.closed = true));
    }

    fn note(&self, touched: &mut Touched, event: &Event, state: &State) {
        touched.note(event, state);
        if let (Some(Object::Service(gone)), None) = (event.before(), event.after()) {
            self.endpoints.forget(gone.id);
        }
    }

    /// Wakes those that should look at what was committed up to `index`.
    fn tell(&self, touched: &Touched, index: u64) {
        let listeners = lock(&self.listeners);
        let call = |(place, slot): (&Place, &Arc<Slot>)| slot.call(*place, touched);
        let calls: Vec<Call> = if touched.is_of_few() {
            let of_node = |node: &NodeId| listeners.range((*node, u64::MIN)..=(*node, u64::MAX)).filter_map(call);
            touched.nodes.keys().flat_map(of_node).collect()
        } else {
            listeners.iter().filter_map(call).collect()
        };
        drop(listeners);
        // In this order: nobody counts as having taken in what it was not yet woken for.
        self.floors.rung(calls.iter().filter(|call| call.urgency > Urgency::Never).map(|call| call.place));
        touched.lost.iter().for_each(|node| self.floors.give_up(*node));
        for Call { slot, urgency, membership, .. } in &calls {
            slot.ring(|pending| {
                pending.urgency = (*urgency).max(pending.urgency);
                pending.membership |= membership;
            });
        }
        self.floors.has_read(index, touched.has_urgent());
    }
}

/// A listener that is to be woken.
struct Call {
    place: Place,
    slot: Arc<Slot>,
    urgency: Urgency,
    membership: bool,
}

impl Slot {
    fn call(self: &Arc<Self>, place: Place, touched: &Touched) -> Option<Call> {
        let urgency = touched.urgency(place.0, &lock(&self.interest));
        let membership = touched.membership(place.0);
        let concerns = urgency > Urgency::Never || membership;
        concerns.then(|| Call { place, slot: Arc::clone(self), urgency, membership })
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

    /// Who answers for a service that tasks of all nodes answer for.
    pub fn endpoints(&self, state: &State, service: &Service) -> Arc<Endpoints> {
        self.news.endpoints.of(state, service)
    }

    /// What turns endpoints that were told into those that are now, if that is less to say.
    pub fn endpoints_change(&self, old: &Arc<Endpoints>, new: &Arc<Endpoints>) -> Option<Arc<EndpointsChange>> {
        self.news.endpoints.change(old, new)
    }

    /// The state is about to be taken.
    pub fn looks(&self) {
        self.news.floors.looks(self.place);
    }

    /// What there was to tell is told with the message of that sequence, or there was nothing that others wait for. To
    /// be said before the message is sent.
    pub fn looked(&self, sequence: Option<u64>) {
        self.news.floors.looked(self.place, sequence);
    }

    /// Says what the node acknowledges.
    pub fn acknowledgements(&self) -> Acknowledgements {
        Acknowledgements { floors: self.news.floors.clone(), place: self.place }
    }

    /// Waits for something that the node should hear of. What is not about its own tasks waits for more of its kind
    /// when the last look was a moment ago. True when the node may have to know something else to stay part of the
    /// cluster. Cancel-safe: what was heard is kept.
    pub async fn next(&mut self) -> Result<bool, Status> {
        loop {
            let rung = self.slot.rung.notified();
            let is_due = match self.due {
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
            self.membership |= pending.membership;
            let now = Instant::now();
            let mut is_ripe = is_due || pending.urgency == Urgency::Now;
            if pending.urgency == Urgency::Soon || pending.membership {
                let due = *self.due.get_or_insert_with(|| self.last.map_or(now, |last| last + SETTLE));
                is_ripe |= due <= now;
            }
            if is_ripe {
                (self.due, self.last) = (None, Some(now));
                return Ok(std::mem::take(&mut self.membership));
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.news.listeners).remove(&self.place);
        self.news.floors.close(self.place);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
