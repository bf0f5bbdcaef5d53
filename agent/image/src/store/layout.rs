//! The store's directory: its folders, its lock, its format number, and the sweeping out of what a
//! crash left behind.
//!
//! ```text
//! lock            held while the store is open
//! version         the format number
//! images.json     images and their names (state)
//! leases/OWNER    who uses which images
//! blobs/sha256/HEX   content
//! ingest/         HEX.part: downloads to be resumed; anything else is garbage of a crash
//! l/N             short links to layers of images with very many
//! layers/HEX/fs   unpacked layers; `tmp-*` and `trash-*` are garbage of a crash
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::digest::Digest;
use crate::error::{ImageError, IoContext};

/// The format this version writes.
const FORMAT: u32 = 1;

pub(crate) struct Layout {
    root: PathBuf,
    /// Held, not read: the lock ends with the descriptor.
    _lock: File,
}

impl Layout {
    /// Makes or opens the directory, takes the lock, removes leftovers.
    pub(crate) fn open(root: &Path) -> Result<Layout, ImageError> {
        let make = |path: &Path| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .doing(|| format!("make directory {}", path.display()))
        };
        make(root)?;
        let root = fs::canonicalize(root).doing(|| format!("resolve {}", root.display()))?;
        let lock = lock(&root)?;
        let layout = Layout { root, _lock: lock };
        layout.check_format()?;
        for dir in [layout.blobs(), layout.ingest(), layout.layers(), layout.leases()] {
            make(&dir)?;
        }
        layout.sweep()?;
        Ok(layout)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.ingest().join(format!("{}.part", digest.hex()))
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, key: &Digest) -> PathBuf {
        self.layers().join(key.hex())
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.root.join("images.json")
    }

    fn check_format(&self) -> Result<(), ImageError> {
        let path = self.root.join("version");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let found = text.trim().parse().map_err(|_| ImageError::Damaged {
                    path: path.clone(),
                    reason: "it is not a number".to_string(),
                })?;
                if found > FORMAT {
                    return Err(ImageError::NewerFormat { path: self.root.clone(), found, supported: FORMAT });
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace_file(&path, format!("{FORMAT}\n").as_bytes())
            }
            Err(error) => Err(ImageError::io(format!("read {}", path.display()), error)),
        }
    }

    /// Removes temporary files and directories. Partial downloads stay: they are resumed.
    fn sweep(&self) -> Result<(), ImageError> {
        for entry in list(&self.ingest())? {
            if entry.extension().is_none_or(|e| e != "part") {
                remove_any(&entry)?;
            }
        }
        for dir in [self.layers(), self.blobs(), self.root.clone(), self.leases()] {
            for entry in list(&dir)? {
                let name = entry.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with("tmp-") || name.starts_with("trash-") {
                    tracing::info!(path = %entry.display(), "removing a leftover");
                    remove_any(&entry)?;
                }
            }
        }
        Ok(())
    }
}

fn lock(root: &Path) -> Result<File, ImageError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .doing(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ImageError::Locked { path: root.to_path_buf() }),
        Err(errno) => Err(ImageError::io(format!("lock {}", path.display()), errno.into())),
    }
}

/// The entries of a directory, sorted.
pub(crate) fn list(dir: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let context = || format!("list {}", dir.display());
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).doing(context)? {
        out.push(entry.doing(context)?.path());
    }
    out.sort();
    Ok(out)
}

/// Removes a file or a whole directory; it being gone is fine. Links are not followed.
pub(crate) fn remove_any(path: &Path) -> Result<(), ImageError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io(format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Replaces a file so that a crash leaves the old or the new content: write beside, fsync, rename,
/// fsync the directory.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    let context = || format!("write {}", path.display());
    let dir = path.parent().expect("files of the store are in a directory");
    let mut file = tempfile::Builder::new().prefix("tmp-").tempfile_in(dir).doing(context)?;
    file.write_all(content).doing(context)?;
    file.as_file().sync_all().doing(context)?;
    file.persist(path).map_err(|e| e.error).doing(context)?;
    sync_dir(dir)
}

/// Makes renames in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), ImageError> {
    File::open(dir).and_then(|file| file.sync_all()).doing(|| format!("sync {}", dir.display()))
}
