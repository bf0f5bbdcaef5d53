//! What the store has for others: which references it has whole, and what each means. Reads only; the blobs themselves are
//! given by [`ImageStore::open_blob`], each of which is whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::state::ImageRecord;
use super::{ImageStore, Inner, MAX_DOCUMENT, blocking};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::pull::peers::SharedManifest;
use crate::reference::Reference;
use crate::spec::manifest::{Document, OCI_MANIFEST};
use crate::spec::platform::Platform;

impl ImageStore {
    /// Wakes at each change of images and names; look again then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// Every reference, by name and by digest, of images that are here with all their blobs.
    ///
    /// # Errors
    /// `Cancelled`, when the program ends.
    pub async fn whole(&self) -> Result<BTreeSet<Reference>, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let state = inner.state();
            let whole = state.images.iter().filter(|(id, record)| is_whole(&inner, id, record));
            Ok(whole.flat_map(|(id, record)| state.names(id).into_iter().chain(record.repo_digests.clone())).collect())
        })
        .await
    }

    /// What a reference means here, if its image is here with all its blobs and runs on such a platform (of which the variant
    /// does not count). A digest means the document that has it.
    ///
    /// # Errors
    /// The file system's.
    pub async fn shared_manifest(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<SharedManifest>, ImageError> {
        let (inner, reference, platform) = (Arc::clone(&self.inner), reference.clone(), platform.clone());
        blocking(move || {
            let state = inner.state();
            let Some(id) = state.by_reference(&reference) else { return Ok(None) };
            let Some(record) = state.images.get(&id) else { return Ok(None) };
            if !runs_on(&record.platform, &platform) || !is_whole(&inner, &id, record) {
                return Ok(None);
            }
            let Some(document) = inner.layout.read_blob(&top(&inner, record, &reference), MAX_DOCUMENT)? else {
                return Ok(None);
            };
            // The document says itself what it is, unless it is an OCI one.
            let media_type = match Document::parse(&document, OCI_MANIFEST) {
                Ok(document) => document.media_type().to_string(),
                Err(_) => return Ok(None),
            };
            Ok(Some(SharedManifest { media_type, document }))
        })
        .await
    }
}

/// The digest that a reference is known by: its own, that of the index it was pulled by, or the manifest's.
fn top(inner: &Inner, record: &ImageRecord, reference: &Reference) -> Digest {
    let own = reference.digest();
    let known = record.repo_digests.iter().filter(|known| known.name() == reference.name());
    let pulled = || known.filter_map(Reference::digest).find(|digest| inner.layout.has_blob(digest));
    own.or_else(pulled).unwrap_or(record.manifest)
}

fn is_whole(inner: &Inner, id: &Digest, record: &ImageRecord) -> bool {
    let blobs = record.layers.iter().map(|layer| &layer.blob).chain([id, &record.manifest]);
    blobs.into_iter().all(|blob| inner.layout.has_blob(blob))
}

/// `has` is `os/architecture[/variant]`, parts of which an image may leave open.
fn runs_on(has: &str, wanted: &Platform) -> bool {
    let mut parts = has.split('/');
    [&wanted.os, &wanted.architecture].into_iter().all(|wanted| match parts.next() {
        None | Some("") => true,
        Some(part) => part == wanted || wanted.is_empty(),
    })
}
