//! Fetches one blob: once for all who want it, from several sources one after the other, resuming what is there, trying again
//! what breaks.
//!
//! Other stores come before the registry. Bytes of several sources may make one blob; when its digest is wrong then, nobody
//! knows whose were bad, and it is fetched anew from one source at a time, each of which answers for itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::origins::Origins;
use super::part::{Part, Verdict};
use super::peers::{Holders, PeerError, Turn};
use super::source::{Bytestream, Source, SourceError};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::{LayerState, Progress, ProgressEvent};
use crate::registry::retry::Backoff;
use crate::registry::session::Session;
use crate::spec::manifest::Descriptor;
use crate::store::{Inner, blocking};
use crate::traffic::Source as Counted;

/// Chunks between network and disk; a full queue holds the network back.
const QUEUE: usize = 16;
/// Progress of downloading is told each time this many bytes came. A peer that gave less has not helped.
const PROGRESS_STEP: u64 = 256 * 1024;

/// Brings a blob into the store, if it is not there. Pin it first.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    origins: &Arc<Origins>,
    blob: Descriptor,
    progress: &Progress,
) -> Result<(), ImageError> {
    loop {
        if inner.layout.has_blob(&blob.digest) {
            return Ok(());
        }
        let landed = inner
            .downloads
            .run(&blob.digest, progress, |progress| {
                let download =
                    Download { inner: Arc::clone(inner), origins: Arc::clone(origins), blob: blob.clone(), progress };
                download.run().boxed()
            })
            .await;
        // Another's failure may be due to its credentials or its registry: fail by our own.
        if landed.led || landed.value.is_ok() {
            return landed.value;
        }
    }
}

struct Download {
    inner: Arc<Inner>,
    origins: Arc<Origins>,
    blob: Descriptor,
    progress: Progress,
}

/// Who gave the bytes of a partial file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Giver {
    Nobody,
    Registry,
    /// By number.
    Peer(usize),
    /// More than one, or nobody knows.
    Several,
}

impl Giver {
    /// The same in the words of who counts.
    fn counted(self) -> Option<Counted> {
        match self {
            Self::Nobody => None,
            Self::Registry => Some(Counted::Registry),
            Self::Peer(_) => Some(Counted::Peers),
            Self::Several => Some(Counted::Several),
        }
    }
}

/// What is here of the blob.
struct Fetched {
    part: Part,
    giver: Giver,
    /// Bytes of different givers are not mixed any more.
    alone: bool,
}

/// What became of a part that had all its bytes.
enum Checked {
    Stored,
    /// It is something else, and emptied. Blamed is whoever gave all of it.
    Wrong {
        rest: Box<Fetched>,
        blamed: Giver,
        actual: Digest,
    },
}

/// What the peers left to the registry.
enum Left {
    Nothing,
    Rest(Box<Fetched>, PeerError),
}

impl Download {
    async fn run(self) -> Result<(), ImageError> {
        let _permit = self.inner.download_permits.acquire().await.expect("the semaphore is never closed");
        let lock = self.inner.part_locks.lock(&self.blob.digest).await;
        if self.inner.layout.has_blob(&self.blob.digest) {
            return Ok(());
        }
        let (inner, digest, size) = (Arc::clone(&self.inner), self.blob.digest, self.blob.size);
        let part = blocking(move || Part::open(&inner.layout, digest, size, lock)).await?;
        // What an earlier time left may have been lost or torn by a crash.
        let giver = if part.length() > 0 { Giver::Several } else { Giver::Nobody };
        let fetched = Fetched { part, giver, alone: false };
        let (fetched, refusal) = match self.origins.holders().await {
            Ok(Some(holders)) => match self.by_peers(fetched, holders).await? {
                Left::Nothing => return Ok(()),
                Left::Rest(fetched, refusal) => (*fetched, Some(refusal)),
            },
            Ok(None) => (fetched, None),
            Err(refusal) => (fetched, Some(refusal)),
        };
        match (self.origins.registry(), refusal) {
            (Some(session), None) => self.by_registry(fetched, session).await,
            (Some(session), Some(refusal)) => {
                let done = self.by_registry(fetched, session).await;
                done.map_err(|error| error.nor_from_peers(refusal.into()))
            }
            (None, refusal) => {
                blocking(move || fetched.part.discard_empty()).await?;
                let nobody = || PeerError::Nobody { what: self.blob.digest.to_string() };
                Err(refusal.unwrap_or_else(nobody).into())
            }
        }
    }

