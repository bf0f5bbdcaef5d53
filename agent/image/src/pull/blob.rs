//! Fetches one blob: once for all who want it, resuming what is there, trying again what breaks.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::mpsc;

use super::part::{Part, Verdict};
use crate::error::ImageError;
use crate::progress::{LayerState, Progress, ProgressEvent};
use crate::registry::error::RegistryError;
use crate::registry::retry::Backoff;
use crate::registry::session::Session;
use crate::spec::manifest::Descriptor;
use crate::store::{Inner, blocking};

/// Chunks between network and disk; a full queue holds the network back.
const QUEUE: usize = 16;
/// Progress of downloading is told each time this many bytes came.
const PROGRESS_STEP: u64 = 256 * 1024;

/// Brings a blob into the store, if it is not there. Pin it first.
pub(super) async fn fetch(
    inner: &Arc<Inner>,
    session: &Arc<Session>,
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
                    Download { inner: Arc::clone(inner), session: Arc::clone(session), blob: blob.clone(), progress };
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
    session: Arc<Session>,
    blob: Descriptor,
    progress: Progress,
}

impl Download {
    async fn run(self) -> Result<(), ImageError> {
        let _permit = self.inner.download_permits.acquire().await.expect("the semaphore is never closed");
        let lock = self.inner.part_locks.lock(&self.blob.digest).await;
        if self.inner.layout.has_blob(&self.blob.digest) {
            return Ok(());
        }
        let (inner, digest, size) = (Arc::clone(&self.inner), self.blob.digest, self.blob.size);
        let mut part = blocking(move || Part::open(&inner.layout, digest, size, lock)).await?;
        loop {
            part = self.complete(part).await?;
            self.progress.layer(digest, LayerState::Verifying);
            let inner = Arc::clone(&self.inner);
            match blocking(move || part.finish(&inner.layout)).await? {
                Verdict::Stored => return Ok(()),
                Verdict::BeginAgain(fresh) => part = *fresh,
            }
        }
    }

    /// Downloads until nothing is missing.
    async fn complete(&self, mut part: Part) -> Result<Part, ImageError> {
        let mut backoff = Backoff::new(self.inner.options.retry);
        while !part.is_complete() {
            let before = part.length();
            let result;
            (part, result) = self.attempt(part).await?;
            let Err(error) = result else {
                continue;
            };
            if part.length() > before {
                backoff.progressed();
            }
            let Some(delay) = backoff.next(&error, rand::random()) else {
                return Err(error.into());
            };
            self.progress.send(ProgressEvent::Retrying {
                layer: Some(self.blob.digest),
                attempt: backoff.attempts(),
                reason: error.to_string(),
            });
            tokio::time::sleep(delay).await;
        }
        Ok(part)
    }

    /// One request. The outer error is of the disk, the inner of the network; the part comes back with
    /// what was won.
    async fn attempt(&self, part: Part) -> Result<(Part, Result<(), RegistryError>), ImageError> {
        let offset = part.length();
        let (start, stream) = match self.session.blob(&self.blob.digest, offset).await {
            Ok(answer) => answer,
            Err(error) => return Ok((part, Err(error))),
        };
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let writing = blocking(move || write_all(part, start, receiver));
        let reading = self.pass_on(start, stream, sender);
        // Both end: the reader drops the sender, a failing writer drops the receiver.
        let (written, read) = futures::join!(writing, reading);
        let part = written?;
        let read = read.and_then(|()| {
            if part.is_complete() {
                return Ok(());
            }
            Err(RegistryError::Broken {
                what: self.blob.digest.to_string(),
                registry: self.session.host().to_string(),
                reason: format!("it ended after {} of {} bytes", part.length(), self.blob.size),
            })
        });
        Ok((part, read))
    }

    async fn pass_on(
        &self,
        start: u64,
        mut stream: impl Stream<Item = Result<Bytes, RegistryError>> + Unpin,
        sender: mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let total = self.blob.size;
        let mut done = start;
        self.progress.layer(self.blob.digest, LayerState::Downloading { done, total });
        while let Some(chunk) = stream.next().await {
            let chunk = chunk?;
            let before = done;
            done += chunk.len() as u64;
            if sender.send(chunk).await.is_err() {
                // The writer failed and says why.
                return Ok(());
            }
            if before / PROGRESS_STEP != done / PROGRESS_STEP || done == total {
                self.progress.layer(self.blob.digest, LayerState::Downloading { done, total });
            }
        }
        Ok(())
    }
}

/// Writes what comes. An answer that does not begin where the file ends begins at nothing.
fn write_all(mut part: Part, start: u64, mut chunks: mpsc::Receiver<Bytes>) -> Result<Part, ImageError> {
    if start != part.length() {
        part.restart()?;
    }
    while let Some(chunk) = chunks.blocking_recv() {
        part.write(&chunk)?;
    }
    Ok(part)
}
