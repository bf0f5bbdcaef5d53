//! Finds the images in a spooled archive: by `index.json` (OCI layout, Docker ≥ 25) or by
//! `manifest.json` alone (older docker-archives). Reads documents only; stores nothing.

use std::collections::BTreeMap;

use super::spool::Spool;
use super::{DOCKER_MANIFEST_FILE, DockerImage, INDEX_FILE, NAME_ANNOTATION, REF_ANNOTATION};
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};
use crate::reference::Reference;
use crate::spec::manifest::{
    Descriptor, Document, Index, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::spec::platform::{self, Platform};
use crate::store::MAX_DOCUMENT;
use crate::store::layout::Layout;
use crate::unpack::source::Compression;

/// Indexes within indexes.
const MAX_DEPTH: usize = 4;

/// One image of an archive.
#[derive(Debug)]
pub(super) struct Found {
    /// The manifest's exact bytes; written by us where the archive has none.
    pub manifest_bytes: Vec<u8>,
    pub manifest: Manifest,
    pub names: Vec<Reference>,
}

/// Where the archive's blobs are looked for: in the archive, then in the store (an archive may leave
/// out what its writer thought was known).
pub(super) struct Source<'a> {
    pub spool: &'a Spool,
    pub layout: &'a Layout,
    pub platform: &'a Platform,
}

impl Source<'_> {
    /// All images for this platform.
    pub(super) fn images(&self) -> Result<Vec<Found>, ImageError> {
        if self.spool.is_empty() {
            return Err(broken("it is empty"));
        }
        let docker = self.docker_images()?;
        let mut out = match self.spool.digest(INDEX_FILE) {
            Some(digest) => self.index_images(&digest, docker.as_deref().unwrap_or_default())?,
            None => Vec::new(),
        };
        if out.is_empty() {
            let Some(docker) = &docker else {
                if !self.spool.is_complete() {
                    return Err(broken("it ends too early (truncated)"));
                }
                return Err(broken(
                    "it is neither a docker-archive nor an OCI layout: it has no manifest.json and no index.json",
                ));
            };
            out = docker.iter().map(|image| self.docker_image(image)).collect::<Result<_, _>>()?;
        }
        if out.is_empty() {
            return Err(broken("it has no images"));
        }
        Ok(out)
    }

    fn docker_images(&self) -> Result<Option<Vec<DockerImage>>, ImageError> {
        let Some(digest) = self.spool.digest(DOCKER_MANIFEST_FILE) else {
            return Ok(None);
        };
        let data = self.document(&digest, DOCKER_MANIFEST_FILE)?;
        serde_json::from_slice(&data)
            .map(Some)
            .map_err(|error| broken(format!("its manifest.json does not parse: {error}")))
    }

    fn index_images(&self, digest: &Digest, docker: &[DockerImage]) -> Result<Vec<Found>, ImageError> {
        let data = self.document(digest, INDEX_FILE)?;
        let index: Index =
            serde_json::from_slice(&data).map_err(|error| broken(format!("its index.json does not parse: {error}")))?;
        let mut out: Vec<Found> = Vec::new();
        for group in groups(index.manifests) {
            let (manifest_bytes, manifest) = self.choose(group.entries, &group.label, 0)?;
            let mut names = group.names;
            names.extend(docker_names(docker, &manifest.config.digest)?);
            names.sort();
            names.dedup();
            match out.iter_mut().find(|found| found.manifest == manifest) {
                Some(known) => known.names.extend(names),
                None => out.push(Found { manifest_bytes, manifest, names }),
            }
        }
        Ok(out)
    }

    /// Goes down from index entries to the manifest for this platform.
    fn choose(&self, entries: Vec<Descriptor>, label: &str, depth: usize) -> Result<(Vec<u8>, Manifest), ImageError> {
        let chosen = match entries.as_slice() {
            [only] if depth == 0 => only,
            _ => platform::select(&entries, self.platform).ok_or_else(|| ImageError::NoMatchingPlatform {
                image: label.to_string(),
                wanted: self.platform.to_string(),
                available: platform::available(&entries),
            })?,
        };
        let data = self.document(&chosen.digest, "a manifest")?;
        let document = Document::parse(&data, &chosen.media_type)
            .map_err(|error| broken(format!("manifest {}: {error}", chosen.digest)))?;
        match document {
            Document::Manifest(manifest) => Ok((data, *manifest)),
            Document::Index(index) if depth < MAX_DEPTH => self.choose(index.manifests, label, depth + 1),
            Document::Index(_) => Err(broken("its indexes are nested too deeply")),
        }
    }

    /// An old docker-archive has no manifest in the OCI sense: make one.
    fn docker_image(&self, image: &DockerImage) -> Result<Found, ImageError> {
        let missing = |what: &str| broken(format!("manifest.json names {what:?}, which is not in the archive"));
        let config = self.spool.digest(&image.config).ok_or_else(|| missing(&image.config))?;
        let mut layers = Vec::new();
        for name in image.layers.iter().flatten() {
            let digest = self.spool.digest(name).ok_or_else(|| missing(name))?;
            layers.push(self.layer_descriptor(digest)?);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_string()),
            config: Descriptor::new(OCI_CONFIG, config, self.size(&config)),
            layers,
        };
        let names = parse_names(image.repo_tags.iter().flatten())?;
        let manifest_bytes = serde_json::to_vec(&manifest).expect("a manifest has only string keys");
        Ok(Found { manifest_bytes, manifest, names })
    }

    fn layer_descriptor(&self, digest: Digest) -> Result<Descriptor, ImageError> {
        use std::io::Read;
        let mut head = Vec::new();
        if let Some(file) = self.spool.file(&digest) {
            let doing = || format!("read {}", file.path().display());
            std::fs::File::open(file.path()).and_then(|f| f.take(6).read_to_end(&mut head)).doing(doing)?;
        }
        let media_type = match Compression::sniff(&head) {
            Compression::Gzip => OCI_LAYER_GZIP,
            Compression::Zstd => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        };
        Ok(Descriptor::new(media_type, digest, self.size(&digest)))
    }

    fn size(&self, digest: &Digest) -> u64 {
        self.spool.file(digest).map_or(0, |file| file.size)
    }

    /// A document out of the archive or, failing that, the store.
    pub(super) fn document(&self, digest: &Digest, what: &str) -> Result<Vec<u8>, ImageError> {
        if let Some(data) = self.spool.read_small(digest, MAX_DOCUMENT)? {
            return Ok(data);
        }
        self.layout
            .read_blob(digest, MAX_DOCUMENT)?
            .ok_or_else(|| broken(format!("{what} ({digest}) is not in the archive")))
    }
}

