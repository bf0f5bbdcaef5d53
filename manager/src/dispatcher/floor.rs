//! What the nodes of all managers have taken in, put together: by the leader from what the others tell, by the others
//! from what the leader says.
//!
//! Shared by everything that moves it; never waits for anybody. [`super::settle`] carries it between managers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ledger::{Floor, Ledger, Place};

/// A manager that says nothing for this long is waited for no more: its agents leave it, or nobody hears it.
pub const SILENCE: Duration = Duration::from_secs(1);

/// What all nodes have taken in; clones share it.
#[derive(Clone)]
pub struct Floors {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    own: watch::Sender<Floor>,
    cluster: watch::Sender<Floor>,
}

#[derive(Default)]
struct Inner {
    ledger: Ledger,
    part: Part,
    /// What other managers told, and when.
    others: BTreeMap<NodeId, (Floor, Instant)>,
}

/// What this manager is to the others.
#[derive(Default)]
enum Part {
    /// It is not known who leads: nothing is known of the others' nodes.
    #[default]
    Lost,
    /// The leader has said this.
    Follows(Floor),
    /// It leads, since then; these are the other managers.
    Leads(Instant, BTreeSet<NodeId>),
}

impl Floors {
    /// No sessions, no leader.
    pub fn new() -> Self {
        let (own, cluster) = (watch::Sender::new(Floor::NOBODY), watch::Sender::new(Floor::UNKNOWN));
        Self { shared: Arc::new(Shared { inner: Mutex::default(), own, cluster }) }
    }

    /// What the nodes of this manager's sessions have taken in, as it changes.
    pub fn own(&self) -> watch::Receiver<Floor> {
        self.shared.own.subscribe()
    }

    /// What the nodes of all managers' sessions have taken in, as it changes.
    pub fn cluster(&self) -> watch::Receiver<Floor> {
        self.shared.cluster.subscribe()
    }

    /// The last index that somebody waits for.
    pub fn wanted(&self) -> u64 {
        self.inner().ledger.wanted()
    }

    /// A session begins.
    pub fn open(&self, place: Place) {
        self.change(|inner, now| inner.ledger.open(place, now));
    }

    /// A session has ended.
    pub fn close(&self, place: Place) {
        self.change(|inner, _| inner.ledger.close(place));
    }

    /// See [`Ledger::rung`].
    pub fn rung(&self, places: impl IntoIterator<Item = Place>) {
        self.change(|inner, now| inner.ledger.rung(places, now));
    }

    /// See [`Ledger::has_read`].
    pub fn has_read(&self, index: u64, is_wanted: bool) {
        self.change(|inner, _| inner.ledger.has_read(index, is_wanted));
    }

    /// See [`Ledger::give_up`].
    pub fn give_up(&self, node: NodeId) {
        self.change(|inner, _| inner.ledger.give_up(node));
    }

    /// See [`Ledger::looks`].
    pub fn looks(&self, place: Place) {
        self.change(|inner, now| inner.ledger.looks(place, now));
    }

    /// See [`Ledger::looked`].
    pub fn looked(&self, place: Place, sequence: Option<u64>) {
        self.change(|inner, now| inner.ledger.looked(place, sequence, now));
    }

    /// See [`Ledger::acknowledged`].
    pub fn acknowledged(&self, place: Place, sequence: u64) {
        self.change(|inner, now| inner.ledger.acknowledged(place, sequence, now));
    }

    /// Leaves out who has been silent for too long; returns nodes that were just left out.
    pub fn tire(&self) -> Vec<NodeId> {
        self.change(|inner, now| inner.ledger.tire(now))
    }

    /// This manager leads from now on.
    pub fn lead(&self, managers: BTreeSet<NodeId>) {
        self.change(|inner, now| inner.part = Part::Leads(now, managers));
    }

    /// The other managers, while this one leads.
    pub fn managers(&self, managers: BTreeSet<NodeId>) {
        self.change(|inner, _| {
            if let Part::Leads(_, known) = &mut inner.part {
                inner.others.retain(|node, _| managers.contains(node));
                *known = managers;
            }
        });
    }

    /// What the leader says.
    pub fn follow(&self, said: Floor) {
        self.change(|inner, _| inner.part = Part::Follows(said));
    }

    /// Nobody leads, or nobody is known to.
    pub fn lose(&self) {
        self.change(|inner, _| inner.part = Part::Lost);
    }

    /// What another manager tells this one, which leads.
    pub fn told(&self, by: NodeId, floor: Floor) {
        self.change(|inner, now| {
            inner.others.insert(by, (floor, now));
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        let now = Instant::now();
        let mut inner = self.inner();
        let result = change(&mut inner, now);
        // Under the lock, so that an older value never comes after a newer one.
        let own = inner.ledger.floor();
        set(&self.shared.own, own);
        set(&self.shared.cluster, inner.cluster(own, now));
        result
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Floors {
    fn default() -> Self {
        Self::new()
    }
}

impl Inner {
    fn cluster(&self, own: Floor, now: Instant) -> Floor {
        match &self.part {
            Part::Lost => Floor::UNKNOWN,
            Part::Follows(said) => said.and(own),
            Part::Leads(began, managers) => {
                let heard = |node: &NodeId| match self.others.get(node) {
                    Some((floor, heard)) if now.duration_since(*heard) < SILENCE => *floor,
                    // One that has not come yet may have nodes of which nothing is known.
                    None if now.duration_since(*began) < SILENCE => Floor::UNKNOWN,
                    _ => Floor::NOBODY,
                };
                managers.iter().map(heard).fold(own, Floor::and)
            }
        }
    }
}

fn set(place: &watch::Sender<Floor>, floor: Floor) {
    place.send_if_modified(|known| std::mem::replace(known, floor) != floor);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);
    const OTHER: NodeId = NodeId::from_random(2);

    #[tokio::test(start_paused = true)]
    async fn a_leader_waits_for_managers_that_it_has_heard_and_a_moment_for_others() {
        let floors = Floors::new();
        let cluster = floors.cluster();
        assert_eq!(*cluster.borrow(), Floor::UNKNOWN);
        floors.lead([OTHER].into());
        assert_eq!(*cluster.borrow(), Floor::UNKNOWN);
        let said = Floor { lowest: 7, node: Some(NODE), others: 9 };
        floors.told(OTHER, said);
        assert_eq!(*cluster.borrow(), said);
        tokio::time::advance(SILENCE).await;
        floors.tire();
        assert_eq!(*cluster.borrow(), Floor::NOBODY, "it has fallen silent");
        floors.told(OTHER, said);
        assert_eq!(*cluster.borrow(), said);
        floors.lose();
        assert_eq!(*cluster.borrow(), Floor::UNKNOWN);
        floors.lead([OTHER, NODE].into());
        assert_eq!(*cluster.borrow(), Floor::UNKNOWN, "one of the two has not come");
        tokio::time::advance(SILENCE / 2).await;
        floors.told(OTHER, said);
        tokio::time::advance(SILENCE / 2).await;
        floors.tire();
        assert_eq!(*cluster.borrow(), said);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_never_says_more_than_its_own_nodes_know() {
        let floors = Floors::new();
        floors.follow(Floor { lowest: 9, node: None, others: 9 });
        floors.has_read(12, false);
        floors.open((NODE, 0));
        assert_eq!(*floors.cluster().borrow(), Floor { lowest: 0, node: Some(NODE), others: 9 });
        floors.looks((NODE, 0));
        floors.looked((NODE, 0), None);
        assert_eq!(floors.cluster().borrow().lowest, 9);
    }
}
