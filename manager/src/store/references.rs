//! References between objects: what is written refers to what exists, and what is used is not removed.
//!
//! Checked on the state after the whole transaction, so that one transaction may bring an object and its users.

use std::collections::BTreeSet;

use berth_proto::content::ContentDigest;
use berth_proto::object::{FileObject, Service, Task};
use berth_proto::spec::{FileMount, INGRESS_NETWORK, MountKind, ServiceSpec};

use super::conflict::Conflict;
use super::contents;
use super::event::Event;
use super::object::{Object, ObjectKind, ObjectRef};
use super::state::State;

/// Networks that are always there: names that no network of a person may have.
pub const BUILT_IN_NETWORKS: [&str; 5] = ["host", "none", "bridge", "default", INGRESS_NETWORK];

/// Checks the references that `events` may have broken.
pub fn check(state: &State, events: &[Event]) -> Result<(), Conflict> {
    for event in events {
        match (event.before(), event.after()) {
            (None, Some(Object::Task(task))) => check_task(state, task)?,
            (Some(Object::Task(old)), Some(Object::Task(task))) if old.spec_version != task.spec_version => {
                check_task(state, task)?;
            }
            (None, Some(Object::Service(service))) => check_service(state, service)?,
            (Some(Object::Service(old)), Some(Object::Service(service))) if old.spec != service.spec => {
                check_service(state, service)?;
            }
            (Some(Object::Config(old)), Some(Object::Config(new))) => check_moved(state, &**old, new.digest)?,
            (Some(Object::Secret(old)), Some(Object::Secret(new))) => check_moved(state, &**old, new.digest)?,
            (Some(gone), None) => check_unused(state, gone)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_task(state: &State, task: &Task) -> Result<(), Conflict> {
    let object = ObjectRef::Task(task.id);
    // As it is after the transaction, as below.
    let Some(task) = state.task(task.id) else { return Ok(()) };
    let Some(service) = state.service(task.service) else {
        return Err(Conflict::Missing { object, kind: ObjectKind::Service, name: task.service.to_string() });
    };
    if service.spec_at(task.spec_version).is_none() {
        let name = format!("{} at spec version {}", service.spec.name, task.spec_version);
        return Err(Conflict::Missing { object, kind: ObjectKind::Service, name });
    }
    Ok(())
}

fn check_service(state: &State, service: &Service) -> Result<(), Conflict> {
    // As it is after the transaction, which may have written it more than once, or removed it again.
    let Some(service) = state.service(service.id) else { return Ok(()) };
    let missing =
        |kind, name: &str| Conflict::Missing { object: ObjectRef::Service(service.id), kind, name: name.to_owned() };
    for (kind, name) in names_used(&service.spec) {
        let exists = match kind {
            ObjectKind::Network => BUILT_IN_NETWORKS.contains(&name) || state.network_by_name(name).is_some(),
            ObjectKind::Config => state.config_by_name(name).is_some(),
            ObjectKind::Secret => state.secret_by_name(name).is_some(),
            // A volume is made on the node when it is first used.
            _ => true,
        };
        if !exists {
            return Err(missing(kind, name));
        }
    }
    for (kind, file) in contents::references(&service.spec) {
        let Some(digest) = file.digest else { continue };
        let has = match kind {
            ObjectKind::Config => state.config_by_name(&file.source).is_some_and(|config| config.has(digest)),
            _ => state.secret_by_name(&file.source).is_some_and(|secret| secret.has(digest)),
        };
        if !has {
            return Err(missing(kind, &format!("{} with the content {digest}", file.source)));
        }
    }
    Ok(())
}

/// Whoever replaces a content brings the services that show it to the new one: also one that came in between.
fn check_moved<T: FileObject>(state: &State, old: &T, new: ContentDigest) -> Result<(), Conflict> {
    if old.digest() == new {
        return Ok(());
    }
    let names = |(kind, file): (ObjectKind, &FileMount)| {
        (kind, file.source.as_str(), file.digest) == (T::KIND, old.name(), Some(old.digest()))
    };
    let behind = state.services().find(|it| !it.pending_delete && contents::references(&it.spec).any(names));
    match behind {
        Some(service) => {
            Err(Conflict::Behind { object: service.id.into(), kind: T::KIND, name: old.name().to_owned() })
        }
        None => Ok(()),
    }
}

fn check_unused(state: &State, gone: &Object) -> Result<(), Conflict> {
    let object = gone.reference();
    match gone {
        Object::Service(service) => {
            let mut tasks = state.tasks_of_service(service.id);
            let Some(first) = tasks.next() else { return Ok(()) };
            Err(Conflict::InUse {
                object,
                name: service.spec.name.to_string(),
                by_kind: ObjectKind::Task,
                user: first.id.to_string(),
                count: 1 + tasks.count(),
            })
        }
        Object::Network(_) | Object::Volume(_) | Object::Config(_) | Object::Secret(_) => {
            // Replaced within the same transaction.
            if state.holder_of(gone).is_some() {
                return Ok(());
            }
            let name = gone.unique_name().unwrap_or_default();
            let users = users_of(state, object.kind(), name);
            let Some(first) = users.first() else { return Ok(()) };
            Err(Conflict::InUse {
                object,
                name: name.to_owned(),
                by_kind: ObjectKind::Service,
                user: (*first).to_owned(),
                count: users.len(),
            })
        }
        Object::Cluster(_) | Object::Node(_) | Object::Task(_) => Ok(()),
    }
}

/// Names of the services that use the object: by their current spec, by an older one that a task still runs, or by the one
/// that an unfinished update may go back to.
pub fn users_of<'a>(state: &'a State, kind: ObjectKind, name: &str) -> Vec<&'a str> {
    let uses = |spec: &ServiceSpec| names_used(spec).contains(&(kind, name));
    let may_go_back = |service: &Service| {
        let open = service.update.as_ref().is_some_and(|update| update.completed_at.is_none());
        open && service.previous.as_ref().is_some_and(|previous| uses(&previous.spec))
    };
    let uses_now = |service: &Service| !service.pending_delete && (uses(&service.spec) || may_go_back(service));
    let still_runs = |service: &Service| {
        let revisions = service.previous.iter().chain(&service.history);
        let mut versions: BTreeSet<u64> =
            revisions.filter(|revision| uses(&revision.spec)).map(|revision| revision.version).collect();
        if uses(&service.spec) {
            versions.insert(service.spec_version);
        }
        !versions.is_empty()
            && state
                .tasks_of_service(service.id)
                .any(|task| !task.status.state.is_terminal() && versions.contains(&task.spec_version))
    };
    let users = state.services().filter(|service| uses_now(service) || still_runs(service));
    users.map(|service| service.spec.name.as_str()).collect()
}

/// Kind and name of everything that the spec refers to by name.
pub fn names_used(spec: &ServiceSpec) -> BTreeSet<(ObjectKind, &str)> {
    let container = &spec.task.container;
    let networks = spec.task.networks.iter().map(|network| (ObjectKind::Network, network.network.as_str()));
    let configs = container.configs.iter().map(|config| (ObjectKind::Config, config.source.as_str()));
    let secrets = container.secrets.iter().map(|secret| (ObjectKind::Secret, secret.source.as_str()));
    let volumes = container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => volume.name.as_ref().map(|name| (ObjectKind::Volume, name.as_str())),
        MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Image(_) => None,
    });
    networks.chain(configs).chain(secrets).chain(volumes).collect()
}
