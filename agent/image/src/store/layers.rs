//! Unpacked layers: finding them, and unpacking those that are missing, several at the same time.
//!
//! A layer is named by its diff id when it stands by itself. When unpacking it had to look at the
//! layers below (a directory that no entry names, a path through a lower link, whether a whiteout hides
//! anything), the result holds only over these layers and is named after the chain id of the stack. All layers of an image start at once;
//! one that needs those below waits for them, giving its permit back meanwhile so that they can run.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::FutureExt;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::layout::{Layout, sync_dir};
use super::state::{LayerRecord, chain_ids, stack_key};
use super::{Inner, blocking};
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};
use crate::progress::{LayerState, Progress};
use crate::unpack::error::UnpackError;
use crate::unpack::{self, Job};

/// Progress of unpacking is told each time this many bytes of the blob are consumed.
const PROGRESS_STEP: u64 = 1024 * 1024;

/// An unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerDir {
    pub path: PathBuf,
    /// Bytes in its files.
    pub bytes: u64,
}

/// Written beside `fs` when a layer is complete.
#[derive(Debug, Serialize, Deserialize)]
struct LayerMeta {
    diff_id: Digest,
    blob: Digest,
    bytes: u64,
    entries: u64,
}

impl Layout {
    /// The layer as part of this stack, or by itself.
    pub(crate) fn find_layer(&self, diff_id: &Digest, chain_id: &Digest) -> Result<Option<LayerDir>, ImageError> {
        for key in [&stack_key(chain_id), diff_id] {
            let path = self.layer(key).join("layer.json");
            match std::fs::read(&path) {
                Ok(text) => {
                    let meta: LayerMeta = serde_json::from_slice(&text)
                        .map_err(|error| ImageError::Damaged { path: path.clone(), reason: error.to_string() })?;
                    return Ok(Some(LayerDir { path: self.layer(key).join("fs"), bytes: meta.bytes }));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
            }
        }
        Ok(None)
    }
}

/// See [`super::ImageStore::rootfs_layers`].
pub(crate) async fn rootfs_layers(inner: &Arc<Inner>, name: &str) -> Result<Vec<PathBuf>, ImageError> {
    let state = inner.state();
    let id = state.resolve(name)?;
    let Some(record) = state.images.get(&id) else {
        return Err(ImageError::NotFound { name: name.to_string() });
    };
    let _pinned = inner.pins.pin(layer_pins(&record.layers));
    let paths = match find_all(inner, &record.layers).await? {
        Some(paths) => paths,
        None => unpack_all(inner, name, &record.layers).await?,
    };
    let inner = Arc::clone(inner);
    blocking(move || inner.layout.shorten(paths)).await
}

/// All layers in one go, if all are unpacked: the usual case when a task starts.
async fn find_all(inner: &Arc<Inner>, layers: &[LayerRecord]) -> Result<Option<Vec<PathBuf>>, ImageError> {
    let (inner, diff_ids) = (Arc::clone(inner), layers.iter().map(|layer| layer.diff_id).collect::<Vec<_>>());
    blocking(move || {
        let chains = chain_ids(diff_ids.iter().copied());
        let find = |(diff_id, chain)| Ok(inner.layout.find_layer(diff_id, chain)?.map(|dir| dir.path));
        diff_ids.iter().zip(&chains).map(find).collect()
    })
    .await
}

async fn unpack_all(inner: &Arc<Inner>, name: &str, layers: &[LayerRecord]) -> Result<Vec<PathBuf>, ImageError> {
    let image = name.to_string();
    let have_blob = |layer: LayerRecord| {
        let (inner, image) = (Arc::clone(inner), image.clone());
        async move {
            if inner.layout.has_blob(&layer.blob) {
                return Ok(());
            }
            Err(ImageError::BlobMissing { digest: layer.blob, image })
        }
    };
    let dirs = ensure_layers(inner, layers, &Progress::none(), Fetch::Missing, have_blob).await?;
    Ok(dirs.into_iter().map(|dir| dir.path).collect())
}

/// Every digest to pin while layers are worked on: blobs, and both names of unpacked layers.
pub(crate) fn layer_pins(layers: &[LayerRecord]) -> Vec<Digest> {
    let mut pins: Vec<Digest> = layers.iter().flat_map(|layer| [layer.blob, layer.diff_id]).collect();
    pins.extend(chain_ids(layers.iter().map(|layer| layer.diff_id)).iter().map(stack_key));
    pins
}

/// When a layer's blob is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// Even when the layer is unpacked: the store keeps the blobs of its images.
    Always,
    /// Only to be unpacked.
    Missing,
}

