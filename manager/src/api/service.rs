//! Creating, changing, scaling, rolling back and removing services. Pure: state in, transaction out.

use std::sync::Arc;

use berth_proto::id::{Id, ServiceId};
use berth_proto::object::{Autoscaled, Meta, ObjectKind, Service, SpecRevision, UpdateProgress, UpdateStatus, Volume};
use berth_proto::spec::{Bounds, MountKind, ServiceMode, ServiceSpec, VolumeSpec};
use berth_proto::time::Timestamp;
use berth_proto::validate::Validate;

use super::refusal::Refused;
use super::{content, find};
use crate::allocator::endpoint::{EndpointError, port_conflict};
use crate::store::references::{BUILT_IN_NETWORKS, names_used};
use crate::store::{Change, Object, State, Transaction};

/// Draws the 128 bits of a new id.
pub type DrawId<'a> = &'a mut dyn FnMut() -> u128;

/// Adds a new service, and the volumes that it names and that nobody made.
pub fn create(
    state: &State,
    tx: &mut Transaction,
    mut spec: ServiceSpec,
    draw: DrawId<'_>,
) -> Result<ServiceId, Refused> {
    check(&spec)?;
    if let Some(holder) = state.service_by_name(&spec.name) {
        return Err(match holder.pending_delete {
            true => Refused::BeingRemoved { name: spec.name.to_string() },
            false => Refused::Taken { kind: ObjectKind::Service, name: spec.name.to_string() },
        });
    }
    check_ports(state, None, &spec)?;
    content::stamp(state, tx, &mut spec);
    create_volumes(state, tx, &spec, draw);
    check_references(state, tx, &spec)?;
    let id = Id::from_random(draw());
    tx.create(Service::new(id, spec));
    Ok(id)
}

/// Changes a service to `spec`. Nothing is added when it is so already.
pub fn update(
    state: &State,
    tx: &mut Transaction,
    service: &Arc<Service>,
    mut spec: ServiceSpec,
    force: bool,
    draw: DrawId<'_>,
) -> Result<(), Refused> {
    check(&spec)?;
    let old = &service.spec;
    let name = || old.name.to_string();
    if service.pending_delete {
        return Err(Refused::BeingRemoved { name: name() });
    }
    if spec.name != old.name {
        return Err(Refused::NameChange { name: name(), to: spec.name.to_string() });
    }
    if spec.mode.as_str() != old.mode.as_str() {
        return Err(Refused::ModeChange { name: name(), from: old.mode.as_str(), to: spec.mode.as_str() });
    }
    // Whoever made the service has set it to anything: all that counts is that it changes.
    spec.task.force_update = old.task.force_update.wrapping_add(u64::from(force));
    content::stamp(state, tx, &mut spec);
    if spec == **old {
        return Ok(());
    }
    if spec.endpoint != old.endpoint {
        check_ports(state, Some(service.id), &spec)?;
    }
    create_volumes(state, tx, &spec, draw);
    check_references(state, tx, &spec)?;
    let autoscaled = autoscaled(service, &spec, tx.now);
    tx.update(Arc::new(Service { autoscaled, ..changed(service, spec) }));
    Ok(())
}

/// The number of replicas that goes on under the new spec: one that it names anew, or else the present one. Services that are
/// not scaled by their load have none besides the spec's.
fn autoscaled(service: &Service, spec: &ServiceSpec, now: Timestamp) -> Option<Autoscaled> {
    let autoscale = spec.autoscale.as_ref()?;
    let ServiceMode::Replicated { replicas } = spec.mode else { return None };
    match (&service.spec.autoscale, service.replicas()) {
        (Some(_), _) if spec.mode != service.spec.mode && !(begins_least(&service.spec) && begins_least(spec)) => {
            Some(Autoscaled { replicas, since: now, reason: format!("{replicas} in the changed spec") })
        }
        (Some(_), _) => service.autoscaled.clone(),
        (None, present) => {
            let Bounds { min, max, .. } = autoscale.bounds(now);
            let replicas = present.unwrap_or(replicas).clamp(min, max);
            Some(Autoscaled { replicas, since: now, reason: format!("began with {replicas}") })
        }
    }
}

