//! Names given and taken away, and the sweeping of content that no image needs any more.
//!
//! Order: the state forgets first, durably; content goes later. A crash in between leaves garbage that
//! the next sweep takes, never an image without content.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::layout::{list, remove_any};
use super::state::State;
use super::{ImageStore, Inner, blocking};
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};
use crate::reference::Reference;
use crate::spec::config::ImageConfig;

/// What a removal did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoveReport {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// Images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes of disk given back, blobs and unpacked files.
    pub reclaimed: u64,
}

/// What a prune did.
pub type PruneReport = RemoveReport;

/// Which unused images a prune takes, beside `all`; every condition must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// In the store since before this time, seconds since 1970 (`until`).
    pub added_before: Option<i64>,
    /// Has this label, with this value if one is given (`label`).
    pub labels: Vec<(String, Option<String>)>,
    /// Does not have this label (`label!`).
    pub not_labels: Vec<(String, Option<String>)>,
}

impl ImageStore {
    /// Gives the image that `source` means one more name; the name is taken from the image that had it.
    ///
    /// # Errors
    /// `NotFound`; `TagWithDigest` when `target` has a digest.
    pub async fn tag(&self, source: &str, target: &Reference) -> Result<(), ImageError> {
        if target.digest().is_some() {
            return Err(ImageError::TagWithDigest { reference: target.familiar() });
        }
        let (inner, source, target) = (Arc::clone(&self.inner), source.to_string(), target.clone());
        blocking(move || {
            inner.update(|state| {
                let id = state.resolve(&source)?;
                state.tags.insert(target, id);
                Ok(())
            })
        })
        .await
    }

    /// Takes a name away, and the image with its last name. Given an id, takes the image with its one
    /// name. An image in use is not removed; with `force` its names go and its content stays until the
    /// last lease ends and a prune takes it.
    ///
    /// # Errors
    /// `NotFound`; `InUse`; `ManyNames` for an id with several names. Not with `force`, except `NotFound`.
    pub async fn remove(&self, name: &str, force: bool) -> Result<RemoveReport, ImageError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_string());
        blocking(move || remove(&inner, &name, force)).await
    }

    /// Removes unused images: those without a name, or with `all` every image without a lease. Partial
    /// downloads go too.
    ///
    /// # Errors
    /// The file system's.
    pub async fn prune(&self, all: bool, filter: PruneFilter) -> Result<PruneReport, ImageError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || prune(&inner, all, &filter)).await
    }
}

fn remove(inner: &Inner, name: &str, force: bool) -> Result<RemoveReport, ImageError> {
    // Leases cannot be taken in between: lease() takes this lock too.
    let leases = inner.leases();
    let mut report = inner.update(|state| {
        let id = state.resolve(name)?;
        let names = state.names(&id);
        let owners = leases.owners_of(&id);
        let untag = names_meant(state, name, &id, &names, force)?;
        let last = untag.len() == names.len();
        if last && !owners.is_empty() && !force {
            return Err(ImageError::InUse { image: name.to_string(), owners });
        }
        let mut report = RemoveReport::default();
        for name in untag {
            state.tags.remove(&name);
            report.untagged.push(name);
        }
        if last && owners.is_empty() {
            state.images.remove(&id);
            report.deleted.push(id);
        }
        Ok(report)
    })?;
    drop(leases);
    report.reclaimed = sweep(inner)?;
    Ok(report)
}

/// The names that go: the one that was given, or all of an image given by id or digest.
fn names_meant(
    state: &State,
    text: &str,
    id: &Digest,
    names: &[Reference],
    force: bool,
) -> Result<Vec<Reference>, ImageError> {
    if let Ok(reference) = Reference::parse(text)
        && state.tags.get(&reference) == Some(id)
    {
        return Ok(vec![reference]);
    }
    if names.len() > 1 && !force {
        return Err(ImageError::ManyNames {
            image: id.short(),
            names: names.iter().map(Reference::familiar).collect(),
        });
    }
    Ok(names.to_vec())
}

