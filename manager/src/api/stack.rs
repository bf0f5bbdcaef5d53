//! A whole stack in one transaction: planned by `berth_compose::diff`, written as planned, refused as a whole. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use berth_compose::Stack;
use berth_compose::diff::{self, Action, Change, Kind, Plan, Present};
use berth_proto::name::StackName;
use berth_proto::object::{FileObject, Object, ObjectKind, ObjectRef};
use berth_proto::pb;
use berth_proto::pb::planned_change;
use berth_proto::spec::{ConfigSpec, NetworkSpec, SecretSpec, ServiceSpec, VolumeSpec};

use super::refusal::Refused;
use super::service::{self, DrawId};
use super::{content, depends, resource};
use crate::store::{State, Stored, Transaction};

/// What is asked for, read from the wire.
pub struct Request {
    /// The stack.
    pub stack: Stack,
    /// Remove what is no longer named.
    pub prune: bool,
    /// Spec versions by service name that the caller planned from, 0 for none.
    pub expected: BTreeMap<String, u64>,
}

/// What is done in the transaction, and what has to wait until its users are gone.
pub struct Outcome {
    /// The plan.
    pub plan: Vec<pb::PlannedChange>,
    /// To remove once nothing uses it.
    pub later: Vec<ObjectRef>,
}

impl TryFrom<pb::StackApplyRequest> for Request {
    type Error = Refused;

    fn try_from(message: pb::StackApplyRequest) -> Result<Self, Refused> {
        let name: StackName = message.stack.parse().map_err(|error| malformed("stack", error))?;
        macro_rules! specs {
            ($list:expr, $spec:ty) => {{
                let mut specs = $list.into_iter().map(TryInto::try_into).collect::<Result<Vec<$spec>, _>>()?;
                // Whatever the caller put there: it belongs to this stack.
                specs.iter_mut().for_each(|spec| spec.stack = Some(name.clone()));
                specs
            }};
        }
        let stack = Stack {
            services: specs!(message.services, ServiceSpec),
            networks: specs!(message.networks, NetworkSpec),
            volumes: specs!(message.volumes, VolumeSpec),
            configs: specs!(message.configs, ConfigSpec),
            secrets: specs!(message.secrets, SecretSpec),
            name,
            externals: Vec::new(),
            warnings: Vec::new(),
        };
        let expected = message.expected_versions.into_iter().collect();
        Ok(Self { stack, prune: message.prune, expected })
    }
}

/// Asks for what a file says.
pub fn request(stack: &Stack, prune: bool, dry_run: bool) -> pb::StackApplyRequest {
    pb::StackApplyRequest {
        stack: stack.name.to_string(),
        services: stack.services.iter().map(Into::into).collect(),
        networks: stack.networks.iter().map(Into::into).collect(),
        volumes: stack.volumes.iter().map(Into::into).collect(),
        configs: stack.configs.iter().map(Into::into).collect(),
        secrets: stack.secrets.iter().map(Into::into).collect(),
        prune,
        dry_run,
        expected_versions: HashMap::new(),
    }
}

fn malformed(field: &str, error: impl std::fmt::Display) -> Refused {
    Refused::Malformed(berth_proto::convert::ConvertError { path: field.to_owned(), problem: error.to_string() })
}

/// Plans, and adds what the plan asks for to the transaction.
pub fn apply(state: &State, tx: &mut Transaction, request: &Request, draw: DrawId<'_>) -> Result<Outcome, Refused> {
    check(request)?;
    let plan = diff::plan(&request.stack, &present(state), request.prune);
    if !plan.conflicts.is_empty() {
        let conflicts = plan.conflicts.iter().map(|conflict| {
            let owner = conflict.owner.as_ref().map_or_else(|| "no stack".to_owned(), |owner| format!("stack {owner}"));
            format!("{} {} (belongs to {owner})", conflict.kind.as_str(), conflict.name)
        });
        return Err(Refused::TakenByOthers { conflicts: conflicts.collect() });
    }
    expect(state, &request.expected)?;
    let mut writer = Writer { state, tx, stack: &request.stack, draw, renewed: BTreeSet::new(), later: Vec::new() };
    for step in &plan.steps {
        writer.step(step)?;
    }
    let (refreshed, later) = (writer.refresh(&plan)?, writer.later);
    depends::check(state, tx)?;
    Ok(Outcome { plan: shown(&plan, &request.stack, &refreshed), later })
}

