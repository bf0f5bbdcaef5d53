//! How much came from where, since the store was opened. Counts only; nothing is decided by it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Who gave a blob, or bytes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A registry.
    Registry,
    /// Other stores.
    Peers,
    /// Some of it one, some the other, or more than one of them.
    Several,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Registry, Self::Peers, Self::Several];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Peers => "peers",
            Self::Several => "several",
        }
    }
}

/// What came.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes: [AtomicU64; 3],
    blobs: [AtomicU64; 3],
}

impl Traffic {
    /// Bytes of blobs that came from there, those of attempts that broke off among them.
    pub fn bytes(&self, from: Source) -> u64 {
        self.bytes[from as usize].load(Ordering::Relaxed)
    }

    /// Blobs (layers and configurations) that came whole from there.
    pub fn blobs(&self, from: Source) -> u64 {
        self.blobs[from as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn came(&self, from: Source, bytes: usize) {
        self.bytes[from as usize].fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn stored(&self, from: Source) {
        self.blobs[from as usize].fetch_add(1, Ordering::Relaxed);
    }
}
