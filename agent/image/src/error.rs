//! The crate's error: a variant per thing that can go wrong, with the object's name in it.
//! Cloneable, because one failed download answers everybody who waited for it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::pull::PeerError;
use crate::reference::ReferenceError;
use crate::registry::error::RegistryError;
use crate::unpack::error::UnpackError;

/// What can go wrong in the image store. `Display` says what failed; sources say why: print the chain
/// or use [`ImageError::report`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// The text is not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Nothing here has that name or id.
    #[error("no such image: {name}")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// An id prefix fits more than one image.
    #[error("image id {prefix} is ambiguous: it fits {}", matches.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// Short ids it fits.
        matches: Vec<String>,
    },
    /// The image has leases.
    #[error("image {image} is in use by {}", owners.join(", "))]
    InUse {
        /// Name or short id.
        image: String,
        /// Who holds leases.
        owners: Vec<String>,
    },
    /// An id was given for removal, but several names point to it.
    #[error("image {image} has {} names ({}): remove them by name, or force", names.len(), names.join(", "))]
    ManyNames {
        /// Short id.
        image: String,
        /// Familiar names.
        names: Vec<String>,
    },
    /// A lease owner's name cannot be a file name.
    #[error("lease owner {owner:?} is not 1 to 128 of letters, digits, `_`, `.`, `-`")]
    LeaseOwner {
        /// What was given.
        owner: String,
    },
    /// A tag needs a name without a digest.
    #[error("{reference} has a digest: a tag is a name without one")]
    TagWithDigest {
        /// What was given.
        reference: String,
    },
    /// No room left.
    #[error("disk full while {doing}")]
    DiskFull {
        /// What was being done, e.g. "unpacking layer …".
        doing: String,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// The file system refused.
    #[error("cannot {doing}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// Another process has the store open.
    #[error("image store {} is in use by another process", path.display())]
    Locked {
        /// The store.
        path: PathBuf,
    },
    /// The store was written by a newer version of this program.
    #[error("image store {} has format {found}, newer than {supported}, the newest this version knows", path.display())]
    NewerFormat {
        /// The store.
        path: PathBuf,
        /// What is there.
        found: u32,
        /// What this program writes.
        supported: u32,
    },
    /// A file of the store does not parse.
    #[error("image store file {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        reason: String,
    },
    /// A blob that an image needs is not here.
    #[error("blob {digest} of image {image} is missing: pull or load the image again")]
    BlobMissing {
        /// The blob.
        digest: Digest,
        /// The image.
        image: String,
    },
    /// Content does not have the digest that was promised.
    #[error("{what}: expected {expected}, but the content is {actual}")]
    DigestMismatch {
        /// Which content.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// Content has another length than was promised.
    #[error("{what}: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Which content.
        what: String,
        /// What it should be.
        expected: u64,
        /// What it is; at least this much where reading stopped early.
        actual: u64,
    },
    /// An archive cannot be loaded.
    #[error("cannot load the image archive: {reason}")]
    Archive {
        /// Why.
        reason: String,
    },
    /// Two parts of an image contradict each other.
    #[error("image {image} is malformed: {reason}")]
    Malformed {
        /// Reference or digest.
        image: String,
        /// How.
        reason: String,
    },
    /// A layer cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The registry refused, or cannot be reached.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Another store did not give it.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// Neither the registry nor another store gave it.
    #[error("{registry}; nor does it come from another node: {peers}", registry = registry.report(), peers = peers.report())]
    Nowhere {
        /// What the registry, or the way to it, refused.
        registry: Box<ImageError>,
        /// What the others refused.
        peers: Box<ImageError>,
    },
    /// The index has nothing for this machine.
    #[error("{image} has no image for {wanted}; it has {}", list_or_nothing(available))]
    NoMatchingPlatform {
        /// The reference.
        image: String,
        /// The platform that was wanted.
        wanted: String,
        /// Those it has.
        available: Vec<String>,
    },
    /// The work was given up because nobody waits for it any more.
    #[error("cancelled")]
    Cancelled,
}

fn list_or_nothing(items: &[String]) -> String {
    if items.is_empty() { "none at all".to_string() } else { items.join(", ") }
}

impl ImageError {
    /// Wraps an error of the file system; `doing` completes "cannot …" and, where the disk is full,
    /// "disk full while …" (`gerund` there).
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> ImageError {
        let doing = doing.into();
        let source = Arc::new(source);
        if is_disk_full(&source) {
            return ImageError::DiskFull { doing: gerund(&doing), source };
        }
        ImageError::Io { doing, source }
    }

    /// True when this machine is at fault, and nobody else can help.
    pub(crate) fn is_local(&self) -> bool {
        use ImageError as E;
        matches!(self, E::DiskFull { .. } | E::Io { .. } | E::Damaged { .. } | E::Cancelled)
    }

    /// The registry's error together with that of the stores that were asked before or after it.
    pub(crate) fn nor_from_peers(self, peers: ImageError) -> ImageError {
        if self.is_local() {
            return self;
        }
        ImageError::Nowhere { registry: Box::new(self), peers: Box::new(peers) }
    }

    /// The whole chain in one line: what failed, then why.
    pub fn report(&self) -> String {
        let mut out = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            out.push_str(": ");
            out.push_str(&error.to_string());
            source = error.source();
        }
        out
    }
}

/// True for "no space left" and "quota exceeded".
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// "write x" becomes "writing x": the phrases of this crate begin with a regular verb.
fn gerund(doing: &str) -> String {
    let (verb, rest) = doing.split_once(' ').unwrap_or((doing, ""));
    let stem = verb.strip_suffix('e').unwrap_or(verb);
    format!("{stem}ing {rest}").trim_end().to_string()
}

/// Shorthand for attaching words to an [`io::Error`].
pub(crate) trait IoContext<T> {
    /// Adds what was being done.
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ImageError>;
}

impl<T> IoContext<T> for Result<T, io::Error> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::io(doing(), source))
    }
}

impl<T> IoContext<T> for Result<T, rustix::io::Errno> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::io(doing(), source.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said_as_such() {
        let full = || io::Error::from_raw_os_error(28);
        assert_eq!(
            ImageError::io("write blob sha256:00", full()).to_string(),
            "disk full while writing blob sha256:00"
        );
        assert_eq!(ImageError::io("store x", full()).to_string(), "disk full while storing x");
        let other = ImageError::io("open /x", io::Error::from_raw_os_error(13));
        assert!(other.report().starts_with("cannot open /x: Permission denied"));
    }
}
