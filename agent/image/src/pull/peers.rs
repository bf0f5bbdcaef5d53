//! Other stores that have what this one lacks: how they are found and asked, and which of them is asked next.
//!
//! Nothing that a peer says is believed but what a name without a digest means; everything else is checked by digest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use rand::seq::SliceRandom;

use super::source::{Bytestream, Source, SourceError};
use crate::digest::Digest;
use crate::reference::Reference;
use crate::registry::retry::Retry;
use crate::spec::platform::Platform;

/// Holders that one pull turns to at most; they are chosen at random, so that many pulls spread.
const HOLDERS: usize = 16;
/// A holder that failed so often without giving anything is not asked again by this pull.
const FAILURES: u32 = 3;
/// Failures of a holder that gave something wrong.
const DISTRUSTED: u32 = u32::MAX;

/// Finds the stores that have an image.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Those that have it whole, in no order; none is fine.
    ///
    /// # Errors
    /// `Unasked` when nobody could be asked.
    async fn holders(&self, reference: &Reference) -> Result<Vec<Arc<dyn Peer>>, PeerError>;
}

/// Another store.
#[async_trait]
pub trait Peer: Send + Sync + 'static {
    /// For people and logs: the node.
    fn name(&self) -> String;

    /// What a reference means there, for this platform. Up to 8 MiB.
    ///
    /// # Errors
    /// `NotFound`, `Broken`.
    async fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<SharedManifest, PeerError>;

    /// A blob from an offset to its end.
    ///
    /// # Errors
    /// `NotFound`, `Broken`.
    async fn blob(
        &self,
        digest: &Digest,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, PeerError>>, PeerError>;
}

/// What a reference means in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedManifest {
    /// Of what the document is.
    pub media_type: String,
    /// The image's manifest, or the index that leads to it.
    pub document: Vec<u8>,
}

/// Why a peer did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// None has it.
    #[error("no other node has {what}")]
    Nobody {
        /// Reference or digest.
        what: String,
    },
    /// It is not known who has it.
    #[error("cannot find out which nodes have {what}: {reason}")]
    Unasked {
        /// The reference.
        what: String,
        /// Why.
        reason: String,
    },
    /// This one does not have it.
    #[error("node {peer} does not have {what}")]
    NotFound {
        /// The node.
        peer: String,
        /// Reference or digest.
        what: String,
    },
    /// It could not be reached, was too busy, or broke in the middle.
    #[error("cannot get {what} from node {peer}: {reason}")]
    Broken {
        /// The node.
        peer: String,
        /// Reference or digest.
        what: String,
        /// Why.
        reason: String,
    },
    /// What it gave is not what was asked for.
    #[error("node {peer} gives something else for {what}: {reason}")]
    Wrong {
        /// The node.
        peer: String,
        /// Reference or digest.
        what: String,
        /// In what.
        reason: String,
    },
}

impl Retry for PeerError {
    fn is_transient(&self) -> bool {
        matches!(self, PeerError::Broken { .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// The peers that one pull turns to.
pub(super) struct Holders(Vec<Holder>);

pub(super) struct Holder {
    peer: Arc<dyn Peer>,
    /// A peer that says nothing for so long is left.
    stall: Duration,
    /// Blobs that it is giving now.
    active: AtomicUsize,
    /// In a row.
    failures: AtomicU32,
}

impl Holders {
    pub(super) fn new(mut peers: Vec<Arc<dyn Peer>>, stall: Duration) -> Holders {
        peers.shuffle(&mut rand::rng());
        peers.truncate(HOLDERS);
        let holder = |peer| Holder { peer, stall, active: AtomicUsize::new(0), failures: AtomicU32::new(0) };
        Holders(peers.into_iter().map(holder).collect())
    }

    /// All, by number.
    pub(super) fn all(&self) -> impl Iterator<Item = (usize, &Holder)> {
        self.0.iter().enumerate()
    }

    /// The least busy one that is not among `passed` and may still be asked.
    pub(super) fn choose(&self, passed: &BTreeSet<usize>) -> Option<Turn<'_>> {
        let usable = self.all().filter(|(number, holder)| !passed.contains(number) && holder.is_usable());
        let (number, holder) = usable.min_by_key(|(_, holder)| holder.active.load(Ordering::Relaxed))?;
        holder.active.fetch_add(1, Ordering::Relaxed);
        Some(Turn { number, holder })
    }

    /// What this one gave is something else: it is not asked again.
    pub(super) fn wrong(&self, number: usize, what: String, reason: String) -> PeerError {
        let error = PeerError::Wrong { peer: self.0[number].peer.name(), what, reason };
        self.distrust(number, &error);
        error
    }

    /// Never asks this one again.
    pub(super) fn distrust(&self, number: usize, why: &PeerError) {
        tracing::warn!(peer = self.0[number].peer.name(), %why, "a node's share of an image is wrong: it is not asked again");
        self.0[number].failures.store(DISTRUSTED, Ordering::Relaxed);
    }
}

impl Holder {
    fn is_usable(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < FAILURES
    }

    /// What a reference means there.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<SharedManifest, PeerError> {
        let answer = tokio::time::timeout(self.stall, self.peer.resolve(reference, platform)).await;
        let answer = answer.unwrap_or_else(|_| {
            Err(PeerError::Broken { peer: self.peer.name(), what: reference.familiar(), reason: stalled() })
        });
        if answer.is_err() {
            self.failed();
        }
        answer
    }

    /// It gave nothing.
    pub(super) fn failed(&self) {
        let more = |failures: u32| Some(failures.saturating_add(1));
        let _ = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// It gave something.
    pub(super) fn progressed(&self) {
        let fresh = |failures: u32| (failures != DISTRUSTED).then_some(0);
        let _ = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fresh);
    }
}

/// A holder at work; the end of it makes it less busy.
pub(super) struct Turn<'a> {
    pub number: usize,
    pub holder: &'a Holder,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.holder.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Source for Holder {
    fn blob<'a>(&'a self, digest: &'a Digest, offset: u64) -> BoxFuture<'a, Result<(u64, Bytestream), SourceError>> {
        async move {
            let stream = tokio::time::timeout(self.stall, self.peer.blob(digest, offset)).await;
            let stream = stream.map_err(|_| self.broken(digest, stalled()))??;
            let (peer, what, stall) = (self.peer.name(), digest.to_string(), self.stall);
            let chunks = futures::stream::unfold(Some(stream), move |stream| {
                let (peer, what) = (peer.clone(), what.clone());
                async move {
                    let mut stream = stream?;
                    match tokio::time::timeout(stall, stream.next()).await {
                        Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(stream))),
                        Ok(Some(Err(error))) => Some((Err(error.into()), None)),
                        Ok(None) => None,
                        Err(_) => Some((Err(PeerError::Broken { peer, what, reason: stalled() }.into()), None)),
                    }
                }
            });
            Ok((offset, chunks.boxed()))
        }
        .boxed()
    }

    fn broken(&self, digest: &Digest, reason: String) -> SourceError {
        PeerError::Broken { peer: self.peer.name(), what: digest.to_string(), reason }.into()
    }

    fn wrong(&self, digest: &Digest, reason: String) -> SourceError {
        PeerError::Wrong { peer: self.peer.name(), what: digest.to_string(), reason }.into()
    }
}

fn stalled() -> String {
    "nothing came for too long".to_string()
}
