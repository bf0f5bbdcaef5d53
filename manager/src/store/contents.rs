//! Contents of configs and secrets: which older ones are kept beside the newest.
//!
//! An object keeps exactly those older contents that a service may still show: by its current spec, by the one that a
//! rollback goes to, or by one that a living task runs. Part of applying a transaction, so that it holds after each of them
//! and costs nothing in the log.

use std::collections::BTreeSet;

use berth_proto::content::ContentDigest;
use berth_proto::object::{Content, FileObject, Service, SpecVersion, Task};
use berth_proto::spec::{FileMount, ServiceSpec};

use super::event::Event;
use super::object::{Object, ObjectKind};
use super::state::State;

/// A content, as a spec names it.
type Use<'a> = (ObjectKind, &'a str, ContentDigest);

/// References of a spec to configs and secrets.
pub fn references(spec: &ServiceSpec) -> impl Iterator<Item = (ObjectKind, &FileMount)> {
    let container = &spec.task.container;
    let configs = container.configs.iter().map(|file| (ObjectKind::Config, file));
    configs.chain(container.secrets.iter().map(|file| (ObjectKind::Secret, file)))
}

/// A written config or secret with its digest, and with the content it had before kept. `None` when it is right as it is.
pub fn settle<T: FileObject>(old: Option<&T>, new: &T) -> Option<T> {
    let digest = new.computed_digest();
    let mut earlier: Vec<Content> = old.map(|old| old.earlier().to_vec()).unwrap_or_default();
    earlier.extend(old.map(FileObject::newest));
    earlier.retain(|content| content.digest != digest);
    let is_right = digest == new.digest() && earlier == new.earlier();
    (!is_right).then(|| new.clone().keeping(digest, earlier))
}

/// The object without the contents that no service shows any more. `None` when every one is shown.
pub fn pruned<T: FileObject>(state: &State, object: &T) -> Option<T> {
    if object.earlier().is_empty() {
        return None;
    }
    let shown = shown(state, T::KIND, object.name());
    let kept: Vec<Content> =
        object.earlier().iter().filter(|content| shown.contains(&content.digest)).cloned().collect();
    (kept.len() < object.earlier().len()).then(|| object.clone().keeping(object.digest(), kept))
}

/// Kind and name of the objects whose older contents lost a user by `events`.
pub fn touched(state: &State, events: &[Event]) -> BTreeSet<(ObjectKind, String)> {
    let mut touched = BTreeSet::new();
    let mut lost = |uses: BTreeSet<Use<'_>>| {
        touched.extend(uses.into_iter().map(|(kind, name, _)| (kind, name.to_owned())));
    };
    for event in events {
        match (event.before(), event.after()) {
            (_, Some(Object::Config(it))) => lost([(ObjectKind::Config, it.name(), it.digest)].into()),
            (_, Some(Object::Secret(it))) => lost([(ObjectKind::Secret, it.name(), it.digest)].into()),
            (Some(Object::Service(old)), None) => {
                lost(held(old));
                lost(old.history.iter().flat_map(|older| uses(&older.spec)).collect());
            }
            // What tasks hold beyond that, they lose when they end.
            (Some(Object::Service(old)), Some(Object::Service(new))) => lost(&held(old) - &held(new)),
            (Some(Object::Task(old)), after) => {
                let lives = matches!(after, Some(Object::Task(task)) if !task.status.state.is_terminal());
                if let Some(spec) = state.spec_of(old).filter(|_| !lives && is_old(state, old)) {
                    lost(uses(spec).collect());
                }
            }
            _ => {}
        }
    }
    touched
}

fn shown(state: &State, kind: ObjectKind, name: &str) -> BTreeSet<ContentDigest> {
    let mut shown = BTreeSet::new();
    for service in state.services() {
        let mut note = |spec: &ServiceSpec| {
            let of_object = uses(spec).filter(|(of, named, _)| (*of, *named) == (kind, name));
            shown.extend(of_object.map(|(_, _, digest)| digest));
        };
        note(&service.spec);
        service.previous.iter().for_each(|previous| note(&previous.spec));
        if !service.history.is_empty() {
            let living = state.tasks_of_service(service.id).filter(|task| !task.status.state.is_terminal());
            let living: BTreeSet<SpecVersion> = living.map(|task| task.spec_version).collect();
            service.history.iter().filter(|older| living.contains(&older.version)).for_each(|older| note(&older.spec));
        }
    }
    shown
}

/// What the current spec and the one that a rollback goes to name.
fn held(service: &Service) -> BTreeSet<Use<'_>> {
    let previous = service.previous.iter().map(|previous| &previous.spec);
    std::iter::once(&service.spec).chain(previous).flat_map(|spec| uses(spec)).collect()
}

fn uses(spec: &ServiceSpec) -> impl Iterator<Item = Use<'_>> {
    references(spec).filter_map(|(kind, file)| Some((kind, file.source.as_str(), file.digest?)))
}

/// The task runs a spec that its service keeps only for its tasks.
fn is_old(state: &State, task: &Task) -> bool {
    let Some(service) = state.service(task.service) else { return false };
    let previous = service.previous.as_ref().map(|previous| previous.version);
    task.spec_version != service.spec_version && Some(task.spec_version) != previous
}
