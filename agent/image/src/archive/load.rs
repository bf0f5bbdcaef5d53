//! Brings the images of an archive into the store: spool, store blobs, unpack, and only then name.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::contents::{Found, Source, broken};
use super::spool::Spool;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::{Progress, ProgressEvent};
use crate::reference::Reference;
use crate::spec::config::ImageConfig;
use crate::spec::manifest::Manifest;
use crate::store::layers::{Fetch, ensure_layers, layer_pins};
use crate::store::pins::PinGuard;
use crate::store::state::{ImageRecord, LayerRecord};
use crate::store::{Inner, LoadedImage, MAX_DOCUMENT, blocking};

/// An image whose blobs are in the store and pinned.
pub(crate) struct Stored {
    pub id: Digest,
    pub record: ImageRecord,
    pub names: Vec<Reference>,
    pub pinned: PinGuard,
}

/// See [`crate::ImageStore::load`].
pub(crate) async fn load<R>(inner: &Arc<Inner>, reader: R, progress: &Progress) -> Result<Vec<LoadedImage>, ImageError>
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let cancelled = Arc::new(AtomicBool::new(false));
    let _cancel = CancelOnDrop(Arc::clone(&cancelled));
    let shared = Arc::clone(inner);
    let stored = blocking(move || store_blobs(&shared, SyncIoBridge::new(reader), &cancelled)).await?;
    let mut out = Vec::new();
    for image in stored {
        out.push(finish(inner, image, progress).await?);
    }
    Ok(out)
}

/// Unpacks an image whose blobs are here, writes its record, and names it.
pub(crate) async fn finish(inner: &Arc<Inner>, image: Stored, progress: &Progress) -> Result<LoadedImage, ImageError> {
    let Stored { id, mut record, names, pinned } = image;
    let layers = record.layers.iter().map(|layer| (layer.blob, layer.size)).collect();
    progress.send(ProgressEvent::Resolved { manifest: record.manifest, layers });
    let dirs = ensure_layers(inner, &record.layers, progress, Fetch::Missing, |_| async { Ok(()) }).await?;
    for (layer, dir) in record.layers.iter_mut().zip(dirs) {
        layer.unpacked = dir.bytes;
    }
    let (shared, tags) = (Arc::clone(inner), names.clone());
    blocking(move || {
        shared.update(|state| {
            state.add(id, record, None);
            for tag in tags {
                state.tags.insert(tag, id);
            }
            Ok(())
        })
    })
    .await?;
    drop(pinned);
    let name = names.first().map(Reference::familiar);
    progress.send(ProgressEvent::Done { name, id });
    Ok(LoadedImage { id, names })
}

fn store_blobs(inner: &Inner, reader: impl std::io::Read, cancelled: &AtomicBool) -> Result<Vec<Stored>, ImageError> {
    let mut spool = Spool::read(reader, &inner.layout, cancelled)?;
    let source = Source { spool: &spool, layout: &inner.layout, platform: &inner.options.platform };
    let mut out = Vec::new();
    for found in source.images()? {
        // Pinned before anybody looks whether a blob is in the store already.
        let mut pins: Vec<Digest> = found.manifest.layers.iter().map(|layer| layer.digest).collect();
        pins.extend([found.manifest.config.digest, Digest::of(&found.manifest_bytes)]);
        out.push((inner.pins.pin(pins), found));
    }
    out.into_iter().map(|(pinned, found)| store_image(inner, &mut spool, found, pinned)).collect()
}

fn store_image(inner: &Inner, spool: &mut Spool, found: Found, blobs: PinGuard) -> Result<Stored, ImageError> {
    let Found { manifest_bytes, manifest, names } = found;
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        match spool.take(&descriptor.digest) {
            Some(file) if file.size != descriptor.size => {
                return Err(ImageError::SizeMismatch {
                    what: format!("blob {}", descriptor.digest),
                    expected: descriptor.size,
                    actual: file.size,
                });
            }
            Some(file) => file.commit(&inner.layout)?,
            None if inner.layout.has_blob(&descriptor.digest) => {}
            None => return Err(broken(format!("blob {} is not in the archive", descriptor.digest))),
        }
    }
    let manifest_digest = inner.layout.write_blob(&manifest_bytes)?;
    let config = inner
        .layout
        .read_blob(&manifest.config.digest, MAX_DOCUMENT)?
        .ok_or_else(|| broken("its configuration has gone"))?;
    let record = record_of(&manifest, manifest_digest, manifest_bytes.len() as u64, &config)?;
    // The unpacked layers as well, before the blobs' guard ends.
    let pins = layer_pins(&record.layers).into_iter().chain([manifest.config.digest, manifest_digest]);
    let pinned = inner.pins.pin(pins);
    drop(blobs);
    Ok(Stored { id: manifest.config.digest, record, names, pinned })
}

/// Joins manifest and configuration into a record; they must agree on the number of layers.
pub(crate) fn record_of(
    manifest: &Manifest,
    manifest_digest: Digest,
    manifest_size: u64,
    config_bytes: &[u8],
) -> Result<ImageRecord, ImageError> {
    let malformed = |reason: String| ImageError::Malformed { image: manifest_digest.to_string(), reason };
    let config: ImageConfig = serde_json::from_slice(config_bytes)
        .map_err(|error| malformed(format!("its configuration does not parse: {error}")))?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (have, want) = (manifest.layers.len(), diff_ids.len());
        return Err(malformed(format!("its manifest has {have} layers, but its configuration names {want}")));
    }
    let layers = manifest.layers.iter().zip(diff_ids).map(|(layer, diff_id)| LayerRecord {
        blob: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        diff_id: *diff_id,
        unpacked: 0,
    });
    let platform = crate::spec::platform::Platform {
        os: config.os.clone(),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(ImageRecord {
        manifest: manifest_digest,
        manifest_size,
        config_size: config_bytes.len() as u64,
        layers: layers.collect(),
        repo_digests: Default::default(),
        created: config.created,
        added: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        platform: platform.to_string(),
    })
}

/// Tells the reading thread that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
