//! A whole image from a registry into the store. The caller decides whether to pull at all.
//!
//! Single flight twice: pulls of the same reference share everything, pulls of different images share
//! the layers they have in common. Dropping the future stops the work; what was downloaded stays as a
//! partial file and is resumed by the next pull.

mod blob;
mod part;

use std::sync::Arc;

use futures::FutureExt;

use crate::archive::load::record_of;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::{LayerState, Progress, ProgressEvent};
use crate::reference::Reference;
use crate::registry::credentials::RegistryAuth;
use crate::registry::endpoint::endpoint;
use crate::registry::error::RegistryError;
use crate::registry::retry::Backoff;
use crate::registry::session::{RawManifest, Session};
use crate::spec::manifest::{Descriptor, Document, DocumentError, Index, Manifest};
use crate::spec::platform;
use crate::store::layers::{Fetch, ensure_layers, layer_pins};
use crate::store::pins::PinGuard;
use crate::store::{Inner, MAX_DOCUMENT, blocking};

pub(crate) use part::PartLocks;

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledImage {
    /// The image's id: the digest of its configuration.
    pub id: Digest,
    /// The digest of the manifest or index that the reference means: `repository@digest`.
    pub repo_digest: Reference,
    /// False when the image was here already under this name.
    pub changed: bool,
}

/// See [`crate::ImageStore::pull`].
pub(crate) async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    auth: RegistryAuth,
    progress: &Progress,
) -> Result<PulledImage, ImageError> {
    loop {
        let landed = inner
            .pulls
            .run(reference, progress, |progress| {
                let puller =
                    Puller { inner: Arc::clone(inner), reference: reference.clone(), auth: auth.clone(), progress };
                puller.run().boxed()
            })
            .await;
        // Another's failure may be due to its credentials: fail by our own.
        if landed.led || landed.value.is_ok() {
            return landed.value;
        }
    }
}

/// One pull.
struct Puller {
    inner: Arc<Inner>,
    reference: Reference,
    auth: RegistryAuth,
    progress: Progress,
}

impl Puller {
    async fn run(self) -> Result<PulledImage, ImageError> {
        let session = Arc::new(self.connect().await?);
        let top = self.top_manifest(&session).await?;
        let repo_digest = self.reference.with_digest(top.digest);
        let (raw, manifest) = self.image_manifest(&session, top).await?;
        let _pinned = self.pin_blobs(raw.digest, &manifest);
        let config = self.fetch_documents(&session, &raw, &manifest).await?;
        let mut record = record_of(&manifest, raw.digest, raw.bytes.len() as u64, &config)?;
        let _layers_pinned = self.inner.pins.pin(layer_pins(&record.layers));
        self.progress.send(ProgressEvent::Resolved {
            manifest: raw.digest,
            layers: record.layers.iter().map(|layer| (layer.blob, layer.size)).collect(),
        });
        for layer in &record.layers {
            self.progress.layer(layer.blob, LayerState::Waiting);
        }
        let fetch = |layer: crate::store::state::LayerRecord| {
            let (inner, session, progress) = (Arc::clone(&self.inner), Arc::clone(&session), self.progress.clone());
            let blob = Descriptor::new(&layer.media_type, layer.blob, layer.size);
            async move { blob::fetch(&inner, &session, blob, &progress).await }
        };
        let dirs = ensure_layers(&self.inner, &record.layers, &self.progress, Fetch::Always, fetch).await?;
        for (layer, dir) in record.layers.iter_mut().zip(dirs) {
            layer.unpacked = dir.bytes;
        }
        record.repo_digests.insert(repo_digest.clone());
        let id = manifest.config.digest;
        let changed = self.commit(id, record).await?;
        self.progress.send(ProgressEvent::Done { name: Some(self.reference.familiar()), id });
        Ok(PulledImage { id, repo_digest, changed })
    }

    async fn connect(&self) -> Result<Session, ImageError> {
        let endpoint = endpoint(self.reference.registry(), &self.inner.options.insecure_registries);
        let client = {
            let (inner, endpoint) = (Arc::clone(&self.inner), endpoint.clone());
            // Reading the system's certificates takes milliseconds of disk and CPU.
            blocking(move || Ok(inner.http.client(&endpoint)?)).await?
        };
        self.retrying(|| {
            Session::connect(client.clone(), endpoint.clone(), self.reference.repository(), self.auth.clone())
        })
        .await
    }

