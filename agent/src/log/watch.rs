//! Wakes followers of logs when something is written, by inotify(7).
//!
//! Owns the agent's one inotify instance, with a watch for each directory that somebody follows: a rotation renames files
//! within it, so that the watch outlives it. Never reads a log: a wake-up means "look again".

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Bytes of events read at once; a single event with the longest name fits.
const BUFFER: usize = 4096;
/// Bytes of `struct inotify_event` before the name, inotify(7).
const HEADER: usize = 16;

/// The directories that are watched. Clones share them.
#[derive(Debug, Clone)]
pub struct Watches(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// Who is woken, by watch descriptor.
    followers: BTreeMap<i32, BTreeMap<u64, Arc<Notify>>>,
}

/// One follower's interest in one directory; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    descriptor: i32,
    number: u64,
}

impl Watches {
    /// Starts listening, until `shutdown`.
    ///
    /// # Errors
    /// The system's, e.g. when the user has as many instances as allowed.
    pub fn start(shutdown: CancellationToken) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // To the reactor it is what a pipe is: readable or not.
        let events = pipe::Receiver::from_owned_fd_unchecked(inotify.try_clone()?)?;
        let shared = Arc::new(Shared { inotify, state: Mutex::default() });
        let listening = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {}
                // Dropped half-way: nobody is woken any more.
                () = listening.listen(events) => {}
            }
        });
        Ok(Self(shared))
    }

    /// Rings `bell` when a file in `directory` is written, made, renamed or removed, from now on.
    ///
    /// # Errors
    /// `NotFound` for a directory that is not there; the system's others, e.g. when it has as many watches as allowed.
    pub fn watch(&self, directory: &Path, bell: Arc<Notify>) -> io::Result<Watch> {
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let mut state = self.0.state();
        // The same directory has the same descriptor, whoever asks.
        let descriptor = inotify::add_watch(&self.0.inotify, directory, what)?;
        state.next += 1;
        let number = state.next;
        state.followers.entry(descriptor).or_default().insert(number, bell);
        Ok(Watch { shared: Arc::clone(&self.0), descriptor, number })
    }
}

impl Shared {
    async fn listen(&self, mut events: pipe::Receiver) {
        let mut buffer = [0; BUFFER];
        while let Ok(count @ 1..) = events.read(&mut buffer).await {
            let mut rest = &buffer[..count];
            while let Some(event) = Event::take(&mut rest) {
                self.pass_on(event);
            }
        }
        tracing::error!("inotify gives no more events; followers of logs look again only now and then");
    }

    /// Rings the bells of the event's directory.
    fn pass_on(&self, event: Event) {
        let mut state = self.state();
        if event.what.contains(ReadFlags::QUEUE_OVERFLOW) {
            state.followers.values().flat_map(BTreeMap::values).for_each(|bell| bell.notify_one());
            return;
        }
        let rung = state.followers.get(&event.descriptor);
        rung.into_iter().flat_map(BTreeMap::values).for_each(|bell| bell.notify_one());
        if event.what.contains(ReadFlags::IGNORED) {
            // The directory is gone, and the descriptor with it.
            state.followers.remove(&event.descriptor);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is of use in an event.
struct Event {
    descriptor: i32,
    what: ReadFlags,
}

impl Event {
    /// Takes the next one off the bytes as the kernel wrote them: descriptor, mask, cookie, length of the name, name.
    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let name = u32::from_ne_bytes(word(12)) as usize;
        *bytes = rest.get(name..).unwrap_or_default();
        let what = ReadFlags::from_bits_retain(u32::from_ne_bytes(word(4)));
        Some(Self { descriptor: i32::from_ne_bytes(word(0)), what })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let Some(followers) = state.followers.get_mut(&self.descriptor) else { return };
        followers.remove(&self.number);
        if followers.is_empty() {
            state.followers.remove(&self.descriptor);
            // It may have gone with its directory a moment ago.
            let _ = inotify::remove_watch(&self.shared.inotify, self.descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(30);

    async fn rings(bell: &Notify) -> bool {
        tokio::time::timeout(PATIENCE, bell.notified()).await.is_ok()
    }

    fn watched(watches: &Watches) -> usize {
        watches.0.state().followers.len()
    }

    #[tokio::test]
    async fn every_follower_of_a_directory_is_woken_by_writes_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let watches = Watches::start(CancellationToken::new()).unwrap();
        let (one, two) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let first = watches.watch(dir.path(), Arc::clone(&one)).unwrap();
        let second = watches.watch(dir.path(), Arc::clone(&two)).unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "a").unwrap();
        assert!(rings(&one).await && rings(&two).await);
        drop(first);
        assert_eq!(watched(&watches), 1, "the other still follows");
        std::fs::rename(&log, dir.path().join("log.1")).unwrap();
        assert!(rings(&two).await);
        drop(second);
        assert_eq!(watched(&watches), 0);
    }

    #[tokio::test]
    async fn a_directory_that_goes_wakes_its_followers_and_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("task");
        let watches = Watches::start(CancellationToken::new()).unwrap();
        let bell = Arc::new(Notify::new());
        let missing = watches.watch(&inner, Arc::clone(&bell)).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        std::fs::create_dir(&inner).unwrap();
        let watch = watches.watch(&inner, Arc::clone(&bell)).unwrap();
        std::fs::remove_dir(&inner).unwrap();
        assert!(rings(&bell).await);
        assert_eq!(watched(&watches), 0);
        drop(watch);
    }
}
