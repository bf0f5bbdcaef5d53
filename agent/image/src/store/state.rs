//! What the store knows: images by id, and names that point to them. Pure but for reading and writing
//! its one file, which is replaced as a whole: it is small (about 1 KiB per image) and rarely changes,
//! so an atomically replaced JSON file is as crash safe as a database and easier to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::replace_file;
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};
use crate::reference::Reference;

/// All images and names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// By image id, the digest of the configuration.
    pub images: BTreeMap<Digest, ImageRecord>,
    /// Names with a tag; a digest never stands here.
    pub tags: BTreeMap<Reference, Digest>,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub manifest: Digest,
    pub manifest_size: u64,
    pub config_size: u64,
    /// Lowest first.
    pub layers: Vec<LayerRecord>,
    /// `repository@digest`, the digest being that of the manifest or index it was pulled by.
    pub repo_digests: BTreeSet<Reference>,
    /// RFC 3339, from the configuration.
    pub created: Option<String>,
    /// Seconds since 1970.
    pub added: i64,
    pub platform: String,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// The compressed content.
    pub blob: Digest,
    /// Its size.
    pub size: u64,
    pub media_type: String,
    /// The uncompressed content.
    pub diff_id: Digest,
    /// Bytes in its files.
    pub unpacked: u64,
}

impl State {
    pub(crate) fn load(path: &Path) -> Result<State, ImageError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(error).doing(|| format!("read {}", path.display())),
        };
        serde_json::from_slice(&text)
            .map_err(|error| ImageError::Damaged { path: path.to_path_buf(), reason: error.to_string() })
    }

    pub(crate) fn store(&self, path: &Path) -> Result<(), ImageError> {
        let text = serde_json::to_vec_pretty(self).expect("the state has only string keys");
        replace_file(path, &text)
    }

    /// The names of an image, sorted.
    pub(crate) fn names(&self, id: &Digest) -> Vec<Reference> {
        self.tags.iter().filter(|(_, target)| *target == id).map(|(name, _)| name.clone()).collect()
    }

    /// Finds an image by what people type, in Docker's order: a full id, a name, the beginning of an id.
    pub(crate) fn resolve(&self, text: &str) -> Result<Digest, ImageError> {
        let not_found = || ImageError::NotFound { name: text.to_string() };
        let id = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(digest) = Digest::from_hex(id) {
            return self.images.contains_key(&digest).then_some(digest).ok_or_else(not_found);
        }
        let by_name = match Reference::parse(text) {
            Ok(reference) => self.by_reference(&reference),
            Err(error) if !is_id_prefix(id) => return Err(error.into()),
            Err(_) => None,
        };
        match by_name {
            Some(found) => Ok(found),
            None => self.by_prefix(id)?.ok_or_else(not_found),
        }
    }

    /// Finds an image by reference; where it has a digest, that alone counts, within its repository.
    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<Digest> {
        let Some(digest) = reference.digest() else {
            return self.tags.get(reference).copied();
        };
        let pinned = reference.with_digest(digest);
        self.images.iter().find(|(_, record)| record.repo_digests.contains(&pinned)).map(|(id, _)| *id)
    }

    fn by_prefix(&self, prefix: &str) -> Result<Option<Digest>, ImageError> {
        if !is_id_prefix(prefix) {
            return Ok(None);
        }
        let fits: Vec<Digest> = self.images.keys().filter(|id| id.hex().starts_with(prefix)).copied().collect();
        match fits.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            many => Err(ImageError::Ambiguous {
                prefix: prefix.to_string(),
                matches: many.iter().map(Digest::short).collect(),
            }),
        }
    }

    /// Adds an image, or what is new about one that is known. Returns its id.
    pub(crate) fn add(&mut self, id: Digest, record: ImageRecord, tag: Option<Reference>) {
        match self.images.get_mut(&id) {
            Some(known) => {
                let digests = std::mem::take(&mut known.repo_digests);
                *known = record;
                known.repo_digests.extend(digests);
            }
            None => {
                self.images.insert(id, record);
            }
        }
        if let Some(tag) = tag {
            self.tags.insert(tag, id);
        }
    }

    /// Every blob of an image: manifests, configurations, layers, and the indexes that led to them.
    pub(crate) fn live_blobs(&self) -> BTreeSet<Digest> {
        let mut live = BTreeSet::new();
        for (id, record) in &self.images {
            live.insert(*id);
            live.insert(record.manifest);
            live.extend(record.layers.iter().map(|layer| layer.blob));
            live.extend(record.repo_digests.iter().filter_map(Reference::digest));
        }
        live
    }

    /// Every name that an unpacked layer of an image may have.
    pub(crate) fn live_layers(&self) -> BTreeSet<Digest> {
        let mut live = BTreeSet::new();
        for record in self.images.values() {
            live.extend(record.layers.iter().map(|layer| layer.diff_id));
            live.extend(chain_ids(record.layers.iter().map(|layer| layer.diff_id)).iter().map(stack_key));
        }
        live
    }
}

fn is_id_prefix(text: &str) -> bool {
    !text.is_empty() && text.len() < 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The names of stacks of layers (OCI image-spec "Layer ChainID"), one per layer, lowest first.
pub(crate) fn chain_ids(diff_ids: impl IntoIterator<Item = Digest>) -> Vec<Digest> {
    let mut out: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let chain = match out.last() {
            None => diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        out.push(chain);
    }
    out
}

/// The name of a layer that holds only over the layers below it. Not the chain id itself: that of a
/// lowest layer is its diff id, which names layers that stand by themselves.
pub(crate) fn stack_key(chain_id: &Digest) -> Digest {
    Digest::of(format!("stack {chain_id}").as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record() -> ImageRecord {
        ImageRecord {
            manifest: Digest::of(b"m"),
            manifest_size: 1,
            config_size: 1,
            layers: Vec::new(),
            repo_digests: BTreeSet::new(),
            created: None,
            added: 0,
            platform: "linux/amd64".to_string(),
        }
    }

    #[test]
    fn names_ids_and_prefixes_resolve_in_dockers_order() {
        let mut state = State::default();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut pulled = record();
        let pinned = Reference::parse(&format!("me/app@{}", Digest::of(b"index"))).unwrap();
        pulled.repo_digests.insert(pinned.clone());
        state.add(a, pulled, Some(Reference::parse("me/app:1").unwrap()));
        // An image whose name looks like the beginning of the other's id.
        let tricky = a.hex()[..6].to_string();
        state.add(b, record(), Some(Reference::parse(&tricky).unwrap()));
        for (text, id) in [
            ("me/app:1", a),
            ("docker.io/me/app:1", a),
            (&a.to_string(), a),
            (&a.hex(), a),
            (&a.hex()[..12], a),
            (&format!("sha256:{}", &b.hex()[..9]), b),
            (&tricky, b),
            (&pinned.to_string(), a),
            (&format!("me/app:other@{}", Digest::of(b"index")), a),
        ] {
            assert_eq!(state.resolve(text).unwrap(), id, "{text}");
        }
        for text in ["me/app", "nope", &"0".repeat(64), "other/app:1"] {
            let result = state.resolve(text);
            assert!(matches!(result, Err(ImageError::NotFound { .. })), "{text}: {result:?}");
        }
        assert!(matches!(state.resolve("A b"), Err(ImageError::Reference(_))));
    }

    #[test]
    fn chains_follow_the_specification() {
        let ids = [Digest::of(b"1"), Digest::of(b"2")];
        let chains = chain_ids(ids);
        assert_eq!(chains[0], ids[0]);
        assert_eq!(chains[1], Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes()));
    }
}
