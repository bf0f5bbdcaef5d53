//! Content that running work needs: the sweeper leaves it alone though no image names it yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::digest::Digest;

/// Counts of who needs what. Blobs and layers share it: their names never clash.
#[derive(Default)]
pub(crate) struct Pins {
    counts: Mutex<HashMap<Digest, usize>>,
}

impl Pins {
    /// Pins until the guard is dropped. Look whether content exists only *after* pinning it.
    pub(crate) fn pin(self: &Arc<Pins>, digests: impl IntoIterator<Item = Digest>) -> PinGuard {
        let digests: Vec<Digest> = digests.into_iter().collect();
        let mut counts = self.counts();
        for digest in &digests {
            *counts.entry(*digest).or_default() += 1;
        }
        PinGuard { pins: Arc::clone(self), digests }
    }

    /// Runs `take_away` while nothing can be pinned, unless somebody has pinned `digest` (`None` then).
    pub(crate) fn unless_pinned<T, E>(
        &self,
        digest: &Digest,
        take_away: impl FnOnce() -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let counts = self.counts();
        if counts.contains_key(digest) {
            return Ok(None);
        }
        take_away().map(Some)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps content from being swept.
pub(crate) struct PinGuard {
    pins: Arc<Pins>,
    digests: Vec<Digest>,
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        let mut counts = self.pins.counts();
        for digest in &self.digests {
            if let Some(count) = counts.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(digest);
                }
            }
        }
    }
}