/// All rules of all specs.
fn check(request: &Request) -> Result<(), Refused> {
    let stack = &request.stack;
    stack.services.iter().try_for_each(service::check)?;
    stack.networks.iter().try_for_each(resource::check)?;
    stack.volumes.iter().try_for_each(resource::check)?;
    stack.configs.iter().try_for_each(resource::check)?;
    stack.secrets.iter().try_for_each(resource::check)
}

/// The services are still as the caller saw them.
fn expect(state: &State, expected: &BTreeMap<String, u64>) -> Result<(), Refused> {
    for (name, version) in expected {
        let found = state.service_by_name(name).filter(|service| !service.pending_delete);
        if found.map_or(0, |service| service.spec_version) != *version {
            return Err(Refused::Stale { what: format!("service {name}") });
        }
    }
    Ok(())
}

fn present(state: &State) -> Present<'_> {
    Present {
        services: state.services().filter(|service| !service.pending_delete).map(|service| &*service.spec).collect(),
        networks: state.networks().map(|network| &*network.spec).collect(),
        volumes: state.volumes().map(|volume| &*volume.spec).collect(),
        configs: state.configs().map(|config| &*config.spec).collect(),
        secrets: state.secrets().map(|secret| &*secret.spec).collect(),
        secret_contents_known: true,
    }
}

/// The plan was made from the same state.
const LACKING: Refused = Refused::Lacks("object that was planned");

/// Writes the steps of a plan.
struct Writer<'a> {
    state: &'a State,
    tx: &'a mut Transaction,
    stack: &'a Stack,
    draw: DrawId<'a>,
    /// Configs and secrets whose content changes.
    renewed: BTreeSet<(ObjectKind, String)>,
    later: Vec<ObjectRef>,
}

/// The spec of that name. The plan was made from the same lists.
macro_rules! named {
    ($list:expr, $name:expr) => {
        $list.iter().find(|spec| spec.name.as_str() == $name).cloned().ok_or(Refused::Lacks("spec that was planned"))?
    };
}