    /// What the reference means: by digest if it has one, else by tag.
    async fn top_manifest(&self, session: &Session) -> Result<RawManifest, ImageError> {
        let wanted = self.reference.digest();
        let name = match (wanted, self.reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_string(),
        };
        let raw = self.retrying(|| session.manifest(&name, MAX_DOCUMENT)).await?;
        match wanted {
            Some(expected) if expected != raw.digest => Err(self.mismatch(expected, raw.digest)),
            _ => Ok(raw),
        }
    }

    /// Goes from an index to the manifest for this machine.
    async fn image_manifest(&self, session: &Session, top: RawManifest) -> Result<(RawManifest, Manifest), ImageError> {
        let index = match self.parse(&top)? {
            Document::Manifest(manifest) => return Ok((top, *manifest)),
            Document::Index(index) => index,
        };
        let chosen = self.choose(&index)?;
        let name = chosen.to_string();
        let raw = self.retrying(|| session.manifest(&name, MAX_DOCUMENT)).await?;
        if raw.digest != chosen {
            return Err(self.mismatch(chosen, raw.digest));
        }
        match self.parse(&raw)? {
            Document::Manifest(manifest) => Ok((raw, *manifest)),
            Document::Index(_) => Err(self.malformed("its index leads to another index".to_string())),
        }
    }

    fn choose(&self, index: &Index) -> Result<Digest, ImageError> {
        let wanted = &self.inner.options.platform;
        match platform::select(&index.manifests, wanted) {
            Some(entry) => Ok(entry.digest),
            None => Err(ImageError::NoMatchingPlatform {
                image: self.reference.familiar(),
                wanted: wanted.to_string(),
                available: platform::available(&index.manifests),
            }),
        }
    }

    fn pin_blobs(&self, manifest_digest: Digest, manifest: &Manifest) -> PinGuard {
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        self.inner.pins.pin(layers.chain([manifest.config.digest, manifest_digest]))
    }

    /// Stores the manifest, fetches the configuration.
    async fn fetch_documents(
        &self,
        session: &Arc<Session>,
        raw: &RawManifest,
        manifest: &Manifest,
    ) -> Result<Vec<u8>, ImageError> {
        let config = manifest.config.clone();
        if config.size > MAX_DOCUMENT {
            return Err(self.malformed(format!("its configuration is {} bytes long", config.size)));
        }
        let digest = config.digest;
        blob::fetch(&self.inner, session, config, &Progress::none()).await?;
        let (inner, bytes, image) = (Arc::clone(&self.inner), raw.bytes.clone(), self.reference.familiar());
        blocking(move || {
            inner.layout.write_blob(&bytes)?;
            let config = inner.layout.read_blob(&digest, MAX_DOCUMENT)?;
            config.ok_or(ImageError::BlobMissing { digest, image })
        })
        .await
    }

    /// Writes record and name; says whether that changed anything.
    async fn commit(&self, id: Digest, record: crate::store::state::ImageRecord) -> Result<bool, ImageError> {
        // A pull by digest gives no name: a tag beside the digest is not checked by anybody.
        let tag = self.reference.digest().is_none().then(|| self.reference.clone());
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.update(|state| {
                let known = state.images.contains_key(&id);
                let named = tag.as_ref().is_none_or(|tag| state.tags.get(tag) == Some(&id));
                state.add(id, record, tag);
                Ok(!(known && named))
            })
        })
        .await
    }

    fn parse(&self, raw: &RawManifest) -> Result<Document, ImageError> {
        let not_an_image = |error: DocumentError| self.malformed(error.to_string());
        Document::parse(&raw.bytes, &raw.media_type).map_err(not_an_image)
    }

    fn malformed(&self, reason: String) -> ImageError {
        ImageError::Malformed { image: self.reference.familiar(), reason }
    }

    fn mismatch(&self, expected: Digest, actual: Digest) -> ImageError {
        let what = format!("the manifest of {}", self.reference.familiar());
        ImageError::DigestMismatch { what, expected, actual }
    }

    /// Tries a request until it succeeds, fails for good, or has failed too often.
    async fn retrying<T, Fut>(&self, request: impl Fn() -> Fut) -> Result<T, ImageError>
    where
        Fut: Future<Output = Result<T, RegistryError>>,
    {
        let mut backoff = Backoff::new(self.inner.options.retry);
        loop {
            let error = match request().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(delay) = backoff.next(&error, rand::random()) else {
                return Err(error.into());
            };
            self.progress.send(ProgressEvent::Retrying {
                layer: None,
                attempt: backoff.attempts(),
                reason: error.to_string(),
            });
            tokio::time::sleep(delay).await;
        }
    }
}