/// Results of the layers of one image so far, lowest first.
type Board = Vec<Option<PathBuf>>;

/// Unpacks what is missing of an image's layers (lowest first). `fetch` brings a layer's blob into the
/// store.
pub(crate) async fn ensure_layers<F, Fut>(
    inner: &Arc<Inner>,
    layers: &[LayerRecord],
    progress: &Progress,
    when: Fetch,
    fetch: F,
) -> Result<Vec<LayerDir>, ImageError>
where
    F: Fn(LayerRecord) -> Fut,
    Fut: Future<Output = Result<(), ImageError>>,
{
    let chains = chain_ids(layers.iter().map(|layer| layer.diff_id));
    let (board, watcher) = watch::channel::<Board>(vec![None; layers.len()]);
    let board = &board;
    let fetch = &fetch;
    let work = layers.iter().zip(&chains).enumerate().map(|(index, (layer, chain_id))| {
        let below = (index > 0).then(|| Below { watcher: watcher.clone(), count: index });
        async move {
            if when == Fetch::Always || find(inner, layer.diff_id, *chain_id).await?.is_none() {
                fetch(layer.clone()).await?;
            }
            let dir = ensure_layer(inner, layer, *chain_id, below, progress).await?;
            board.send_modify(|board| board[index] = Some(dir.path.clone()));
            Ok(dir)
        }
    });
    futures::future::try_join_all(work).await
}

/// Unpacks a layer whose blob is here, unless it is unpacked.
async fn ensure_layer(
    inner: &Arc<Inner>,
    layer: &LayerRecord,
    chain_id: Digest,
    below: Option<Below>,
    progress: &Progress,
) -> Result<LayerDir, ImageError> {
    if let Some(dir) = find(inner, layer.diff_id, chain_id).await? {
        progress.layer(layer.blob, LayerState::Exists);
        return Ok(dir);
    }
    loop {
        let landed = inner
            .unpacks
            .run(&chain_id, progress, |progress| {
                unpack_one(Arc::clone(inner), layer.clone(), chain_id, below.clone(), progress).boxed()
            })
            .await;
        match landed.value {
            // The one whose work this was has gone away in the middle; its layers below with it.
            Err(
                ImageError::Cancelled | ImageError::Unpack(UnpackError::Below { .. } | UnpackError::Cancelled { .. }),
            ) if !landed.led => {}
            other => return other,
        }
    }
}

async fn find(inner: &Arc<Inner>, diff_id: Digest, chain_id: Digest) -> Result<Option<LayerDir>, ImageError> {
    let inner = Arc::clone(inner);
    blocking(move || inner.layout.find_layer(&diff_id, &chain_id)).await
}

/// The layers below one, when they are ready.
#[derive(Clone)]
struct Below {
    watcher: watch::Receiver<Board>,
    count: usize,
}

impl Below {
    /// Waits in a blocking thread; `None` when they failed. The permit is given back meanwhile.
    fn wait(
        mut self,
        handle: &Handle,
        permits: &Arc<Semaphore>,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> Option<Vec<PathBuf>> {
        let count = self.count;
        let ready = |board: &Board| board[..count].iter().all(Option::is_some);
        if !ready(&self.watcher.borrow()) {
            drop(permit.take());
            handle.block_on(self.watcher.wait_for(ready)).ok()?;
            *permit = Some(handle.block_on(Arc::clone(permits).acquire_owned()).ok()?);
        }
        self.watcher.borrow()[..count].iter().cloned().collect()
    }
}

/// Tells a blocking thread that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn unpack_one(
    inner: Arc<Inner>,
    layer: LayerRecord,
    chain_id: Digest,
    below: Option<Below>,
    progress: Progress,
) -> Result<LayerDir, ImageError> {
    // Somebody may have finished between the caller's look and now.
    if let Some(dir) = find(&inner, layer.diff_id, chain_id).await? {
        return Ok(dir);
    }
    let permit = Arc::clone(&inner.unpack_permits).acquire_owned().await.expect("the semaphore is never closed");
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(Arc::clone(&cancelled));
    let handle = Handle::current();
    // Pinned by the thread itself: it may outlive whoever waits for it.
    let pinned = inner.pins.pin([layer.blob, layer.diff_id, stack_key(&chain_id)]);
    blocking(move || {
        let _pinned = pinned;
        let unpacking =
            Unpacking { inner: &inner, layer: &layer, chain_id, progress: &progress, cancelled: &cancelled };
        unpacking.run(below, &handle, permit)
    })
    .await
}

