//! A partial download on disk: opened, continued, verified, and moved among the blobs. Blocks.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::digest::{Digest, Hasher};
use crate::error::{ImageError, IoContext};
use crate::store::layout::{Layout, remove_any};

/// One lock per partial file: the thread that writes it may outlive whoever waited for it.
#[derive(Default)]
pub(crate) struct PartLocks {
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl PartLocks {
    pub(crate) async fn lock(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            let known = locks.get(digest).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::default();
                locks.insert(*digest, Arc::downgrade(&fresh));
                fresh
            })
        };
        lock.lock_owned().await
    }
}

/// The file, with the digest of what is in it so far.
pub(super) struct Part {
    digest: Digest,
    size: u64,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
    _lock: OwnedMutexGuard<()>,
}

/// What verification said.
pub(super) enum Verdict {
    /// The blob is in its place.
    Stored,
    /// It was not the blob but something else. The file is empty now.
    Wrong(Box<Part>, Digest),
}

impl Part {
    /// Opens or makes the file and reads what it has.
    pub(super) fn open(
        layout: &Layout,
        digest: Digest,
        size: u64,
        lock: OwnedMutexGuard<()>,
    ) -> Result<Part, ImageError> {
        let path = layout.partial(&digest);
        let doing = || format!("open partial download {}", path.display());
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .doing(doing)?;
        let mut hasher = Hasher::default();
        let mut length = hasher.update_from(&mut file).doing(doing)?;
        if length > size {
            file.set_len(0).doing(doing)?;
            file.rewind().doing(doing)?;
            (hasher, length) = (Hasher::default(), 0);
        }
        Ok(Part { digest, size, path, file, hasher, length, _lock: lock })
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == self.size
    }

    /// Throws everything away.
    pub(super) fn restart(&mut self) -> Result<(), ImageError> {
        let doing = || format!("write partial download {}", self.path.display());
        self.file.set_len(0).doing(doing)?;
        self.file.seek(SeekFrom::Start(0)).doing(doing)?;
        (self.hasher, self.length) = (Hasher::default(), 0);
        Ok(())
    }

    /// Bytes that are missing.
    pub(super) fn room(&self) -> u64 {
        self.size - self.length
    }

    /// Adds bytes, for which there is room. A file that finds the disk full is removed: its space is needed.
    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), ImageError> {
        assert!(data.len() as u64 <= self.room(), "a blob does not grow beyond its promised size");
        if let Err(error) = self.file.write_all(data) {
            remove_any(&self.path)?;
            return Err(ImageError::io(format!("write blob {}", self.digest), error));
        }
        self.hasher.update(data);
        self.length += data.len() as u64;
        Ok(())
    }

    /// Checks a complete file and puts it among the blobs.
    pub(super) fn finish(mut self, layout: &Layout) -> Result<Verdict, ImageError> {
        let actual = self.hasher.clone().finish();
        if actual == self.digest {
            layout.adopt_blob(&self.path, &self.digest)?;
            return Ok(Verdict::Stored);
        }
        self.restart()?;
        Ok(Verdict::Wrong(Box::new(self), actual))
    }

    /// Removes a file without content; what has some is resumed another time.
    pub(super) fn discard_empty(self) -> Result<(), ImageError> {
        if self.length == 0 { remove_any(&self.path) } else { Ok(()) }
    }
}