/// Entries of an `index.json` that are one image: those that share a name, for several platforms.
struct Group {
    label: String,
    names: Vec<Reference>,
    entries: Vec<Descriptor>,
}

fn groups(entries: Vec<Descriptor>) -> Vec<Group> {
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    let mut out: Vec<Group> = Vec::new();
    for entry in entries.into_iter().filter(|entry| !is_attestation(entry)) {
        let name = name_of(&entry);
        let label = name.as_ref().map_or_else(|| entry.digest.to_string(), Reference::familiar);
        let same = named.get(&label).copied().filter(|_| entry.platform.is_some());
        match same {
            Some(group) => out[group].entries.push(entry),
            None => {
                named.insert(label.clone(), out.len());
                out.push(Group { label, names: name.into_iter().collect(), entries: vec![entry] });
            }
        }
    }
    out
}

/// BuildKit puts attestations beside images, for no platform.
fn is_attestation(entry: &Descriptor) -> bool {
    entry.annotations.contains_key("vnd.docker.reference.type")
        || entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// The full name in an entry's annotations. A bare tag is not a name.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(NAME_ANNOTATION);
    let loose = entry.annotations.get(REF_ANNOTATION).filter(|text| text.contains([':', '/']));
    let reference = Reference::parse(full.or(loose)?).ok()?;
    (reference.digest().is_none()).then_some(reference)
}

fn docker_names(docker: &[DockerImage], config: &Digest) -> Result<Vec<Reference>, ImageError> {
    let hex = config.hex();
    let tags =
        docker.iter().filter(|image| image.config.contains(&hex)).flat_map(|image| image.repo_tags.iter().flatten());
    parse_names(tags)
}

fn parse_names<'a>(names: impl Iterator<Item = &'a String>) -> Result<Vec<Reference>, ImageError> {
    names
        .filter(|name| !name.contains("<none>"))
        .map(|name| Reference::parse(name).map_err(|error| broken(error.to_string())))
        .collect()
}

pub(super) fn broken(reason: impl Into<String>) -> ImageError {
    ImageError::Archive { reason: reason.into() }
}