struct Unpacking<'a> {
    inner: &'a Inner,
    layer: &'a LayerRecord,
    chain_id: Digest,
    progress: &'a Progress,
    cancelled: &'a AtomicBool,
}

impl Unpacking<'_> {
    fn run(&self, below: Option<Below>, handle: &Handle, permit: OwnedSemaphorePermit) -> Result<LayerDir, ImageError> {
        let Unpacking { inner, layer, .. } = self;
        let mut permit = Some(permit);
        let permits = &inner.unpack_permits;
        let blob = inner
            .layout
            .open_blob(&layer.blob)?
            .ok_or_else(|| ImageError::BlobMissing { digest: layer.blob, image: "its layer".to_string() })?;
        let dir = self.make_temporary()?;
        let fs = dir.path().join("fs");
        let target = open_directory(&fs)?;
        let synced = target.try_clone().doing(|| format!("open {}", fs.display()))?;
        let counter = Counter::new(self.progress, layer);
        let unpacked = unpack::unpack(Job {
            layer: layer.blob,
            blob,
            size: layer.size,
            diff_id: layer.diff_id,
            target,
            lower: below
                .map(|below| -> unpack::LowerLayers<'_> { Box::new(|| below.wait(handle, permits, &mut permit)) }),
            limits: inner.options.limits,
            devices: inner.options.devices,
            on_read: &|bytes| counter.add(bytes),
            cancelled: self.cancelled,
        })?;
        let meta =
            LayerMeta { diff_id: layer.diff_id, blob: layer.blob, bytes: unpacked.bytes, entries: unpacked.entries };
        let key = if unpacked.depends_on_lower { stack_key(&self.chain_id) } else { layer.diff_id };
        let out = self.publish(dir, &synced, &key, &meta)?;
        self.progress.layer(layer.blob, LayerState::Done);
        Ok(out)
    }

    fn make_temporary(&self) -> Result<tempfile::TempDir, ImageError> {
        let layers = self.inner.layout.layers();
        let doing = || format!("make a directory in {}", layers.display());
        let dir = tempfile::Builder::new().prefix("tmp-").tempdir_in(&layers).doing(doing)?;
        std::fs::create_dir(dir.path().join("fs")).doing(doing)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path().join("fs"), mode).doing(doing)?;
        Ok(dir)
    }

    /// Puts the bytes on disk, then the layer in its place.
    fn publish(
        &self,
        dir: tempfile::TempDir,
        fs: &impl std::os::fd::AsFd,
        key: &Digest,
        meta: &LayerMeta,
    ) -> Result<LayerDir, ImageError> {
        let layout = &self.inner.layout;
        let doing = || format!("store layer {}", self.layer.blob);
        let text = serde_json::to_vec(meta).expect("a struct of strings and numbers is JSON");
        std::fs::write(dir.path().join("layer.json"), text).doing(doing)?;
        // One call for thousands of files; their own fsync would be thousands of journal commits.
        rustix::fs::syncfs(fs).doing(doing)?;
        let target = layout.layer(key);
        match std::fs::rename(dir.path(), &target) {
            Ok(()) => {
                let _ = dir.keep();
                sync_dir(&layout.layers())?;
            }
            // Made by somebody over other layers below: it is the same.
            Err(error) if is_there_already(&error) => {}
            Err(error) => return Err(error).doing(doing),
        }
        Ok(LayerDir { path: target.join("fs"), bytes: meta.bytes })
    }
}

fn is_there_already(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::DirectoryNotEmpty)
}

fn open_directory(path: &std::path::Path) -> Result<std::os::fd::OwnedFd, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).doing(|| format!("open {}", path.display()))
}

/// Turns many small reads into few events.
struct Counter<'a> {
    progress: &'a Progress,
    layer: Digest,
    total: u64,
    done: AtomicU64,
}

impl<'a> Counter<'a> {
    fn new(progress: &'a Progress, layer: &LayerRecord) -> Counter<'a> {
        let counter = Counter { progress, layer: layer.blob, total: layer.size, done: AtomicU64::new(0) };
        counter.tell(0);
        counter
    }

    fn add(&self, bytes: u64) {
        let before = self.done.fetch_add(bytes, Ordering::Relaxed);
        if before / PROGRESS_STEP != (before + bytes) / PROGRESS_STEP {
            self.tell(before + bytes);
        }
    }

    fn tell(&self, done: u64) {
        let total = self.total;
        self.progress.layer(self.layer, LayerState::Unpacking { done, total });
    }
}
