//! Unpacks a layer blob into a directory that overlayfs can use as a lower layer.
//!
//! Invariants: nothing outside the given directory is ever written or followed into, whatever the
//! archive says; a refused layer is reported with its digest and the entry's name; the digest of the
//! uncompressed bytes is checked. Making the result durable and visible is the caller's task.

mod attrs;
mod entry;
pub mod error;
mod lower;
mod name;
pub(crate) mod source;
mod tree;
mod whiteout;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::FileType;

use self::error::{EntryProblem, UnpackError};
use self::lower::LowerView;
use self::source::{ChunkReader, SourceEnd, SourceLimits};
use self::tree::Tree;
use crate::digest::Digest;
use crate::tarstream::{TarError, TarReader};

/// overlayfs's mark on a directory that hides the ones below it.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// How much a layer may become. The defaults let every image pass that has been seen in the wild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Uncompressed bytes per layer. Default 64 GiB.
    pub max_bytes: u64,
    /// Entries per layer. Default 4,000,000.
    pub max_entries: u64,
    /// Uncompressed bytes per compressed one. Default 400; deflate ends at 1,032.
    pub max_ratio: u64,
    /// Up to this many uncompressed bytes the ratio does not matter. Default 1 GiB.
    pub ratio_floor: u64,
}

impl Default for UnpackLimits {
    fn default() -> UnpackLimits {
        UnpackLimits { max_bytes: 64 << 30, max_entries: 4_000_000, max_ratio: 400, ratio_floor: 1 << 30 }
    }
}

/// Which device nodes a layer may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DevicePolicy {
    /// The nodes that base images carry: null, zero, full, random, urandom, tty, console, ptmx and the
    /// virtual terminals. Everything else is refused.
    #[default]
    Standard,
    /// Any.
    All,
}

impl DevicePolicy {
    fn allows(self, kind: FileType, major: u32, minor: u32) -> bool {
        match self {
            DevicePolicy::All => true,
            DevicePolicy::Standard => {
                kind == FileType::CharacterDevice
                    && match major {
                        1 => matches!(minor, 3 | 5 | 7 | 8 | 9),
                        4 => minor < 64,
                        5 => minor < 3,
                        _ => false,
                    }
            }
        }
    }
}

/// Where the layers below come from: called at most once, from the unpacking thread, and may wait.
/// Gives their directories lowest first, or `None` when they failed.
pub(crate) type LowerLayers<'a> = Box<dyn FnOnce() -> Option<Vec<PathBuf>> + 'a>;

/// One unpacking.
pub(crate) struct Job<'a> {
    /// The blob's digest, for messages.
    pub layer: Digest,
    pub blob: File,
    pub size: u64,
    pub diff_id: Digest,
    /// An empty directory.
    pub target: OwnedFd,
    /// None for the lowest layer.
    pub lower: Option<LowerLayers<'a>>,
    pub limits: UnpackLimits,
    pub devices: DevicePolicy,
    /// Told how many more bytes of the blob were read, from another thread.
    pub on_read: &'a (dyn Fn(u64) + Sync),
    pub cancelled: &'a AtomicBool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked {
    /// True when the result holds only over these very lower layers.
    pub depends_on_lower: bool,
    /// Bytes in regular files.
    pub bytes: u64,
    pub entries: u64,
}

/// Unpacks a layer; blocks.
pub(crate) fn unpack(job: Job<'_>) -> Result<Unpacked, UnpackError> {
    let layer = job.layer;
    let limits = SourceLimits {
        max_bytes: job.limits.max_bytes,
        max_ratio: job.limits.max_ratio,
        ratio_floor: job.limits.ratio_floor,
    };
    let (expected, size, on_read) = (job.diff_id, job.size, job.on_read);
    let Job { blob, target, lower, limits: unpack_limits, devices, cancelled, .. } = job;
    let lower = lower.map(|get| -> tree::LowerSource<'_> {
        Box::new(move || {
            let paths = get().ok_or(EntryProblem::Below)?;
            LowerView::open(&paths).map_err(|(_, errno)| EntryProblem::io("open the layers below")(errno))
        })
    });
    let writer =
        Writer { layer, tree: Tree::new(target, lower), devices, max_entries: unpack_limits.max_entries, cancelled };
    let (result, end) = source::with_plain_bytes(blob, size, limits, on_read, |reader| writer.run(reader));
    match end {
        SourceEnd::TooLarge => Err(UnpackError::TooLarge { layer, limit: limits.max_bytes }),
        SourceEnd::Bomb => Err(UnpackError::Bomb { layer, compressed: size, limit: limits.max_ratio }),
        SourceEnd::Failed(error) => Err(UnpackError::Decompress { layer, source: Arc::new(error) }),
        SourceEnd::Abandoned => Err(result.err().unwrap_or(UnpackError::Cancelled { layer })),
        SourceEnd::Complete(actual) if result.is_ok() && actual != expected => {
            Err(UnpackError::DiffId { layer, expected, actual })
        }
        SourceEnd::Complete(_) => result,
    }
}

/// The writing side.
struct Writer<'a> {
    layer: Digest,
    tree: Tree<'a>,
    devices: DevicePolicy,
    max_entries: u64,
    cancelled: &'a AtomicBool,
}

impl Writer<'_> {
    fn run(mut self, reader: ChunkReader) -> Result<Unpacked, UnpackError> {
        let layer = self.layer;
        let tar_error = |source: TarError| UnpackError::Tar { layer, source };
        let mut tar = TarReader::new(reader);
        let mut buffer = vec![0u8; 256 * 1024];
        let (mut bytes, mut entries) = (0u64, 0u64);
        while let Some(entry) = tar.next().map_err(tar_error)? {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(UnpackError::Cancelled { layer });
            }
            entries += 1;
            if entries > self.max_entries {
                return Err(UnpackError::TooManyEntries { layer, limit: self.max_entries });
            }
            bytes = bytes.saturating_add(entry.size);
            entry::write(&mut self.tree, &mut tar, &entry, self.devices, &mut buffer)
                .map_err(|problem| problem.at(layer, &entry.name))?;
        }
        // The digest is of the whole stream, padding behind the archive's end included.
        drain(tar.into_inner(), &mut buffer).map_err(|e| tar_error(e.into()))?;
        self.tree.finish().map_err(|problem| problem.at(layer, b"."))?;
        Ok(Unpacked { depends_on_lower: self.tree.used_lower(), bytes, entries })
    }
}

fn drain(mut reader: impl Read, buffer: &mut [u8]) -> io::Result<()> {
    while reader.read(buffer)? > 0 {}
    Ok(())
}
