//! What commits look like to those who watch. A commit is turned into text once for all who look at it alike: what was made is
//! kept for a while, and each takes it at its own pace out of the hub's ring. No watcher has a queue.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use berth_manager::store::{Commit, Hub};
use bytes::Bytes;

use super::chronicle::Chronicle;
use super::scope::Scope;

/// Frames that one look keeps.
const FRAMES: usize = 1024;
/// Bytes of the frames that all looks keep together.
const BYTES: usize = 32 << 20;

/// What somebody wants to see of commits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Look {
    /// Which objects changed, and how they are now.
    Changes(Scope),
    /// What happened, and who did it.
    Events(Chronicle),
}

/// The looks of those who watch now.
#[derive(Default)]
pub struct Feeds {
    open: Mutex<HashMap<Look, Weak<Feed>>>,
    /// Bytes that all of them keep.
    kept: Arc<AtomicUsize>,
}

/// Commits by one look.
pub struct Feed {
    look: Look,
    /// By index, the oldest first. What shows nothing is kept too, as empty.
    frames: Mutex<VecDeque<(u64, Bytes)>>,
    kept: Arc<AtomicUsize>,
}

impl Feeds {
    /// The feed of that look, shared by all who have it.
    pub fn of(&self, look: Look) -> Arc<Feed> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(feed) = open.get(&look).and_then(Weak::upgrade) {
            return feed;
        }
        open.retain(|_, feed| feed.strong_count() > 0);
        let feed = Arc::new(Feed { look: look.clone(), frames: Mutex::default(), kept: Arc::clone(&self.kept) });
        open.insert(look, Arc::downgrade(&feed));
        feed
    }
}

impl Feed {
    /// The commit as a server-sent event; empty when there is nothing in it to see.
    pub fn frame(&self, commit: &Commit, hub: &Hub) -> Bytes {
        // Held while it is made: those who want the same one wait for it instead of making it too.
        let mut frames = self.frames();
        let place = match frames.binary_search_by_key(&commit.index, |(index, _)| *index) {
            Ok(found) => return frames[found].1.clone(),
            Err(place) => place,
        };
        let frame = match &self.look {
            Look::Changes(scope) => scope.frame(commit, hub),
            Look::Events(chronicle) => chronicle.frame(commit, hub),
        };
        self.kept.fetch_add(frame.len(), Ordering::Relaxed);
        frames.insert(place, (commit.index, frame.clone()));
        while frames.len() > FRAMES || (self.kept.load(Ordering::Relaxed) > BYTES && !frames.is_empty()) {
            let Some((_, oldest)) = frames.pop_front() else { break };
            self.kept.fetch_sub(oldest.len(), Ordering::Relaxed);
        }
        frame
    }

    fn frames(&self) -> MutexGuard<'_, VecDeque<(u64, Bytes)>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let bytes: usize = self.frames().iter().map(|(_, frame)| frame.len()).sum();
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use berth_manager::store::{Event, State};
    use berth_proto::id::Id;
    use berth_proto::object::{Cluster, Meta, ObjectKind};
    use berth_proto::spec::ClusterSpec;

    use super::*;

    fn look(kind: ObjectKind) -> Look {
        Look::Changes(Scope { kinds: [kind].into(), services: [].into(), nodes: [].into() })
    }

    fn commit(index: u64) -> Commit {
        let (id, meta) = (Id::from_random(1), Meta { version: index, ..Meta::default() });
        let cluster = Cluster { id, meta, spec: ClusterSpec::default(), authority: None, tokens: Vec::new() };
        Commit { index, events: [Event::Created(cluster.into())].into(), authors: [].into() }
    }

    #[test]
    fn a_commit_is_made_into_text_once_for_all_who_look_alike() {
        let (feeds, hub) = (Feeds::default(), Hub::new(State::default()));
        let (one, other) = (feeds.of(look(ObjectKind::Cluster)), feeds.of(look(ObjectKind::Cluster)));
        let frame = one.frame(&commit(5), &hub);
        assert!(frame.starts_with(b"event: change\nid: 5\n"));
        assert_eq!(other.frame(&commit(5), &hub).as_ptr(), frame.as_ptr(), "the same text, not one like it");
        assert!(feeds.of(look(ObjectKind::Task)).frame(&commit(5), &hub).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_and_goes_with_the_last_who_looks() {
        let (feeds, hub) = (Feeds::default(), Hub::new(State::default()));
        let feed = feeds.of(look(ObjectKind::Cluster));
        let first = feed.frame(&commit(1), &hub);
        for index in 2..=2 * FRAMES as u64 {
            feed.frame(&commit(index), &hub);
        }
        assert_eq!(feed.frames().len(), FRAMES);
        // One who comes late is served too, and in the right order.
        assert_eq!(feed.frame(&commit(1), &hub), first);
        assert_eq!(feed.frames().len(), FRAMES);
        assert!(feed.frames().iter().is_sorted_by_key(|(index, _)| *index));
        drop(feed);
        assert_eq!(feeds.kept.load(Ordering::Relaxed), 0);
        feeds.of(look(ObjectKind::Task));
        assert_eq!(feeds.open.lock().expect("nobody panicked").len(), 1);
    }
}
