//! Who uses which images: one small file per owner, so that taking a lease costs one rename and no
//! fsync. A lease guards against removal while its owner runs; owners do not survive a power loss, so
//! leases need not either, and they do survive the end of this process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::layout::{Layout, list, remove_any};
use crate::digest::Digest;
use crate::error::{ImageError, IoContext};

/// Leases by owner.
#[derive(Default)]
pub(crate) struct Leases {
    by_owner: BTreeMap<String, BTreeSet<Digest>>,
}

impl Leases {
    pub(crate) fn load(layout: &Layout) -> Result<Leases, ImageError> {
        let mut leases = Leases::default();
        for path in list(&layout.leases())? {
            let owner = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = std::fs::read(&path).doing(|| format!("read {}", path.display()))?;
            // Not synced: after a power loss it may be empty, and then its owner is gone too.
            match serde_json::from_slice(&text) {
                Ok(images) => {
                    leases.by_owner.insert(owner, images);
                }
                Err(_) => remove_any(&path)?,
            }
        }
        Ok(leases)
    }

    /// Who uses the image, sorted.
    pub(crate) fn owners_of(&self, id: &Digest) -> Vec<String> {
        self.by_owner.iter().filter(|(_, images)| images.contains(id)).map(|(owner, _)| owner.clone()).collect()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, BTreeSet<Digest>> {
        self.by_owner.clone()
    }

    /// Adds a lease; taking it twice is fine.
    pub(crate) fn take(&mut self, layout: &Layout, owner: &str, id: Digest) -> Result<(), ImageError> {
        check_owner(owner)?;
        let mut images = self.by_owner.get(owner).cloned().unwrap_or_default();
        if !images.insert(id) {
            return Ok(());
        }
        let context = || format!("write the lease of {owner}");
        let text = serde_json::to_vec(&images).expect("a list of strings is JSON");
        let mut file = tempfile::Builder::new().prefix("tmp-").tempfile_in(layout.leases()).doing(context)?;
        file.write_all(&text).doing(context)?;
        file.persist(layout.leases().join(owner)).map_err(|e| e.error).doing(context)?;
        self.by_owner.insert(owner.to_string(), images);
        Ok(())
    }

    /// Ends all leases of an owner; having none is fine.
    pub(crate) fn release(&mut self, layout: &Layout, owner: &str) -> Result<(), ImageError> {
        check_owner(owner)?;
        if self.by_owner.contains_key(owner) {
            remove_any(&layout.leases().join(owner))?;
            self.by_owner.remove(owner);
        }
        Ok(())
    }
}

fn check_owner(owner: &str) -> Result<(), ImageError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let valid = (1..=128).contains(&owner.len())
        && owner.bytes().all(good)
        && !owner.starts_with(['.'])
        && !owner.starts_with("tmp-")
        && !owner.starts_with("trash-");
    if valid {
        return Ok(());
    }
    Err(ImageError::LeaseOwner { owner: owner.to_string() })
}
