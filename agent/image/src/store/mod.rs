//! The store: opening it, its shared inside, and the API's entry points. The work itself is in the
//! files beside this one.

pub(crate) mod blobs;
pub(crate) mod layers;
pub(crate) mod layout;
pub(crate) mod leases;
pub(crate) mod links;
pub mod options;
pub(crate) mod pins;
pub mod query;
pub mod remove;
pub(crate) mod share;
pub(crate) mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};

use self::layers::LayerDir;
use self::layout::Layout;
use self::leases::Leases;
use self::options::StoreOptions;
use self::pins::Pins;
use self::state::State;
use crate::archive;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::flight::SingleFlight;
use crate::progress::Progress;
use crate::pull::{self, Authority, PartLocks, PullFrom, PulledImage};
use crate::reference::Reference;
use crate::registry::credentials::RegistryAuth;
use crate::registry::http::HttpClients;
use crate::spec::config::ImageConfig;
use crate::traffic::Traffic;

/// Longest manifest, index or configuration; registries accept 4 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 8 * 1024 * 1024;

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// Names that point to it now; empty if the archive had none.
    pub names: Vec<Reference>,
}

/// An image store in one directory. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones share.
pub(crate) struct Inner {
    pub layout: Layout,
    pub options: StoreOptions,
    /// Readers take the `Arc` and go.
    state: RwLock<Arc<State>>,
    /// Raised with each change of the state.
    pub changed: watch::Sender<u64>,
    /// Held while the state is changed, so that readers need not wait for the disk.
    writing: Mutex<()>,
    pub leases: Mutex<Leases>,
    pub pins: Arc<Pins>,
    pub unpack_permits: Arc<Semaphore>,
    pub unpacks: SingleFlight<Digest, Result<LayerDir, ImageError>>,
    pub pulls: SingleFlight<(Reference, Authority), Result<PulledImage, ImageError>>,
    pub downloads: SingleFlight<Digest, Result<(), ImageError>>,
    pub download_permits: Semaphore,
    pub part_locks: PartLocks,
    pub traffic: Arc<Traffic>,
    pub http: HttpClients,
}

impl ImageStore {
    /// Opens the store in `root`, making it if need be, and removes what a crash left behind.
    ///
    /// # Errors
    /// `Locked` when another process has it open, `NewerFormat` when a newer version wrote it.
    pub async fn open(root: impl AsRef<Path>, options: StoreOptions) -> Result<ImageStore, ImageError> {
        let root = root.as_ref().to_path_buf();
        let inner = blocking(move || Inner::open(&root, options)).await?;
        Ok(ImageStore { inner: Arc::new(inner) })
    }