impl Writer<'_> {
    fn step(&mut self, step: &diff::Step) -> Result<(), Refused> {
        let name = step.name.as_str();
        match &step.action {
            Action::Create => self.create(step.kind, name),
            Action::Change(changes) => self.change(step.kind, name, changes),
            Action::Remove => self.remove(step.kind, name),
        }
    }

    fn create(&mut self, kind: Kind, name: &str) -> Result<(), Refused> {
        let (state, stack) = (self.state, self.stack);
        match kind {
            Kind::Network => resource::create(state, self.tx, named!(stack.networks, name), self.draw).map(drop),
            Kind::Volume => resource::create(state, self.tx, named!(stack.volumes, name), self.draw).map(drop),
            Kind::Config => resource::create(state, self.tx, named!(stack.configs, name), self.draw).map(drop),
            Kind::Secret => resource::create(state, self.tx, named!(stack.secrets, name), self.draw).map(drop),
            Kind::Service => service::create(state, self.tx, named!(stack.services, name), self.draw).map(drop),
        }
    }

    fn change(&mut self, kind: Kind, name: &str, changes: &[Change]) -> Result<(), Refused> {
        let (state, stack) = (self.state, self.stack);
        match kind {
            Kind::Service => {
                let (old, new) = (service::alive(state, name)?, named!(stack.services, name));
                service::update(state, self.tx, old, new, false, self.draw)
            }
            Kind::Network => {
                only_labels(ObjectKind::Network, name, changes, &["attachable"])?;
                let spec = Arc::new(named!(stack.networks, name));
                rewrite(self.tx, state.network_by_name(name), |one| one.spec = spec)
            }
            Kind::Volume => {
                only_labels(ObjectKind::Volume, name, changes, &[])?;
                let spec = Arc::new(named!(stack.volumes, name));
                rewrite(self.tx, state.volume_by_name(name), |one| one.spec = spec)
            }
            Kind::Config => {
                let (spec, old) = (named!(stack.configs, name), state.config_by_name(name).ok_or(LACKING)?);
                self.renew(&**old, old.with_spec(spec));
                Ok(())
            }
            Kind::Secret => {
                let (spec, old) = (named!(stack.secrets, name), state.secret_by_name(name).ok_or(LACKING)?);
                self.renew(&**old, old.with_spec(spec));
                Ok(())
            }
        }
    }

    fn renew<T: Stored + FileObject>(&mut self, old: &T, new: T) {
        if new.digest() != old.digest() {
            self.renewed.insert((T::KIND, new.name().to_owned()));
        }
        self.tx.update(T::into_object(Arc::new(new)));
    }

    fn remove(&mut self, kind: Kind, name: &str) -> Result<(), Refused> {
        let reference = match kind {
            Kind::Service => {
                service::remove(self.tx, service::alive(self.state, name)?);
                return Ok(());
            }
            Kind::Network => self.state.network_by_name(name).map(|one| ObjectRef::Network(one.id)),
            Kind::Config => self.state.config_by_name(name).map(|one| ObjectRef::Config(one.id)),
            Kind::Secret => self.state.secret_by_name(name).map(|one| ObjectRef::Secret(one.id)),
            Kind::Volume => None,
        };
        self.later.extend(reference);
        Ok(())
    }

    /// Services that show a config or secret with new content get it by an update of their own: those of the stack whose
    /// specs are otherwise as they should be, and those of others. Returns their names.
    fn refresh(&mut self, plan: &Plan) -> Result<BTreeSet<String>, Refused> {
        let mut refreshed = BTreeSet::new();
        for spec in &self.stack.services {
            let Some(old) = self.state.service_by_name(&spec.name) else { continue };
            if plan.steps.iter().any(|step| step.kind == Kind::Service && step.name == spec.name.as_str()) {
                continue;
            }
            let before = self.tx.changes.len();
            service::update(self.state, self.tx, old, spec.clone(), false, self.draw)?;
            if self.tx.changes.len() > before {
                refreshed.insert(spec.name.to_string());
            }
        }
        for (kind, name) in std::mem::take(&mut self.renewed) {
            refreshed.extend(content::roll_out(self.state, self.tx, kind, &name, self.draw)?);
        }
        Ok(refreshed)
    }
}

fn rewrite<T: Stored>(
    tx: &mut Transaction,
    object: Option<&Arc<T>>,
    change: impl FnOnce(&mut T),
) -> Result<(), Refused> {
    let mut object = T::clone(object.ok_or(LACKING)?);
    change(&mut object);
    tx.update(T::into_object(Arc::new(object)));
    Ok(())
}

/// Tasks hold on to the rest: it cannot be changed under them.
fn only_labels(kind: ObjectKind, name: &str, changes: &[Change], also: &[&str]) -> Result<(), Refused> {
    let may = |change: &&Change| change.path.starts_with("labels") || also.contains(&change.path.as_str());
    let fields: Vec<String> = changes.iter().filter(|change| !may(change)).map(|change| change.path.clone()).collect();
    if fields.is_empty() { Ok(()) } else { Err(Refused::Fixed { kind, name: name.to_owned(), fields }) }
}