    /// Goes from peer to peer, the least busy first, in rounds with growing pauses, until it has all or nobody helps any more.
    async fn by_peers(&self, mut fetched: Fetched, holders: &Holders) -> Result<Left, ImageError> {
        let mut backoff = Backoff::new(self.inner.options.retry);
        let mut refusal = PeerError::Nobody { what: self.blob.digest.to_string() };
        let (mut lacking, mut passed) = (BTreeSet::new(), BTreeSet::new());
        loop {
            if fetched.part.is_complete() {
                let Checked::Wrong { rest, blamed, actual } = self.check(fetched).await? else {
                    return Ok(Left::Nothing);
                };
                fetched = *rest;
                match blamed {
                    Giver::Peer(number) => {
                        refusal = holders.wrong(number, self.blob.digest.to_string(), format!("it is {actual}"));
                    }
                    // Everybody has a turn again.
                    _ => passed = lacking.clone(),
                }
            }
            let Some(turn) = holders.choose(&passed) else {
                let delay = backoff.next(&refusal, rand::random()).filter(|_| holders.choose(&lacking).is_some());
                let Some(delay) = delay else { return Ok(Left::Rest(Box::new(fetched), refusal)) };
                tokio::time::sleep(delay).await;
                passed = lacking.clone();
                continue;
            };
            passed.insert(turn.number);
            let before = if fetched.alone { u64::MAX } else { fetched.part.length() };
            let result;
            (fetched, result) = self.attempt(fetched, Giver::Peer(turn.number), turn.holder).await?;
            let helped = fetched.part.length().saturating_sub(before) >= PROGRESS_STEP;
            if helped {
                turn.holder.progressed();
                backoff.progressed();
            }
            let Err(SourceError::Peer(error)) = result else { continue };
            self.refused(holders, &turn, &error, helped, &mut lacking);
            refusal = error;
        }
    }

    /// Draws the consequences for a peer that did not give what it should.
    fn refused(
        &self,
        holders: &Holders,
        turn: &Turn<'_>,
        error: &PeerError,
        helped: bool,
        lacking: &mut BTreeSet<usize>,
    ) {
        match error {
            PeerError::NotFound { .. } => drop(lacking.insert(turn.number)),
            PeerError::Wrong { .. } => holders.distrust(turn.number, error),
            _ if helped => {}
            _ => turn.holder.failed(),
        }
        self.retrying(1, error);
    }

    async fn by_registry(&self, mut fetched: Fetched, session: &Session) -> Result<(), ImageError> {
        let mut backoff = Backoff::new(self.inner.options.retry);
        loop {
            if fetched.part.is_complete() {
                let Checked::Wrong { rest, blamed, actual } = self.check(fetched).await? else {
                    return Ok(());
                };
                if blamed == Giver::Registry {
                    blocking(move || rest.part.discard_empty()).await?;
                    return Err(self.mismatch(actual));
                }
                // Old bytes, or those of others, were bad: begin again from nothing.
                fetched = *rest;
            }
            let before = fetched.part.length();
            let result;
            (fetched, result) = self.attempt(fetched, Giver::Registry, session).await?;
            let Err(error) = result else { continue };
            if fetched.part.length() > before {
                backoff.progressed();
            }
            let Some(delay) = backoff.next(&error, rand::random()) else {
                blocking(move || fetched.part.discard_empty()).await?;
                return Err(error.into());
            };
            self.retrying(backoff.attempts(), &error);
            tokio::time::sleep(delay).await;
        }
    }