/// The service with another spec, the one before kept for a rollback.
fn changed(service: &Service, spec: ServiceSpec) -> Service {
    let current = SpecRevision { version: service.spec_version, spec: Arc::clone(&service.spec) };
    // Scaling in the middle of an update must not make the spec that is being rolled out the one to go back to.
    let rolls = service.update.as_ref().is_some_and(|update| {
        let open = matches!(update.progress, UpdateProgress::Updating | UpdateProgress::Paused);
        open && update.target == service.spec_version
    });
    let previous = match &service.previous {
        Some(previous) if rolls && differs_only_in_mode(&service.spec, &spec) => previous.clone(),
        _ => current,
    };
    Service { spec: Arc::new(spec), previous: Some(previous), ..service.clone() }
}

fn differs_only_in_mode(old: &ServiceSpec, new: &ServiceSpec) -> bool {
    ServiceSpec { mode: old.mode, ..new.clone() } == *old
}

/// It begins with the fewest replicas that there may be: what a file says that names no number.
fn begins_least(spec: &ServiceSpec) -> bool {
    spec.autoscale.as_ref().is_some_and(|autoscale| spec.mode == ServiceMode::Replicated { replicas: autoscale.min })
}

/// Sets the number of tasks. Of a service that is scaled by its load only the present number, within its bounds: the load moves
/// it from there.
pub fn scale(
    state: &State,
    tx: &mut Transaction,
    service: &Arc<Service>,
    replicas: u64,
    draw: DrawId<'_>,
) -> Result<(), Refused> {
    let Some(autoscale) = &service.spec.autoscale else {
        return update(state, tx, service, scaled(service, replicas)?, false, draw);
    };
    let Bounds { min, max, .. } = autoscale.bounds(tx.now);
    if !(min..=max).contains(&replicas) {
        return Err(Refused::OutOfBounds { name: service.spec.name.to_string(), replicas, min, max });
    }
    if service.replicas() != Some(replicas) {
        let reason = format!("set to {replicas} by {}", tx.actor);
        let autoscaled = Some(Autoscaled { replicas, since: tx.now, reason });
        tx.update(Arc::new(Service { autoscaled, ..Service::clone(service) }));
    }
    Ok(())
}

/// The spec with another number of tasks. For a job: how many must end well, at the same time.
fn scaled(service: &Service, replicas: u64) -> Result<ServiceSpec, Refused> {
    let mode = match service.spec.mode {
        ServiceMode::Replicated { .. } => ServiceMode::Replicated { replicas },
        ServiceMode::ReplicatedJob { .. } => {
            ServiceMode::ReplicatedJob { max_concurrent: replicas, total_completions: replicas }
        }
        mode @ (ServiceMode::Global | ServiceMode::GlobalJob) => {
            return Err(Refused::NotScalable { name: service.spec.name.to_string(), mode: mode.as_str() });
        }
    };
    Ok(ServiceSpec { mode, ..ServiceSpec::clone(&service.spec) })
}

/// Goes back to the previous spec, at its old version, so that tasks which still run it are left alone.
pub fn roll_back(tx: &mut Transaction, service: &Arc<Service>) -> Result<(), Refused> {
    let name = || service.spec.name.to_string();
    if service.pending_delete {
        return Err(Refused::BeingRemoved { name: name() });
    }
    let previous = service.previous.clone().ok_or_else(|| Refused::NoPrevious { name: name() })?;
    let status = UpdateStatus {
        progress: UpdateProgress::RollbackStarted,
        started_at: tx.now,
        completed_at: None,
        message: "a person asked for the rollback".to_owned(),
        target: previous.version,
    };
    tx.update(Arc::new(Service {
        spec: previous.spec,
        spec_version: previous.version,
        previous: None,
        update: Some(status),
        ..Service::clone(service)
    }));
    Ok(())
}

