//! An OCI image store: names, content-addressed blobs, and layers unpacked for overlayfs.
//!
//! ```text
//! digest, reference, spec/   words: digests, references, manifests, configurations, platforms (pure)
//! progress                   typed events of long work
//! tarstream/                 tar archives as a stream of entries
//! unpack/                    a layer blob into an overlay lower directory, safely
//! store/                     the directory: state, blobs, layers, leases, queries, removal
//! archive/                   load and save of docker-archive and OCI layout tars
//! registry/                  an OCI distribution client: auth, manifests, blobs by range
//! pull/                      a whole image from a registry or other stores into the store
//! flight                     one piece of work for all who want it at the same time
//! ```
//!
//! Invariants:
//! - A blob under `blobs/` always has the digest of its name; a layer under `layers/` is always whole.
//!   Both appear by rename after their bytes are on disk.
//! - What an image record names is on disk, unless somebody else deleted it; removal takes the record
//!   first and the content later.
//! - Content that running work has pinned, or that a leased image has, is never removed.
//! - One process at a time has the directory (a file lock).
//!
//! Deliberately absent: pull policies, registry mirrors, building, pushing.
#![forbid(unsafe_code)]

mod archive;
mod digest;
mod error;
mod flight;
mod progress;
mod pull;
mod reference;
mod registry;
mod spec;
mod store;
mod tarstream;
mod traffic;
mod unpack;

pub use digest::{Digest, DigestParseError, Hasher};
pub use error::ImageError;
pub use progress::{LayerState, Progress, ProgressEvent};
pub use pull::peers::{Peer, PeerError, Peers, SharedManifest};
pub use pull::{Authority, PullFrom, PulledImage};
pub use reference::{Reference, ReferenceError, ReferenceProblem};
pub use registry::credentials::{DockerConfig, DockerConfigError, RegistryAuth};
pub use registry::error::RegistryError;
pub use spec::config::{ContainerConfig, HealthConfig, HistoryEntry, ImageConfig, RootFs};
pub use spec::manifest::{Descriptor, DocumentError, Manifest};
pub use spec::platform::Platform;
pub use store::options::{RetryOptions, StoreOptions};
pub use store::query::{HistoryItem, ImageDetails, ImageSummary, LayerDetails};
pub use store::remove::{PruneFilter, PruneReport, RemoveReport};
pub use store::{ImageStore, LoadedImage};
pub use tarstream::TarError;
pub use traffic::{Source, Traffic};
pub use unpack::error::{EntryProblem, UnpackError};
pub use unpack::{DevicePolicy, UnpackLimits};