    /// One request. The outer error is of the disk, the inner of the source; the part comes back with what was won.
    async fn attempt(
        &self,
        mut fetched: Fetched,
        giver: Giver,
        source: &dyn Source,
    ) -> Result<(Fetched, Result<(), SourceError>), ImageError> {
        if fetched.alone && fetched.giver != giver {
            fetched = blocking(move || fetched.emptied()).await?;
        }
        let offset = fetched.part.length();
        let (start, stream) = match source.blob(&self.blob.digest, offset).await {
            Ok(answer) => answer,
            Err(error) => return Ok((fetched, Err(error))),
        };
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let writing = blocking(move || write_all(fetched, start, giver, receiver));
        let reading = self.pass_on(start, giver, stream, sender);
        // Both end: the reader drops the sender, a failing writer drops the receiver.
        let (written, read) = futures::join!(writing, reading);
        let (fetched, written) = written?;
        let (size, length) = (self.blob.size, fetched.part.length());
        let result = match (written, read) {
            (Written::TooMuch, _) => Err(source.wrong(&self.blob.digest, format!("it is longer than {size} bytes"))),
            (_, Err(error)) if length < size => Err(error),
            (_, _) if length < size => {
                Err(source.broken(&self.blob.digest, format!("it ended after {length} of {size} bytes")))
            }
            _ => Ok(()),
        };
        Ok((fetched, result))
    }

    async fn pass_on(
        &self,
        start: u64,
        giver: Giver,
        mut stream: Bytestream,
        sender: mpsc::Sender<Bytes>,
    ) -> Result<(), SourceError> {
        let total = self.blob.size;
        let mut done = start;
        self.progress.layer(self.blob.digest, LayerState::Downloading { done, total });
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let before = done;
            done += chunk.len() as u64;
            giver.counted().into_iter().for_each(|from| self.inner.traffic.came(from, chunk.len()));
            if sender.send(chunk).await.is_err() {
                // The writer takes no more and says why.
                return Ok(());
            }
            if before / PROGRESS_STEP != done / PROGRESS_STEP || done == total {
                self.progress.layer(self.blob.digest, LayerState::Downloading { done: done.min(total), total });
            }
        }
        Ok(())
    }

    /// Checks the digest, and puts what has it among the blobs.
    async fn check(&self, fetched: Fetched) -> Result<Checked, ImageError> {
        self.progress.layer(self.blob.digest, LayerState::Verifying);
        let (inner, blamed) = (Arc::clone(&self.inner), fetched.giver);
        let (part, actual) = match blocking(move || fetched.part.finish(&inner.layout)).await? {
            Verdict::Stored => {
                blamed.counted().into_iter().for_each(|from| self.inner.traffic.stored(from));
                return Ok(Checked::Stored);
            }
            Verdict::Wrong(part, actual) => (*part, actual),
        };
        if blamed == Giver::Nobody {
            // It is said to have no bytes, and a digest that nothing does not have.
            blocking(move || part.discard_empty()).await?;
            return Err(self.mismatch(actual));
        }
        let rest = Box::new(Fetched { part, giver: Giver::Nobody, alone: true });
        Ok(Checked::Wrong { rest, blamed, actual })
    }

    fn mismatch(&self, actual: Digest) -> ImageError {
        let expected = self.blob.digest;
        ImageError::DigestMismatch { what: format!("blob {expected}"), expected, actual }
    }

    fn retrying(&self, attempt: u32, error: &dyn std::error::Error) {
        let (layer, reason) = (Some(self.blob.digest), error.to_string());
        self.progress.send(ProgressEvent::Retrying { layer, attempt, reason });
    }
}

impl Fetched {
    fn emptied(mut self) -> Result<Fetched, ImageError> {
        self.part.restart()?;
        Ok(Fetched { giver: Giver::Nobody, ..self })
    }
}

/// How the writing of an answer ended.
enum Written {
    All,
    /// More came than the blob is long; the rest was not taken.
    TooMuch,
}

/// Writes what comes. An answer that does not begin where the file ends begins at nothing. One that is too long leaves nothing.
fn write_all(
    mut fetched: Fetched,
    start: u64,
    giver: Giver,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<(Fetched, Written), ImageError> {
    if start != fetched.part.length() {
        fetched = fetched.emptied()?;
    }
    while let Some(chunk) = chunks.blocking_recv() {
        if chunk.is_empty() {
            continue;
        }
        if chunk.len() as u64 > fetched.part.room() {
            return Ok((fetched.emptied()?, Written::TooMuch));
        }
        fetched.part.write(&chunk)?;
        fetched.giver = match fetched.giver {
            Giver::Nobody => giver,
            same if same == giver => giver,
            _ => Giver::Several,
        };
    }
    Ok((fetched, Written::All))
}