/// Asks for the end of a service: its tasks stop, then it goes.
pub fn remove(tx: &mut Transaction, service: &Arc<Service>) {
    if !service.pending_delete {
        tx.update(Arc::new(Service { pending_delete: true, ..Service::clone(service) }));
    }
}

/// A service that may be worked on.
pub fn alive<'s>(state: &'s State, word: &str) -> Result<&'s Arc<Service>, Refused> {
    let service = find::service(state, word)?;
    match service.pending_delete {
        true => Err(Refused::BeingRemoved { name: service.spec.name.to_string() }),
        false => Ok(service),
    }
}

/// All rules at once.
pub fn check(spec: &ServiceSpec) -> Result<(), Refused> {
    let refuse = |invalid| Refused::Invalid { what: format!("the spec of service {}", spec.name), invalid };
    spec.validate().map_err(refuse)
}

/// Everything that the spec names is there, or comes with the same transaction. The store checks it again; this names the
/// service as people know it.
fn check_references(state: &State, tx: &Transaction, spec: &ServiceSpec) -> Result<(), Refused> {
    for (kind, name) in names_used(spec) {
        let there = match kind {
            ObjectKind::Network => BUILT_IN_NETWORKS.contains(&name) || state.network_by_name(name).is_some(),
            ObjectKind::Volume => state.volume_by_name(name).is_some(),
            ObjectKind::Config => state.config_by_name(name).is_some(),
            ObjectKind::Secret => state.secret_by_name(name).is_some(),
            _ => true,
        };
        if !there && !comes_with(tx, kind, name) {
            return Err(Refused::Missing { what: format!("service {}", spec.name), kind, name: name.to_owned() });
        }
    }
    Ok(())
}

fn comes_with(tx: &Transaction, kind: ObjectKind, name: &str) -> bool {
    tx.changes.iter().any(|change| match change {
        Change::Put(Object::Network(one)) => kind == ObjectKind::Network && one.spec.name.as_str() == name,
        Change::Put(Object::Volume(one)) => kind == ObjectKind::Volume && one.spec.name.as_str() == name,
        Change::Put(Object::Config(one)) => kind == ObjectKind::Config && one.spec.name.as_str() == name,
        Change::Put(Object::Secret(one)) => kind == ObjectKind::Secret && one.spec.name.as_str() == name,
        _ => false,
    })
}

/// No other service publishes the ports. Within a stack a port may pass from a service to another in one write: then the
/// new one gets it as soon as the old one lets go.
fn check_ports(state: &State, own: Option<ServiceId>, spec: &ServiceSpec) -> Result<(), Refused> {
    if spec.endpoint.ports.iter().all(|port| port.published.is_none()) {
        return Ok(());
    }
    let Some(conflict) = port_conflict(state, own, spec) else { return Ok(()) };
    let EndpointError::PortTaken { holder, .. } = &conflict else { return Err(conflict.into()) };
    let holder = state.service_by_name(holder);
    let same_stack = spec.stack.is_some() && holder.is_some_and(|holder| holder.spec.stack == spec.stack);
    if same_stack { Ok(()) } else { Err(conflict.into()) }
}

/// As Docker does, a volume comes into being with the first service that names it.
fn create_volumes(state: &State, tx: &mut Transaction, spec: &ServiceSpec, draw: DrawId<'_>) {
    for mount in &spec.task.container.mounts {
        let MountKind::Volume(volume) = &mount.kind else { continue };
        let Some(name) = &volume.name else { continue };
        if state.volume_by_name(name).is_some() || comes_with(tx, ObjectKind::Volume, name) {
            continue;
        }
        let spec = VolumeSpec {
            name: name.clone(),
            stack: spec.stack.clone(),
            labels: volume.labels.clone(),
            driver: volume.driver.clone().unwrap_or_else(|| "local".to_owned()),
            options: volume.driver_options.clone(),
        };
        tx.create(Volume { id: Id::from_random(draw()), meta: Meta::default(), spec: Arc::new(spec) });
    }
}
