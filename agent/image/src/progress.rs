//! Typed progress events, and where they go. Progress is a courtesy: a slow listener loses events and
//! never holds up the work.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::digest::Digest;

/// What happens to one image or one of its layers. Byte counts are of the compressed blob while it is
/// downloaded, and of the blob read so far while it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgressEvent {
    /// The manifest was read: this is what will be fetched.
    Resolved {
        /// Digest of the image's manifest.
        manifest: Digest,
        /// The layers, lowest first, with their compressed sizes.
        layers: Vec<(Digest, u64)>,
    },
    /// Something happened to a layer.
    Layer {
        /// The layer's blob.
        layer: Digest,
        /// What.
        state: LayerState,
    },
    /// A transient error; it will be tried again.
    Retrying {
        /// The blob, or none for the manifest.
        layer: Option<Digest>,
        /// How often it was tried.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// The image is complete and has its name.
    Done {
        /// The name, if it has one.
        name: Option<String>,
        /// The image's id.
        id: Digest,
    },
}

/// The ordered states of a layer on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// Waiting for its turn.
    Waiting,
    /// Bytes come in.
    Downloading {
        /// Bytes so far, those of an earlier attempt included.
        done: u64,
        /// The blob's size.
        total: u64,
    },
    /// All bytes are here and their digest is checked.
    Verifying,
    /// Being unpacked.
    Unpacking {
        /// Bytes of the blob consumed so far.
        done: u64,
        /// The blob's size.
        total: u64,
    },
    /// Unpacked now.
    Done,
    /// It was here already.
    Exists,
}

type Sink = Arc<dyn Fn(&ProgressEvent) + Send + Sync>;

/// A listener for progress events. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress {
    sink: Option<Sink>,
}

impl Progress {
    /// Nobody listens.
    pub fn none() -> Progress {
        Progress::default()
    }

    /// Calls `f` with each event, from any thread; it must not block.
    pub fn callback(f: impl Fn(&ProgressEvent) + Send + Sync + 'static) -> Progress {
        Progress { sink: Some(Arc::new(f)) }
    }

    /// A bounded channel; events that find it full are dropped.
    pub fn channel(capacity: usize) -> (Progress, mpsc::Receiver<ProgressEvent>) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let progress = Progress::callback(move |event| {
            // A full channel loses the event: counts are absolute, so the next one makes up for it.
            let _ = sender.try_send(event.clone());
        });
        (progress, receiver)
    }

    pub(crate) fn send(&self, event: ProgressEvent) {
        if let Some(sink) = &self.sink {
            sink(&event);
        }
    }

    pub(crate) fn layer(&self, layer: Digest, state: LayerState) {
        if self.sink.is_some() {
            self.send(ProgressEvent::Layer { layer, state });
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.sink.is_some() { "Progress(listening)" } else { "Progress(none)" })
    }
}

/// One piece of work, many listeners: those who join late hear what follows.
#[derive(Clone, Default)]
pub(crate) struct Fanout {
    listeners: Arc<Mutex<Listeners>>,
}

#[derive(Default)]
struct Listeners {
    next: u64,
    sinks: Vec<(u64, Progress)>,
}

impl Fanout {
    /// Adds a listener until the guard is dropped.
    pub(crate) fn join(&self, progress: Progress) -> ListenerGuard {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        let id = listeners.next;
        listeners.next += 1;
        listeners.sinks.push((id, progress));
        ListenerGuard { fanout: self.clone(), id }
    }

    /// A progress handle that speaks to all listeners.
    pub(crate) fn progress(&self) -> Progress {
        let fanout = self.clone();
        Progress::callback(move |event| {
            let listeners = fanout.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            for (_, sink) in &listeners.sinks {
                sink.send(event.clone());
            }
        })
    }
}

/// Ends a listener's membership when dropped.
pub(crate) struct ListenerGuard {
    fanout: Fanout,
    id: u64,
}

impl Drop for ListenerGuard {
    fn drop(&mut self) {
        let mut listeners = self.fanout.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.sinks.retain(|(id, _)| *id != self.id);
    }
}
