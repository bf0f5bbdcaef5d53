//! What the managers said that every other node knows of, and who on this node waits for it.
//!
//! Owns two indices of the managers' log: from which state this node heard of its own tasks last, and up to which one
//! all other nodes know what they have to. Never holds anything up for longer than it is asked to, and not at all
//! without a session.

use tokio::sync::watch;
use tokio::time::Instant;

use super::Link;

/// The indices; shared by the session that moves them and those who wait.
pub struct Settled {
    progress: watch::Sender<Progress>,
    link: watch::Receiver<Option<Link>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    heard: u64,
    settled: u64,
}

impl Settled {
    /// Nothing was heard yet; `link` shows whether a session is up.
    pub fn new(link: watch::Receiver<Option<Link>>) -> Self {
        Self { progress: watch::Sender::default(), link }
    }

    /// This node was told everything, from the state at `index`. An index that goes back is of another log: what was
    /// settled in the old one says nothing.
    pub fn began(&self, index: u64) {
        self.progress.send_modify(|progress| {
            if index < progress.heard {
                progress.settled = 0;
            }
            progress.heard = index;
        });
    }

    /// This node was told of changes of its own tasks, from the state at `index`.
    pub fn heard(&self, index: u64) {
        self.progress.send_modify(|progress| progress.heard = progress.heard.max(index));
    }

    /// All other nodes know of everything up to `index`.
    pub fn settled(&self, index: u64) {
        self.progress.send_modify(|progress| progress.settled = progress.settled.max(index));
    }

    /// From which state this node heard of its own tasks last; 0 when managers say nothing of that.
    pub fn last(&self) -> u64 {
        self.progress.borrow().heard
    }

    /// Whether all other nodes know of everything up to `index`.
    pub fn has(&self, index: u64) -> bool {
        self.progress.borrow().settled >= index
    }

    /// Returns once all other nodes know of everything up to `index`, however long that takes. Cancel-safe: it stays so.
    pub async fn reached(&self, index: u64) {
        // The sender is this value's own.
        let _ = self.progress.subscribe().wait_for(|progress| progress.settled >= index).await;
    }

    /// Waits until all other nodes know of everything up to `index`, at most until `end`, and only while a session is
    /// up: without one nobody would say so. True when they know.
    pub async fn wait(&self, index: u64, end: Instant) -> bool {
        let (mut progress, mut link) = (self.progress.subscribe(), self.link.clone());
        tokio::select! {
            biased;
            // Cancel-safe, all: they are looked at anew.
            _ = progress.wait_for(|progress| progress.settled >= index) => true,
            _ = link.wait_for(Option::is_none) => false,
            () = tokio::time::sleep_until(end) => false,
        }
    }
}
