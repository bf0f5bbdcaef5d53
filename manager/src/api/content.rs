//! Which content of its configs and secrets a service shows: named in its spec when the spec is written, and anew when
//! somebody brings another content. Pure.

use berth_proto::content::ContentDigest;
use berth_proto::id::{ConfigId, SecretId};
use berth_proto::object::{FileObject, ObjectKind, Service};
use berth_proto::spec::{ConfigSpec, SecretSpec, ServiceSpec};

use super::refusal::Refused;
use super::service::DrawId;
use super::{find, resource, service};
use crate::store::contents::references;
use crate::store::{Change, Object, ObjectRef, State, Transaction};

/// Names the newest content wherever the spec names none. A reference that names one keeps it: who reads a spec, changes it
/// and writes it again changes no content by that.
pub fn stamp(state: &State, tx: &mut Transaction, spec: &mut ServiceSpec) {
    let container = &mut spec.task.container;
    let configs = container.configs.iter_mut().map(|file| (ObjectKind::Config, file));
    let files = configs.chain(container.secrets.iter_mut().map(|file| (ObjectKind::Secret, file)));
    for (kind, file) in files.filter(|(_, file)| file.digest.is_none()) {
        file.digest = newest(state, tx, kind, &file.source);
    }
}

/// The newest content of an object, also when it comes with the same transaction; else the transaction holds only while the
/// object stays as it is.
fn newest(state: &State, tx: &mut Transaction, kind: ObjectKind, name: &str) -> Option<ContentDigest> {
    let coming = tx.changes.iter().rev().find_map(|change| match change {
        Change::Put(Object::Config(one)) if kind == ObjectKind::Config && one.name() == name => Some(one.digest),
        Change::Put(Object::Secret(one)) if kind == ObjectKind::Secret && one.name() == name => Some(one.digest),
        _ => None,
    });
    if coming.is_some() {
        return coming;
    }
    match kind {
        ObjectKind::Config => state.config_by_name(name).map(|one| {
            tx.expect(&**one);
            one.digest
        }),
        _ => state.secret_by_name(name).map(|one| {
            tx.expect(&**one);
            one.digest
        }),
    }
}

/// Gives a config another spec, and its content to the services that show it. Returns its id and the names
/// of these services.
pub fn update_config(
    state: &State,
    tx: &mut Transaction,
    (word, version): (&str, u64),
    spec: &ConfigSpec,
    draw: DrawId<'_>,
) -> Result<(ConfigId, Vec<String>), Refused> {
    resource::check(spec)?;
    let old = find::config(state, word)?;
    check_version(ObjectKind::Config, old.name(), version, old.meta.version)?;
    // Whose it is, is not for the caller to say.
    let spec = ConfigSpec { stack: old.spec.stack.clone(), ..spec.clone() };
    if spec != *old.spec {
        tx.update(old.with_spec(spec));
    }
    Ok((old.id, roll_out(state, tx, ObjectKind::Config, old.name(), draw)?))
}

/// Gives a secret another spec, and its content to the services that show it. Returns its id and the names
/// of these services.
pub fn update_secret(
    state: &State,
    tx: &mut Transaction,
    (word, version): (&str, u64),
    spec: &SecretSpec,
    draw: DrawId<'_>,
) -> Result<(SecretId, Vec<String>), Refused> {
    resource::check(spec)?;
    let old = find::secret(state, word)?;
    check_version(ObjectKind::Secret, old.name(), version, old.meta.version)?;
    let spec = SecretSpec { stack: old.spec.stack.clone(), ..spec.clone() };
    if spec != *old.spec {
        tx.update(old.with_spec(spec));
    }
    Ok((old.id, roll_out(state, tx, ObjectKind::Secret, old.name(), draw)?))
}

fn check_version(kind: ObjectKind, name: &str, expected: u64, found: u64) -> Result<(), Refused> {
    match expected {
        0 => Ok(()),
        expected if expected == found => Ok(()),
        _ => Err(Refused::Stale { what: format!("{kind} {name}") }),
    }
}

/// Brings every service that shows the object to its newest content, but those that the transaction writes already. Returns
/// their names.
pub fn roll_out(
    state: &State,
    tx: &mut Transaction,
    kind: ObjectKind,
    name: &str,
    draw: DrawId<'_>,
) -> Result<Vec<String>, Refused> {
    let mut updated = Vec::new();
    for one in state.services().filter(|one| shows(&one.spec, kind, name) && !one.pending_delete) {
        if is_written(tx, one) {
            continue;
        }
        let mut spec = ServiceSpec::clone(&one.spec);
        let digest = newest(state, tx, kind, name);
        let container = &mut spec.task.container;
        let files = if kind == ObjectKind::Config { &mut container.configs } else { &mut container.secrets };
        files.iter_mut().filter(|file| file.source == name).for_each(|file| file.digest = digest);
        if spec != *one.spec {
            service::update(state, tx, one, spec, false, &mut *draw)?;
            updated.push(one.spec.name.to_string());
        }
    }
    updated.sort_unstable();
    Ok(updated)
}

fn shows(spec: &ServiceSpec, kind: ObjectKind, name: &str) -> bool {
    references(spec).any(|(of, file)| of == kind && file.source == name)
}

fn is_written(tx: &Transaction, service: &Service) -> bool {
    tx.changes.iter().any(|change| match change {
        Change::Put(Object::Service(one)) => one.id == service.id,
        Change::Remove(ObjectRef::Service(id)) => *id == service.id,
        _ => false,
    })
}