fn prune(inner: &Inner, all: bool, filter: &PruneFilter) -> Result<PruneReport, ImageError> {
    let leases = inner.leases();
    let mut report = inner.update(|state| {
        let mut report = PruneReport::default();
        let ids: Vec<Digest> = state.images.keys().copied().collect();
        for id in ids {
            let names = state.names(&id);
            let unused = leases.owners_of(&id).is_empty() && (all || names.is_empty());
            if !unused || !passes(inner, state, &id, filter) {
                continue;
            }
            for name in names {
                state.tags.remove(&name);
                report.untagged.push(name);
            }
            state.images.remove(&id);
            report.deleted.push(id);
        }
        Ok(report)
    })?;
    drop(leases);
    report.reclaimed = sweep(inner)? + sweep_partial(inner)?;
    Ok(report)
}

fn passes(inner: &Inner, state: &State, id: &Digest, filter: &PruneFilter) -> bool {
    let added = state.images.get(id).map_or(0, |record| record.added);
    if filter.added_before.is_some_and(|limit| added >= limit) {
        return false;
    }
    if filter.labels.is_empty() && filter.not_labels.is_empty() {
        return true;
    }
    let config: ImageConfig = super::query::config(inner, id).unwrap_or_default();
    let has = |wanted: &(String, Option<String>)| has_label(&config.config.labels, wanted);
    filter.labels.iter().all(has) && !filter.not_labels.iter().any(has)
}

fn has_label(labels: &BTreeMap<String, String>, (key, value): &(String, Option<String>)) -> bool {
    match (labels.get(key), value) {
        (Some(found), Some(wanted)) => found == wanted,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Removes every blob and layer that no image names and no running work has pinned. Returns the bytes
/// of disk given back.
fn sweep(inner: &Inner) -> Result<u64, ImageError> {
    let layout = &inner.layout;
    let mut reclaimed = 0;
    for (dir, live_of) in
        [(layout.blobs(), State::live_blobs as fn(&State) -> _), (layout.layers(), State::live_layers)]
    {
        let mut known = inner.state();
        let mut live = live_of(&known);
        for path in list(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Ok(digest) = Digest::from_hex(&name) else {
                continue;
            };
            let trash = dir.join(format!("trash-{name}"));
            let taken = inner.pins.unless_pinned(&digest, || {
                // Read under the lock of the pins: work names its image before it unpins.
                let state = inner.state();
                if !Arc::ptr_eq(&state, &known) {
                    live = live_of(&state);
                    known = state;
                }
                if live.contains(&digest) {
                    return Ok(false);
                }
                match std::fs::rename(&path, &trash) {
                    // Another sweep, which listed it too, has taken it.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
                    renamed => renamed.doing(|| format!("remove {}", path.display())).map(|()| true),
                }
            })?;
            if taken == Some(true) {
                reclaimed += disk_usage(&trash);
                remove_any(&trash)?;
            }
        }
    }
    layout.sweep_links()?;
    Ok(reclaimed)
}

/// Removes partial downloads that nobody works on.
fn sweep_partial(inner: &Inner) -> Result<u64, ImageError> {
    let mut reclaimed = 0;
    for path in list(&inner.layout.ingest())? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(digest) = Digest::from_hex(&stem) else {
            continue;
        };
        let taken = inner.pins.unless_pinned(&digest, || {
            let size = disk_usage(&path);
            remove_any(&path).map(|()| size)
        })?;
        reclaimed += taken.unwrap_or(0);
    }
    Ok(reclaimed)
}

/// Bytes of disk below a path; what cannot be read counts as nothing.
fn disk_usage(path: &Path) -> u64 {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return 0;
    };
    // A file with several links is counted in parts, so that its sum is right.
    let own = meta.blocks() * 512 / if meta.is_dir() { 1 } else { meta.nlink().max(1) };
    if !meta.is_dir() {
        return own;
    }
    let below: u64 =
        std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| disk_usage(&entry.path())).sum();
    own + below
}
