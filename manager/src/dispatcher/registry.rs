//! The sessions there are, and when each node was last heard: by this manager, and on the leader by the others too. One
//! session per node in the whole cluster: a newer one ends the older.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::health::Pulse;

/// The sessions of this manager; clones share them.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    entries: Mutex<BTreeMap<NodeId, Entry>>,
    /// What other managers told, by node and manager.
    told: Mutex<BTreeMap<NodeId, BTreeMap<NodeId, Told>>>,
    began: Mutex<Instant>,
    /// A session began or ended.
    changed: Notify,
}

struct Entry {
    session: String,
    /// Tells two streams of one session apart.
    stream: u64,
    connected: bool,
    began: Instant,
    heard: Instant,
    end: CancellationToken,
}

/// Another manager's word about a node, on this manager's clock.
#[derive(Clone, Copy)]
struct Told {
    connected: bool,
    began: Instant,
    heard: Instant,
}

/// What a manager heard of a node. Durations, because no two managers have the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The node.
    pub node: NodeId,
    /// Its stream is open.
    pub connected: bool,
    /// Since something came from it.
    pub silence: Duration,
    /// Since its stream began.
    pub age: Duration,
}

/// Tells one word about a node from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    stream: u64,
    connected: bool,
    heard: Instant,
}

/// A session's place in the registry; dropping it says that the stream is broken.
pub struct Session {
    registry: Registry,
    node: NodeId,
    stream: u64,
    /// The session's id.
    pub id: String,
    /// Cancelled when a newer stream of the node takes its place.
    pub end: CancellationToken,
}

