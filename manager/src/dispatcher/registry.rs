//! The sessions there are, and when each node was last heard. One session per node: a newer one ends the older.

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
    began: Mutex<Instant>,
    /// A session began or ended.
    changed: Notify,
}

struct Entry {
    session: String,
    /// Tells two streams of one session apart.
    stream: u64,
    connected: bool,
    heard: Instant,
    end: CancellationToken,
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
        Self { shared: Arc::new(Shared { entries: Mutex::default(), began, changed: Notify::new() }) }
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
        let entry = Entry { session: id.clone(), stream, connected: true, heard: Instant::now(), end: end.clone() };
        entries.insert(node, entry);
        drop(entries);
        self.shared.changed.notify_one();
        Session { registry: self.clone(), node, stream, id, end }
    }

    /// Starts the clock anew: a manager that has just begun to lead has heard of nobody yet.
    pub fn begin(&self) {
        *lock(&self.shared.began) = Instant::now();
    }

    /// Time since [`Registry::begin`], and what is known of every node on that clock.
    pub fn pulses(&self) -> (Duration, BTreeMap<NodeId, Pulse>) {
        let began = *lock(&self.shared.began);
        let pulse =
            |entry: &Entry| Pulse { heard: entry.heard.saturating_duration_since(began), connected: entry.connected };
        let pulses = self.entries().iter().map(|(node, entry)| (*node, pulse(entry))).collect();
        (began.elapsed(), pulses)
    }

    /// Waits until a session begins or ends. Cancel-safe: a signal that was not taken is kept.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Ends the session of a node that is not part of the cluster any more.
    pub fn forget(&self, node: NodeId) {
        if let Some(entry) = self.entries().remove(&node) {
            entry.end.cancel();
        }
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
