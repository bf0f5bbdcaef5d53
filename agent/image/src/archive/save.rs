//! Writes images into one tar that is an OCI layout and a docker-archive at the same time, as Docker
//! does since version 25. The same images give the same bytes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::io::SyncIoBridge;

use super::{DOCKER_MANIFEST_FILE, DockerImage, INDEX_FILE, NAME_ANNOTATION, OCI_LAYOUT_FILE, REF_ANNOTATION};
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};
use crate::reference::Reference;
use crate::spec::manifest::{Descriptor, Document, Index, Manifest, OCI_INDEX, OCI_MANIFEST};
use crate::store::pins::PinGuard;
use crate::store::state::ImageRecord;
use crate::store::{Inner, MAX_DOCUMENT, blocking};

/// An image to be written, its blobs pinned.
struct Chosen {
    manifest_digest: Digest,
    manifest_size: u64,
    manifest: Manifest,
    names: BTreeSet<Reference>,
    _pinned: PinGuard,
}

/// See [`crate::ImageStore::save`].
pub(crate) async fn save<W>(inner: &Arc<Inner>, names: &[String], writer: W) -> Result<(), ImageError>
where
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (inner, names) = (Arc::clone(inner), names.to_vec());
    blocking(move || {
        let chosen = choose(&inner, &names)?;
        let bridge = SyncIoBridge::new(writer);
        let mut archive = Archive { inner: &inner, tar: tar::Builder::new(bridge), written: BTreeSet::new() };
        archive.write(&chosen)?;
        let doing = || "write the image archive".to_string();
        let mut bridge = archive.tar.into_inner().doing(doing)?;
        bridge.flush().doing(doing)?;
        let mut writer = bridge.into_inner();
        tokio::runtime::Handle::current().block_on(writer.shutdown()).doing(doing)
    })
    .await
}

fn choose(inner: &Inner, names: &[String]) -> Result<Vec<Chosen>, ImageError> {
    let state = inner.state();
    let mut out: BTreeMap<Digest, Chosen> = BTreeMap::new();
    for name in names {
        let id = state.resolve(name)?;
        let record = state.images.get(&id).ok_or_else(|| ImageError::NotFound { name: name.clone() })?;
        let chosen = match out.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(pin_image(inner, name, id, record)?),
        };
        // A name that was given is kept; an id gives none.
        if let Ok(reference) = Reference::parse(name)
            && state.tags.get(&reference) == Some(&id)
        {
            chosen.names.insert(reference);
        }
    }
    Ok(out.into_values().collect())
}

fn pin_image(inner: &Inner, name: &str, id: Digest, record: &ImageRecord) -> Result<Chosen, ImageError> {
    let blobs = record.layers.iter().map(|layer| layer.blob);
    let pinned = inner.pins.pin(blobs.chain([id, record.manifest]));
    let missing = || ImageError::BlobMissing { digest: record.manifest, image: name.to_string() };
    let data = inner.layout.read_blob(&record.manifest, MAX_DOCUMENT)?.ok_or_else(missing)?;
    let Ok(Document::Manifest(manifest)) = Document::parse(&data, OCI_MANIFEST) else {
        return Err(missing());
    };
    Ok(Chosen {
        manifest_digest: record.manifest,
        manifest_size: record.manifest_size,
        manifest: *manifest,
        names: BTreeSet::new(),
        _pinned: pinned,
    })
}

struct Archive<'a, W: Write> {
    inner: &'a Inner,
    tar: tar::Builder<W>,
    written: BTreeSet<Digest>,
}

impl<W: Write> Archive<'_, W> {
    fn write(&mut self, images: &[Chosen]) -> Result<(), ImageError> {
        self.directory("blobs/")?;
        self.directory("blobs/sha256/")?;
        for image in images {
            self.blob(&image.manifest_digest)?;
            self.blob(&image.manifest.config.digest)?;
            for layer in &image.manifest.layers {
                self.blob(&layer.digest)?;
            }
        }
        self.file(OCI_LAYOUT_FILE, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file(INDEX_FILE, &json(&index_of(images)))?;
        let docker: Vec<DockerImage> = images.iter().map(docker_image).collect();
        self.file(DOCKER_MANIFEST_FILE, &json(&docker))
    }

    fn blob(&mut self, digest: &Digest) -> Result<(), ImageError> {
        if !self.written.insert(*digest) {
            return Ok(());
        }
        let mut file = self
            .inner
            .layout
            .open_blob(digest)?
            .ok_or_else(|| ImageError::BlobMissing { digest: *digest, image: "to be saved".to_string() })?;
        let size = file.metadata().doing(|| format!("read blob {digest}"))?.len();
        self.append(&blob_path(digest), size, tar::EntryType::Regular, &mut file)
    }

    fn file(&mut self, name: &str, data: &[u8]) -> Result<(), ImageError> {
        self.append(name, data.len() as u64, tar::EntryType::Regular, &mut &*data)
    }

    fn directory(&mut self, name: &str) -> Result<(), ImageError> {
        self.append(name, 0, tar::EntryType::Directory, &mut io::empty())
    }

    fn append(
        &mut self,
        name: &str,
        size: u64,
        kind: tar::EntryType,
        data: &mut dyn io::Read,
    ) -> Result<(), ImageError> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar.append_data(&mut header, name, data).doing(|| "write the image archive".to_string())
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these documents have only string keys")
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker_image(image: &Chosen) -> DockerImage {
    DockerImage {
        config: blob_path(&image.manifest.config.digest),
        repo_tags: Some(image.names.iter().map(Reference::familiar).collect()),
        layers: Some(image.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect()),
    }
}

/// One entry per name, as containerd and Docker write it; one without annotations for no name.
fn index_of(images: &[Chosen]) -> Index {
    let mut manifests = Vec::new();
    for image in images {
        let media_type = image.manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
        let plain = Descriptor::new(media_type, image.manifest_digest, image.manifest_size);
        if image.names.is_empty() {
            manifests.push(plain.clone());
        }
        for name in &image.names {
            let mut entry = plain.clone();
            entry.annotations.insert(NAME_ANNOTATION.to_string(), name.to_string());
            let tag = name.tag().unwrap_or_default().to_string();
            entry.annotations.insert(REF_ANNOTATION.to_string(), tag);
            manifests.push(entry);
        }
    }
    Index { schema_version: 2, media_type: Some(OCI_INDEX.to_string()), manifests }
}
