//! Why a layer cannot be unpacked: always names the layer, and the entry where there is one.

use std::io;
use std::sync::Arc;

use crate::digest::Digest;
use crate::tarstream::TarError;

/// A layer was refused or could not be written. Nothing of it is left on disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UnpackError {
    /// An entry is hostile, or the file system refused it.
    #[error("cannot unpack layer {layer}: entry {entry:?}")]
    Entry {
        /// The layer's blob.
        layer: Digest,
        /// The entry's name, lossily as text.
        entry: String,
        /// What is wrong with it.
        #[source]
        problem: EntryProblem,
    },
    /// The layer has more bytes than allowed.
    #[error("cannot unpack layer {layer}: it has more than the {limit} bytes allowed")]
    TooLarge {
        /// The layer's blob.
        layer: Digest,
        /// The limit.
        limit: u64,
    },
    /// The layer has more entries than allowed.
    #[error("cannot unpack layer {layer}: it has more than the {limit} entries allowed")]
    TooManyEntries {
        /// The layer's blob.
        layer: Digest,
        /// The limit.
        limit: u64,
    },
    /// The layer expands too much.
    #[error(
        "cannot unpack layer {layer}: decompression bomb: {compressed} bytes expand to more than {limit} times that"
    )]
    Bomb {
        /// The layer's blob.
        layer: Digest,
        /// The blob's size.
        compressed: u64,
        /// The allowed factor.
        limit: u64,
    },
    /// No room left.
    #[error("disk full while unpacking layer {layer}{}", at_entry(entry))]
    DiskFull {
        /// The layer's blob.
        layer: Digest,
        /// The entry being written, empty when none was.
        entry: String,
    },
    /// The compressed stream is damaged.
    #[error("cannot unpack layer {layer}: cannot decompress it")]
    Decompress {
        /// The layer's blob.
        layer: Digest,
        /// The decoder's words.
        source: Arc<io::Error>,
    },
    /// The tar stream is damaged.
    #[error("cannot unpack layer {layer}: it is not a good tar archive")]
    Tar {
        /// The layer's blob.
        layer: Digest,
        /// How.
        source: TarError,
    },
    /// The uncompressed content is not what the image's configuration names.
    #[error("cannot unpack layer {layer}: its content is {actual}, but the image says {expected}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// From the configuration.
        expected: Digest,
        /// What was found.
        actual: Digest,
    },
    /// The layers below are needed and failed.
    #[error("cannot unpack layer {layer}: the layers below it failed")]
    Below {
        /// The layer's blob.
        layer: Digest,
    },
    /// Nobody waits for it any more.
    #[error("unpacking layer {layer} was cancelled")]
    Cancelled {
        /// The layer's blob.
        layer: Digest,
    },
}

fn at_entry(entry: &str) -> String {
    if entry.is_empty() { String::new() } else { format!(" (at entry {entry:?})") }
}

/// What is wrong with one entry.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EntryProblem {
    /// `/etc/passwd`.
    #[error("its name is absolute")]
    Absolute,
    /// `a/../../b`.
    #[error("its name has a `..` component")]
    DotDot,
    /// A component longer than 255 bytes or a path longer than 4095.
    #[error("its name is too long")]
    NameTooLong,
    /// A NUL byte.
    #[error("its name has a NUL byte")]
    Nul,
    /// It names the layer's root, but is not a directory.
    #[error("it would replace the layer's root by something that is not a directory")]
    Root,
    /// The path leads through a link of this layer to the outside.
    #[error("its path goes through the symlink {link:?} to {target:?}, which leaves the layer")]
    ThroughSymlink {
        /// The link.
        link: String,
        /// Where it points.
        target: String,
    },
    /// Links that lead to links, too often.
    #[error("its path goes through too many symlinks")]
    SymlinkLoop,
    /// A parent is not a directory.
    #[error("{0:?} on its path is not a directory")]
    NotADirectory(String),
    /// A hard link's target is absolute or has `..`.
    #[error("it is a hard link to {0:?}, which is outside the layer")]
    LinkOutside(String),
    /// A hard link's target does not exist.
    #[error("it is a hard link to {0:?}, which does not exist")]
    LinkMissing(String),
    /// A hard link's target cannot be linked to.
    #[error("it is a hard link to {0:?}, which is not a file")]
    LinkToDirectory(String),
    /// A symlink without a target, or with one that no system call takes.
    #[error("it is a symlink with an impossible target")]
    SymlinkTarget,
    /// A device node that is not one of the harmless ones.
    #[error("it is a {kind} device node {major}:{minor}, which is not allowed")]
    Device {
        /// `character` or `block`.
        kind: &'static str,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// `.wh.`, `.wh...`.
    #[error("it is a whiteout of nothing")]
    Whiteout,
    /// A type byte that is not known.
    #[error("its type {0:?} is not supported")]
    Type(char),
    /// The file system refused.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// The archive's stream failed within the entry.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The layers below were needed and failed.
    #[error("the layers below it failed")]
    Below,
}

impl EntryProblem {
    pub(super) fn io(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> EntryProblem {
        move |errno| EntryProblem::Io { doing, source: Arc::new(errno.into()) }
    }

    /// Adds layer and entry, and gives the conditions of the whole layer their own variants.
    pub(super) fn at(self, layer: Digest, entry: &[u8]) -> UnpackError {
        let entry = String::from_utf8_lossy(entry).into_owned();
        match self {
            EntryProblem::Io { source, .. } if crate::error::is_disk_full(&source) => {
                UnpackError::DiskFull { layer, entry }
            }
            EntryProblem::Below => UnpackError::Below { layer },
            problem => UnpackError::Entry { layer, entry, problem },
        }
    }
}
