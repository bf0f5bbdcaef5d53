//! Questions about images: list, inspect, history, configuration. Reads only.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::state::{ImageRecord, State, chain_ids};
use super::{ImageStore, Inner, MAX_DOCUMENT, blocking};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::reference::Reference;
use crate::spec::config::ImageConfig;

/// One image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageSummary {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names, sorted; empty for a dangling image.
    pub names: Vec<Reference>,
    /// `repository@digest` by which it was pulled.
    pub repo_digests: Vec<Reference>,
    /// When it was made, RFC 3339, if its configuration says so.
    pub created: Option<String>,
    /// When it came into this store, seconds since 1970.
    pub added: i64,
    /// Bytes in the files of its layers.
    pub size: u64,
    /// Bytes of its blobs.
    pub blob_size: u64,
    /// Who holds leases on it.
    pub in_use_by: Vec<String>,
}

/// Everything about one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageDetails {
    /// As in lists.
    #[serde(flatten)]
    pub summary: ImageSummary,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Its layers, lowest first.
    pub layers: Vec<LayerDetails>,
    /// Its configuration document.
    pub config: ImageConfig,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerDetails {
    /// The blob.
    pub digest: Digest,
    /// What the manifest calls it.
    pub media_type: String,
    /// The blob's bytes.
    pub blob_size: u64,
    /// The uncompressed content.
    pub diff_id: Digest,
    /// Bytes in its files.
    pub size: u64,
    /// Where it is unpacked, if it is.
    pub path: Option<PathBuf>,
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryItem {
    /// The image's id on the newest line, as `docker history` shows it.
    pub id: Option<Digest>,
    /// RFC 3339.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes in the files of its layer; 0 when it made none.
    pub size: u64,
    /// A remark.
    pub comment: String,
    /// True when the step made no layer.
    pub empty_layer: bool,
}

impl ImageStore {
    /// All images, the newest in the store first.
    pub fn list(&self) -> Vec<ImageSummary> {
        let state = self.inner.state();
        let mut out: Vec<ImageSummary> =
            state.images.iter().map(|(id, record)| summary(&self.inner, &state, id, record)).collect();
        out.sort_by(|a, b| b.added.cmp(&a.added).then_with(|| a.names.cmp(&b.names)));
        out
    }

    /// Everything about the image that `name` means.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, `BlobMissing`.
    pub async fn inspect(&self, name: &str) -> Result<ImageDetails, ImageError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_string());
        blocking(move || {
            let state = inner.state();
            let id = state.resolve(&name)?;
            let record = record(&state, &id)?;
            Ok(ImageDetails {
                summary: summary(&inner, &state, &id, record),
                manifest: record.manifest,
                platform: record.platform.clone(),
                layers: layer_details(&inner, record)?,
                config: config(&inner, &id)?,
            })
        })
        .await
    }

    /// How the image came to be, the newest step first.
    ///
    /// # Errors
    /// `NotFound`, `Ambiguous`, `BlobMissing`.
    pub async fn history(&self, name: &str) -> Result<Vec<HistoryItem>, ImageError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_string());
        blocking(move || {
            let state = inner.state();
            let id = state.resolve(&name)?;
            let record = record(&state, &id)?;
            Ok(history(id, record, &config(&inner, &id)?))
        })
        .await
    }
}

/// The configuration of an image that the state knows. Blocks.
pub(crate) fn config(inner: &Inner, id: &Digest) -> Result<ImageConfig, ImageError> {
    let data = inner
        .layout
        .read_blob(id, MAX_DOCUMENT)?
        .ok_or_else(|| ImageError::BlobMissing { digest: *id, image: id.short() })?;
    serde_json::from_slice(&data).map_err(|error| ImageError::Malformed {
        image: id.to_string(),
        reason: format!("its configuration does not parse: {error}"),
    })
}

fn record<'a>(state: &'a State, id: &Digest) -> Result<&'a ImageRecord, ImageError> {
    state.images.get(id).ok_or_else(|| ImageError::NotFound { name: id.to_string() })
}

fn summary(inner: &Inner, state: &State, id: &Digest, record: &ImageRecord) -> ImageSummary {
    let layer_blobs: u64 = record.layers.iter().map(|layer| layer.size).sum();
    ImageSummary {
        id: *id,
        names: state.names(id),
        repo_digests: record.repo_digests.iter().cloned().collect(),
        created: record.created.clone(),
        added: record.added,
        size: record.layers.iter().map(|layer| layer.unpacked).sum(),
        blob_size: layer_blobs + record.manifest_size + record.config_size,
        in_use_by: inner.leases().owners_of(id),
    }
}

fn layer_details(inner: &Inner, record: &ImageRecord) -> Result<Vec<LayerDetails>, ImageError> {
    let chains = chain_ids(record.layers.iter().map(|layer| layer.diff_id));
    record
        .layers
        .iter()
        .zip(&chains)
        .map(|(layer, chain)| {
            let dir = inner.layout.find_layer(&layer.diff_id, chain)?;
            Ok(LayerDetails {
                digest: layer.blob,
                media_type: layer.media_type.clone(),
                blob_size: layer.size,
                diff_id: layer.diff_id,
                size: layer.unpacked,
                path: dir.map(|dir| dir.path),
            })
        })
        .collect()
}

/// Joins history steps with layers: steps that made one take them in order. Layers without a step
/// (images made by hand have no history) get an empty line.
fn history(id: Digest, record: &ImageRecord, config: &ImageConfig) -> Vec<HistoryItem> {
    let mut layers = record.layers.iter();
    let mut out: Vec<HistoryItem> = config
        .history
        .iter()
        .map(|step| HistoryItem {
            id: None,
            created: step.created.clone(),
            created_by: step.created_by.clone().unwrap_or_default(),
            size: if step.empty_layer { 0 } else { layers.next().map_or(0, |layer| layer.unpacked) },
            comment: step.comment.clone().unwrap_or_default(),
            empty_layer: step.empty_layer,
        })
        .collect();
    out.extend(layers.map(|layer| HistoryItem {
        id: None,
        created: config.created.clone(),
        created_by: String::new(),
        size: layer.unpacked,
        comment: String::new(),
        empty_layer: false,
    }));
    out.reverse();
    if let Some(newest) = out.first_mut() {
        newest.id = Some(id);
    }
    out
}