    /// How much came from where.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.inner.traffic)
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        self.inner.layout.root()
    }

    /// Loads every image of a docker-archive or OCI layout tar, compressed as a whole with gzip or zstd
    /// or not, and unpacks it. Nothing is named before all of it is there.
    ///
    /// # Errors
    /// `Archive` when it is neither; the errors of unpacking; `DiskFull`.
    pub async fn load<R>(&self, reader: R, progress: Progress) -> Result<Vec<LoadedImage>, ImageError>
    where
        R: AsyncRead + Unpin + Send + 'static,
    {
        archive::load::load(&self.inner, reader, &progress).await
    }

    /// Pulls an image for this machine's platform from its registry and unpacks it. Layers come in parallel; broken
    /// connections are resumed; everything is checked by digest. Dropping the future stops the work, a
    /// later pull resumes it. Pulls of the same reference or layer at the same time share the work.
    ///
    /// # Errors
    /// `Registry` (not found, unauthorized, TLS, …), `NoMatchingPlatform`, `DigestMismatch`, the errors of
    /// unpacking, `DiskFull`.
    pub async fn pull(
        &self,
        reference: &Reference,
        auth: RegistryAuth,
        progress: Progress,
    ) -> Result<PulledImage, ImageError> {
        self.pull_from(reference, PullFrom::registry(auth), progress).await
    }

    /// The same, from other stores as well: layer by layer, from several at once, going on at another when one breaks. What
    /// they give is unpacked as carefully as what a registry gives, and has the digest it should have.
    ///
    /// # Errors
    /// Those of [`ImageStore::pull`]; `Nowhere` says what the registry and what the others refused.
    pub async fn pull_from(
        &self,
        reference: &Reference,
        from: PullFrom,
        progress: Progress,
    ) -> Result<PulledImage, ImageError> {
        pull::pull(&self.inner, reference, from, &progress).await
    }

    /// Writes images into a tar that `docker load` and OCI tools read. `names` are references or ids; a
    /// reference is written as the image's name.
    ///
    /// # Errors
    /// `NotFound`, `BlobMissing`, or the writer's.
    pub async fn save<W>(&self, names: &[String], writer: W) -> Result<(), ImageError>
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        archive::save::save(&self.inner, names, writer).await
    }

    /// The id of the image that `name` (reference, id, or beginning of an id) means.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, or `Reference` when it cannot be a name.
    pub fn resolve(&self, name: &str) -> Result<Digest, ImageError> {
        self.inner.state().resolve(name)
    }

    /// The image's unpacked layers, lowest first, for overlayfs (`lowerdir` wants them the other way
    /// round). Layers that are missing are unpacked again. Take a lease first, or they may go. The paths of
    /// an image with very many layers are short links, so that about 100 fit into the options of one mount.
    ///
    /// # Errors
    /// `NotFound`, `BlobMissing`, the errors of unpacking.
    pub async fn rootfs_layers(&self, name: &str) -> Result<Vec<PathBuf>, ImageError> {
        layers::rootfs_layers(&self.inner, name).await
    }

    /// The image's configuration.
    ///
    /// # Errors
    /// `NotFound`, `BlobMissing`.
    pub async fn config(&self, name: &str) -> Result<ImageConfig, ImageError> {
        let id = self.resolve(name)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || query::config(&inner, &id)).await
    }

    /// Notes that `owner` (a task id, say) uses the image, which keeps its content until
    /// [`ImageStore::release`]. Survives a restart of this process. An owner may lease several images.
    ///
    /// # Errors
    /// `NotFound`; `LeaseOwner` when the owner's name has other characters than letters, digits, `_.-`.
    pub async fn lease(&self, name: &str, owner: &str) -> Result<Digest, ImageError> {
        let (inner, name, owner) = (Arc::clone(&self.inner), name.to_string(), owner.to_string());
        blocking(move || {
            let mut leases = inner.leases();
            // Under the leases' lock, as removal is: the image cannot go in between.
            let id = inner.state().resolve(&name)?;
            leases.take(&inner.layout, &owner, id)?;
            Ok(id)
        })
        .await
    }

    /// Ends all leases of `owner`. Having none is fine.
    ///
    /// # Errors
    /// `LeaseOwner`, or the file system's.
    pub async fn release(&self, owner: &str) -> Result<(), ImageError> {
        let (inner, owner) = (Arc::clone(&self.inner), owner.to_string());
        blocking(move || inner.leases().release(&inner.layout, &owner)).await
    }

    /// All leases: owner to image ids.
    pub fn leases(&self) -> BTreeMap<String, BTreeSet<Digest>> {
        self.inner.leases().all()
    }

    /// True when this blob (layer, manifest or configuration, by its digest) is here.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.inner.layout.has_blob(digest)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// The file system's. A blob that is not here is `None`.
    pub async fn open_blob(&self, digest: &Digest) -> Result<Option<File>, ImageError> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || inner.layout.open_blob(&digest)).await
    }

    /// Reads a small blob (a manifest or configuration, up to 8 MiB) whole.
    ///
    /// # Errors
    /// The file system's; `SizeMismatch` when it is longer. A blob that is not here is `None`.
    pub async fn read_blob(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || inner.layout.read_blob(&digest, MAX_DOCUMENT)).await
    }
}

impl Inner {
    fn open(root: &Path, options: StoreOptions) -> Result<Inner, ImageError> {
        let layout = Layout::open(root)?;
        let state = State::load(&layout.state_file())?;
        let leases = Leases::load(&layout)?;
        let unpack_permits = Arc::new(Semaphore::new(options.max_unpacks.max(1)));
        Ok(Inner {
            layout,
            state: RwLock::new(Arc::new(state)),
            changed: watch::Sender::default(),
            writing: Mutex::new(()),
            leases: Mutex::new(leases),
            pins: Arc::default(),
            unpack_permits,
            unpacks: SingleFlight::new(),
            pulls: SingleFlight::new(),
            downloads: SingleFlight::new(),
            download_permits: Semaphore::new(options.max_downloads.max(1)),
            part_locks: PartLocks::default(),
            traffic: Arc::default(),
            http: HttpClients::new(options.extra_ca_files.clone(), options.retry.stall_timeout),
            options,
        })
    }

    /// A snapshot of the state.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn leases(&self) -> std::sync::MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state: on disk first, then for readers. Blocks. A change that changes nothing is
    /// not written.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut State) -> Result<T, ImageError>) -> Result<T, ImageError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.state();
        let mut after = State::clone(&before);
        let out = change(&mut after)?;
        if after != *before {
            after.store(&self.layout.state_file())?;
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after);
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(out)
    }
}

/// Runs blocking work off the async threads. A panic there is a panic here.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down.
            Err(_) => Err(ImageError::Cancelled),
        },
    }
}