/// The plan on the wire: every step, what is left, and what is as it should be.
fn shown(plan: &Plan, stack: &Stack, refreshed: &BTreeSet<String>) -> Vec<pb::PlannedChange> {
    let change = |action: planned_change::Action, kind: Kind, name: &str, fields| pb::PlannedChange {
        action: action.into(),
        kind: pb::ObjectKind::from(object_kind(kind)).into(),
        name: name.to_owned(),
        fields,
    };
    let field = |change: &Change| pb::FieldChange {
        path: change.path.clone(),
        before: change.old.clone(),
        after: change.new.clone(),
    };
    let mut shown: Vec<pb::PlannedChange> = Vec::new();
    for step in &plan.steps {
        let (action, fields) = match &step.action {
            Action::Create => (planned_change::Action::Create, Vec::new()),
            Action::Change(changes) => (planned_change::Action::Update, changes.iter().map(field).collect()),
            Action::Remove => (planned_change::Action::Remove, Vec::new()),
        };
        shown.push(change(action, step.kind, &step.name, fields));
    }
    for name in refreshed {
        let path = "configs and secrets".to_owned();
        let fields = vec![pb::FieldChange { path, before: None, after: Some("new content".to_owned()) }];
        shown.push(change(planned_change::Action::Update, Kind::Service, name, fields));
    }
    for (kind, name) in &plan.left {
        shown.push(change(planned_change::Action::Left, *kind, name, Vec::new()));
    }
    for (kind, name) in names(stack) {
        let planned = plan.steps.iter().any(|step| step.kind == kind && step.name == name);
        let is_refreshed = kind == Kind::Service && refreshed.contains(name);
        if !planned && !is_refreshed {
            shown.push(change(planned_change::Action::Unchanged, kind, name, Vec::new()));
        }
    }
    shown
}

fn names(stack: &Stack) -> impl Iterator<Item = (Kind, &str)> {
    let networks = stack.networks.iter().map(|one| (Kind::Network, one.name.as_str()));
    let volumes = stack.volumes.iter().map(|one| (Kind::Volume, one.name.as_str()));
    let configs = stack.configs.iter().map(|one| (Kind::Config, one.name.as_str()));
    let secrets = stack.secrets.iter().map(|one| (Kind::Secret, one.name.as_str()));
    let services = stack.services.iter().map(|one| (Kind::Service, one.name.as_str()));
    networks.chain(volumes).chain(configs).chain(secrets).chain(services)
}

fn object_kind(kind: Kind) -> ObjectKind {
    match kind {
        Kind::Network => ObjectKind::Network,
        Kind::Volume => ObjectKind::Volume,
        Kind::Config => ObjectKind::Config,
        Kind::Secret => ObjectKind::Secret,
        Kind::Service => ObjectKind::Service,
    }
}

/// Asks for the end of everything of a stack but its volumes. Returns what is removed, as `kind name`, and what has to
/// wait until its users are gone.
pub fn remove(state: &State, tx: &mut Transaction, stack: &str) -> Result<(Vec<String>, Vec<ObjectRef>), Refused> {
    let (mut removed, mut later) = (Vec::new(), Vec::new());
    let of_stack = |of: &Option<StackName>| of.as_ref().is_some_and(|of| of.as_str() == stack);
    for service in state.services().filter(|service| of_stack(&service.spec.stack)) {
        service::remove(tx, service);
        removed.push(format!("service {}", service.spec.name));
    }
    for object in state.objects() {
        let (name, of) = match &object {
            Object::Network(one) => (one.spec.name.to_string(), &one.spec.stack),
            Object::Config(one) => (one.spec.name.to_string(), &one.spec.stack),
            Object::Secret(one) => (one.spec.name.to_string(), &one.spec.stack),
            _ => continue,
        };
        if of_stack(of) {
            removed.push(format!("{} {name}", object.reference().kind()));
            later.push(object.reference());
        }
    }
    if removed.is_empty() {
        return Err(Refused::NoStack(stack.to_owned()));
    }
    Ok((removed, later))
}
