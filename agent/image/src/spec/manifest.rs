//! Manifests, indexes and descriptors (OCI image-spec "manifest.md", "image-index.md"; Docker's
//! "Image Manifest Version 2, Schema 2", whose JSON is the same but for the media types).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::null_is_default;
use super::platform::Platform;
use crate::digest::Digest;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// OCI layer, not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// OCI layer, gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// OCI layer, zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's first schema, which is refused.
pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// What is asked of a registry, in the order of preference.
pub const ACCEPT: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// A pointer to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// In an index: for which machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text by key.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor without platform and annotations.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor { media_type: media_type.to_string(), digest, size, platform: None, annotations: BTreeMap::new() }
    }

    /// True when it points to an index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }

    /// True when it points to an image manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_MANIFEST | DOCKER_MANIFEST)
    }
}

/// The manifest of one image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
}

/// An index of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What there is.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
}

/// Either document, told apart by content as much as by the declared media type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Box<Manifest>),
    /// A choice of images.
    Index(Index),
}

/// Why bytes are not a document of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Not JSON of the right shape.
    #[error("it is not a manifest: {0}")]
    Json(String),
    /// Docker schema 1, which no tool writes any more.
    #[error("it is in Docker's schema 1, which is too old: push the image again with a newer tool")]
    Schema1,
    /// An artifact that is not an image.
    #[error("it is {0:?}, not an image")]
    NotAnImage(String),
}

impl Document {
    /// What it says it is; where it says nothing, the OCI name.
    pub fn media_type(&self) -> &str {
        match self {
            Document::Manifest(manifest) => manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST),
            Document::Index(index) => index.media_type.as_deref().unwrap_or(OCI_INDEX),
        }
    }

    /// Reads a manifest or index. `declared` is the transport's media type, which counts where the
    /// document has none of its own.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(data: &[u8], declared: &str) -> Result<Document, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            #[serde(default)]
            schema_version: u32,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let json = |e: serde_json::Error| DocumentError::Json(e.to_string());
        let probe: Probe = serde_json::from_slice(data).map_err(json)?;
        if probe.schema_version == 1 || declared.starts_with(DOCKER_SCHEMA1) {
            return Err(DocumentError::Schema1);
        }
        let kind = probe.media_type.as_deref().unwrap_or(declared);
        let is_index = match kind {
            OCI_INDEX | DOCKER_LIST => true,
            OCI_MANIFEST | DOCKER_MANIFEST => false,
            _ => probe.manifests.is_some(),
        };
        if is_index {
            return Ok(Document::Index(serde_json::from_slice(data).map_err(json)?));
        }
        let manifest: Manifest = serde_json::from_slice(data).map_err(json)?;
        if !may_be_image(&manifest.config.media_type) {
            return Err(DocumentError::NotAnImage(manifest.config.media_type));
        }
        Ok(Document::Manifest(Box::new(manifest)))
    }
}

/// Charts, signatures and the like are told from images by the type of their configuration. Docker
/// once wrote `application/octet-stream`.
fn may_be_image(config: &str) -> bool {
    config.is_empty() || config.contains("image") || config == "application/octet-stream"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_decides_where_the_media_type_is_silent() {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(Document::parse(index, "").unwrap(), Document::Index(_)));
        let hex = "0".repeat(64);
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"","digest":"sha256:{hex}","size":1}},"layers":null}}"#
        );
        assert!(matches!(Document::parse(manifest.as_bytes(), "").unwrap(), Document::Manifest(_)));
        assert_eq!(Document::parse(br#"{"schemaVersion":1}"#, "").unwrap_err(), DocumentError::Schema1);
        assert!(Document::parse(b"<html>", "").is_err());
        assert!(Document::parse(br#"{"schemaVersion":2}"#, OCI_MANIFEST).is_err());
    }
}
