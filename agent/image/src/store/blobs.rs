//! Content-addressed blobs: reading them, and bringing new ones in. A file under `blobs/` always has
//! the content of its name: it is hashed on the way in and renamed when it is on disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

use super::layout::{Layout, sync_dir};
use crate::digest::{Digest, Hasher};
use crate::error::{ImageError, IoContext};

impl Layout {
    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).is_file()
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<Option<File>, ImageError> {
        match File::open(self.blob(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(format!("open blob {digest}"), error)),
        }
    }

    /// Reads a small blob. One longer than `limit` is an error.
    pub(crate) fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open_blob(digest)? else {
            return Ok(None);
        };
        let mut data = Vec::new();
        file.take(limit + 1).read_to_end(&mut data).doing(|| format!("read blob {digest}"))?;
        if data.len() as u64 > limit {
            return Err(ImageError::SizeMismatch {
                what: format!("blob {digest} is too long for a document"),
                expected: limit,
                actual: data.len() as u64,
            });
        }
        Ok(Some(data))
    }

    /// Stores bytes in memory as a blob.
    pub(crate) fn write_blob(&self, data: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(data);
        if self.has_blob(&digest) {
            return Ok(digest);
        }
        let mut ingest = Ingest::new(self)?;
        ingest.write(data)?;
        let (digest, _) = ingest.commit(self)?;
        Ok(digest)
    }

    /// Moves a finished file among the blobs. Its bytes must have been hashed by the caller.
    pub(crate) fn adopt_blob(&self, path: &Path, digest: &Digest) -> Result<(), ImageError> {
        let context = || format!("store blob {digest}");
        File::open(path).and_then(|file| file.sync_all()).doing(context)?;
        std::fs::rename(path, self.blob(digest)).doing(context)?;
        sync_dir(&self.blobs())
    }
}

/// A blob on its way in, of unknown digest. Dropping it removes it.
pub(crate) struct Ingest {
    file: NamedTempFile,
    hasher: Hasher,
    size: u64,
}

/// A blob that is written and hashed but not yet among the blobs.
pub(crate) struct Spooled {
    file: tempfile::TempPath,
    pub digest: Digest,
    pub size: u64,
}

impl Ingest {
    pub(crate) fn new(layout: &Layout) -> Result<Ingest, ImageError> {
        let file = tempfile::Builder::new()
            .prefix("tmp-")
            .tempfile_in(layout.ingest())
            .doing(|| format!("make a file in {}", layout.ingest().display()))?;
        Ok(Ingest { file, hasher: Hasher::default(), size: 0 })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), ImageError> {
        self.hasher.update(data);
        self.size += data.len() as u64;
        self.file.write_all(data).doing(|| "write a blob to the image store".to_string())
    }

    /// Ends the writing without storing it yet.
    pub(crate) fn spool(self) -> Spooled {
        Spooled { file: self.file.into_temp_path(), digest: self.hasher.finish(), size: self.size }
    }

    pub(crate) fn commit(self, layout: &Layout) -> Result<(Digest, u64), ImageError> {
        let spooled = self.spool();
        let out = (spooled.digest, spooled.size);
        spooled.commit(layout)?;
        Ok(out)
    }
}

impl Spooled {
    /// Where the bytes are.
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// Puts it among the blobs; one that is there already stays.
    pub(crate) fn commit(self, layout: &Layout) -> Result<(), ImageError> {
        if layout.has_blob(&self.digest) {
            return Ok(());
        }
        layout.adopt_blob(&self.file, &self.digest)?;
        // The path is gone by rename; nothing must remove what may stand there later.
        let _ = self.file.keep();
        Ok(())
    }
}