impl Registry {
    /// No sessions yet.
    pub fn new() -> Self {
        let began = Mutex::new(Instant::now());
        let shared = Shared { entries: Mutex::default(), told: Mutex::default(), began, changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// A stream of `node` has begun. It goes on with session `resume` if that is the node's last one.
    pub fn open(&self, node: NodeId, resume: &str, stop: &CancellationToken) -> Session {
        let stream = rand::random();
        let end = stop.child_token();
        let mut entries = self.entries();
        let known = entries.get(&node);
        let resumed = known.filter(|entry| !resume.is_empty() && entry.session == resume);
        let id = resumed.map_or_else(|| format!("{:032x}", rand::random::<u128>()), |entry| entry.session.clone());
        if let Some(old) = known {
            old.end.cancel();
        }
        let now = Instant::now();
        let entry = Entry { session: id.clone(), stream, connected: true, began: now, heard: now, end: end.clone() };
        entries.insert(node, entry);
        drop(entries);
        self.shared.changed.notify_one();
        Session { registry: self.clone(), node, stream, id, end }
    }

    /// Starts the clock anew: a manager that has just begun to lead has heard of nobody yet, and what it was told when it
    /// led before is old.
    pub fn begin(&self) {
        *lock(&self.shared.began) = Instant::now();
        lock(&self.shared.told).clear();
    }

    /// Time since [`Registry::begin`], and what is known of every node on that clock. A node that is heard by anybody is
    /// heard; a late word of the manager that it left changes nothing.
    pub fn pulses(&self) -> (Duration, BTreeMap<NodeId, Pulse>) {
        let began = *lock(&self.shared.began);
        let since = |heard: Instant| heard.saturating_duration_since(began);
        let own =
            |(node, entry): (&NodeId, &Entry)| (*node, Pulse { heard: since(entry.heard), connected: entry.connected });
        let mut pulses: BTreeMap<NodeId, Pulse> = self.entries().iter().map(own).collect();
        for (node, words) in lock(&self.shared.told).iter() {
            for word in words.values() {
                let told = Pulse { heard: since(word.heard), connected: word.connected };
                let pulse = pulses.entry(*node).or_insert(told);
                pulse.heard = pulse.heard.max(told.heard);
                pulse.connected |= told.connected;
            }
        }
        (began.elapsed(), pulses)
    }

    /// What this manager itself heard, each with a mark that changes whenever the word does.
    pub fn words(&self) -> Vec<(Word, Mark)> {
        let word = |(node, entry): (&NodeId, &Entry)| {
            let (silence, age) = (entry.heard.elapsed(), entry.began.elapsed());
            let mark = Mark { stream: entry.stream, connected: entry.connected, heard: entry.heard };
            (Word { node: *node, connected: entry.connected, silence, age }, mark)
        };
        self.entries().iter().map(word).collect()
    }

    /// Takes in what the manager on the node `by` heard; returns the nodes that have moved on from there. A session of this
    /// manager that is older than one of another ends.
    pub fn merge(&self, by: NodeId, words: impl IntoIterator<Item = Word>) -> Vec<NodeId> {
        let now = Instant::now();
        let ago = |duration: Duration| now.checked_sub(duration).unwrap_or(now);
        let mut moved = Vec::new();
        let mut is_news = false;
        let entries = self.entries();
        let mut told = lock(&self.shared.told);
        for word in words {
            let new = Told { connected: word.connected, began: ago(word.age), heard: ago(word.silence) };
            let others = told.entry(word.node).or_default();
            let own = entries.get(&word.node).filter(|entry| entry.connected);
            let elsewhere = others.iter().filter(|(manager, told)| **manager != by && told.connected);
            let newest = elsewhere.map(|(_, told)| told.began).chain(own.map(|entry| entry.began)).max();
            let is_over = word.connected && newest.is_some_and(|newest| newest > new.began);
            if is_over {
                moved.push(word.node);
            } else if let Some(own) = own.filter(|_| word.connected) {
                own.end.cancel();
            }
            let old = others.get(&by).copied();
            let heard = old.map_or(new.heard, |old| old.heard.max(new.heard));
            let connected = new.connected && !is_over;
            is_news |= old.is_none_or(|old| old.connected != connected);
            others.insert(by, Told { connected, heard, ..new });
        }
        drop((entries, told));
        if is_news {
            self.shared.changed.notify_one();
        }
        moved
    }

    /// Waits until a session begins or ends. Cancel-safe: a signal that was not taken is kept.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Ends the session of a node that has a newer one with another manager.
    pub fn end(&self, node: NodeId) {
        if let Some(entry) = self.entries().get(&node) {
            entry.end.cancel();
        }
    }

    /// Ends the session of a node that is not part of the cluster any more.
    pub fn forget(&self, node: NodeId) {
        if let Some(entry) = self.entries().remove(&node) {
            entry.end.cancel();
        }
        lock(&self.shared.told).remove(&node);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        lock(&self.shared.entries)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    /// Something came from the node.
    pub fn heard(&self) {
        if let Some(entry) = self.registry.entries().get_mut(&self.node).filter(|entry| entry.stream == self.stream) {
            entry.heard = Instant::now();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(entry) = self.registry.entries().get_mut(&self.node).filter(|entry| entry.stream == self.stream) {
            entry.connected = false;
            self.registry.shared.changed.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);
    const ONE: NodeId = NodeId::from_random(11);
    const OTHER: NodeId = NodeId::from_random(12);

    fn word(connected: bool, silence: u64, age: u64) -> [Word; 1] {
        let seconds = Duration::from_secs;
        [Word { node: NODE, connected, silence: seconds(silence), age: seconds(age) }]
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_moved_is_heard_by_the_manager_it_moved_to() {
        let registry = Registry::new();
        registry.begin();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(registry.merge(ONE, word(true, 1, 50)), []);
        assert_eq!(registry.merge(OTHER, word(true, 0, 0)), []);
        // The old manager has not noticed yet, and says late that the stream is over.
        assert_eq!(registry.merge(ONE, word(true, 2, 51)), [NODE]);
        registry.merge(ONE, word(false, 3, 52));
        let (now, pulses) = registry.pulses();
        assert_eq!((now, pulses[&NODE]), (Duration::from_secs(100), Pulse { heard: now, connected: true }));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newer_of_two_sessions_stays_wherever_it_is() {
        let (registry, stop) = (Registry::new(), CancellationToken::new());
        tokio::time::advance(Duration::from_secs(100)).await;
        let older = registry.open(NODE, "", &stop);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(registry.merge(ONE, word(true, 0, 20)), [NODE], "its session is older than ours");
        assert!(!older.end.is_cancelled());
        assert_eq!(registry.merge(ONE, word(true, 0, 1)), []);
        assert!(older.end.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_has_been_told_nothing() {
        let registry = Registry::new();
        registry.merge(ONE, word(true, 0, 1));
        registry.begin();
        assert_eq!(registry.pulses().1, BTreeMap::new());
    }
}
