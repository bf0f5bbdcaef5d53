//! A whole image into the store, from a registry or from other stores. The caller decides whether to pull at all, and who says
//! what a reference means.
//!
//! | file | what |
//! |---|---|
//! | `documents.rs` | what a reference means: manifest and configuration |
//! | `blob.rs`, `part.rs` | one blob, from whoever has it; what is on disk of it |
//! | `source.rs` | what registries and other stores have in common |
//! | `peers.rs`, `origins.rs` | other stores: found, asked, chosen among |
//!
//! Single flight twice: pulls of the same reference share everything, pulls of different images share
//! the layers they have in common. Dropping the future stops the work; what was downloaded stays as a
//! partial file and is resumed by the next pull.

mod blob;
mod documents;
mod origins;
mod part;
pub mod peers;
mod source;

use std::sync::Arc;

use futures::FutureExt;

use crate::archive::load::record_of;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::progress::{LayerState, Progress, ProgressEvent};
use crate::reference::Reference;
use crate::registry::credentials::RegistryAuth;
use crate::registry::error::RegistryError;
use crate::spec::manifest::Descriptor;
use crate::store::layers::{Fetch, ensure_layers, layer_pins};
use crate::store::{Inner, blocking};
use documents::Documents;
use origins::{Nodes, Origins};

pub(crate) use part::PartLocks;
pub(crate) use peers::PeerError;
use peers::Peers;

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

/// Who says what a reference means. Blobs come from other stores, where there are any, before the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authority {
    /// The registry alone.
    Registry,
    /// The registry; other stores when it cannot be asked. Those that it refuses access get nothing from others either.
    RegistryFirst,
    /// Other stores; the registry when none has it.
    PeersFirst,
}

/// Where a pull looks.
#[derive(Clone)]
pub struct PullFrom {
    /// For the registry.
    pub auth: RegistryAuth,
    /// Finds other stores; without it there is the registry alone.
    pub peers: Option<Arc<dyn Peers>>,
    /// Who says what the reference means.
    pub authority: Authority,
}

impl PullFrom {
    /// The registry and nobody else.
    pub fn registry(auth: RegistryAuth) -> PullFrom {
        PullFrom { auth, peers: None, authority: Authority::Registry }
    }
}

/// See [`crate::ImageStore::pull`].
pub(crate) async fn pull(
    inner: &Arc<Inner>,
    reference: &Reference,
    from: PullFrom,
    progress: &Progress,
) -> Result<PulledImage, ImageError> {
    loop {
        let landed = inner
            .pulls
            .run(&(reference.clone(), from.authority), progress, |progress| {
                let stall = inner.options.retry.stall_timeout;
                let nodes = from.peers.clone().map(|peers| Arc::new(Nodes::new(peers, reference.clone(), stall)));
                let (auth, authority) = (from.auth.clone(), from.authority);
                let inner = Arc::clone(inner);
                Puller { inner, reference: reference.clone(), auth, authority, nodes, progress }.run().boxed()
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
    authority: Authority,
    nodes: Option<Arc<Nodes>>,
    progress: Progress,
}

impl Puller {
    async fn run(self) -> Result<PulledImage, ImageError> {
        let Some(nodes) = &self.nodes else { return self.by_registry().await };
        match self.authority {
            Authority::Registry => self.by_registry().await,
            Authority::RegistryFirst => match self.by_registry().await {
                Err(error) if error.is_local() || is_refusal(&error) => Err(error),
                Err(registry) => self.by_nodes(nodes).await.map_err(|peers| registry.nor_from_peers(peers)),
                done => done,
            },
            Authority::PeersFirst => match self.by_nodes(nodes).await {
                Err(error) if error.is_local() => Err(error),
                Err(peers) => self.by_registry().await.map_err(|registry| registry.nor_from_peers(peers)),
                done => done,
            },
        }
    }

    async fn by_registry(&self) -> Result<PulledImage, ImageError> {
        let session = self.connect().await?;
        let documents = self.documents_of_registry(&session).await?;
        self.complete(documents, Arc::new(Origins::new(Some(session), self.nodes.clone()))).await
    }

    async fn by_nodes(&self, nodes: &Arc<Nodes>) -> Result<PulledImage, ImageError> {
        let origins = Arc::new(Origins::new(None, Some(Arc::clone(nodes))));
        let documents = self.documents_of_nodes(nodes.holders().await?, &origins).await?;
        self.complete(documents, origins).await
    }

    /// Brings everything that the documents name, and writes the record.
    async fn complete(&self, documents: Documents, origins: Arc<Origins>) -> Result<PulledImage, ImageError> {
        let Documents { top, manifest_digest, manifest_size, manifest, .. } = &documents;
        let config = self.configuration(&documents, &origins).await?;
        let mut record = record_of(manifest, *manifest_digest, *manifest_size, &config)?;
        let _layers_pinned = self.inner.pins.pin(layer_pins(&record.layers));
        self.progress.send(ProgressEvent::Resolved {
            manifest: *manifest_digest,
            layers: record.layers.iter().map(|layer| (layer.blob, layer.size)).collect(),
        });
        for layer in &record.layers {
            self.progress.layer(layer.blob, LayerState::Waiting);
        }
        let fetch = |layer: crate::store::state::LayerRecord| {
            let (inner, origins, progress) = (Arc::clone(&self.inner), Arc::clone(&origins), self.progress.clone());
            let blob = Descriptor::new(&layer.media_type, layer.blob, layer.size);
            async move { blob::fetch(&inner, &origins, blob, &progress).await }
        };
        let dirs = ensure_layers(&self.inner, &record.layers, &self.progress, Fetch::Always, fetch).await?;
        for (layer, dir) in record.layers.iter_mut().zip(dirs) {
            layer.unpacked = dir.bytes;
        }
        let repo_digest = self.reference.with_digest(*top);
        record.repo_digests.insert(repo_digest.clone());
        let id = manifest.config.digest;
        let changed = self.commit(id, record).await?;
        self.progress.send(ProgressEvent::Done { name: Some(self.reference.familiar()), id });
        Ok(PulledImage { id, repo_digest, changed })
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
}

/// True when the registry does not let this node have it.
fn is_refusal(error: &ImageError) -> bool {
    matches!(error, ImageError::Registry(RegistryError::Unauthorized { .. }))
}
