//! Spec versions of a service: which version a written spec gets, and which older specs are kept.
//!
//! A spec version is the log index of the write that brought the spec, so only the store can give it.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_proto::object::{Service, SpecRevision, SpecVersion};

/// Settles the spec version, the update's target and the kept specs of a service that is about to be written.
///
/// - An unchanged spec keeps its version, whatever the writer put there.
/// - A spec that is equal to an older revision that the service still has, and carries that revision's version, keeps
///   that version (a rollback). Every other changed spec gets `index`.
/// - An update whose target is 0 is one to this spec.
/// - `history` holds exactly those older specs that tasks still use (`in_use`) and that are not the current or the
///   previous one, oldest first; the writer's own `history` is ignored.
///
/// Returns `None` when the service is right as it is.
pub fn settle(
    old: Option<&Service>,
    new: &Service,
    in_use: impl FnOnce() -> BTreeSet<SpecVersion>,
    index: u64,
) -> Option<Service> {
    let spec_version = spec_version(old, new, index);
    let history = history(old, new, spec_version, in_use);
    let retarget = new.update.as_ref().is_some_and(|update| update.target == 0);
    if spec_version == new.spec_version && history == new.history && !retarget {
        return None;
    }
    let mut settled = Service { spec_version, history, ..new.clone() };
    if let Some(update) = settled.update.as_mut().filter(|_| retarget) {
        update.target = spec_version;
    }
    Some(settled)
}

fn spec_version(old: Option<&Service>, new: &Service, index: u64) -> SpecVersion {
    let Some(old) = old else { return index };
    let same = |spec: &Arc<_>| Arc::ptr_eq(spec, &new.spec) || **spec == *new.spec;
    if same(&old.spec) {
        return old.spec_version;
    }
    let is_known = old.spec_at(new.spec_version).is_some_and(same);
    if is_known { new.spec_version } else { index }
}

fn history(
    old: Option<&Service>,
    new: &Service,
    spec_version: SpecVersion,
    in_use: impl FnOnce() -> BTreeSet<SpecVersion>,
) -> Vec<SpecRevision> {
    let Some(old) = old else { return Vec::new() };
    let stays = |version: SpecVersion| {
        version == spec_version || new.previous.as_ref().is_some_and(|previous| previous.version == version)
    };
    let current = SpecRevision { version: old.spec_version, spec: Arc::clone(&old.spec) };
    let known = old.history.iter().chain(&old.previous).chain([&current]);
    let mut gone: Vec<&SpecRevision> = known.filter(|revision| !stays(revision.version)).collect();
    if gone.is_empty() {
        return Vec::new();
    }
    let in_use = in_use();
    gone.retain(|revision| in_use.contains(&revision.version));
    let mut kept: Vec<SpecRevision> = gone.into_iter().cloned().collect();
    kept.sort_by_key(|revision| revision.version);
    kept.dedup_by_key(|revision| revision.version);
    kept
}
