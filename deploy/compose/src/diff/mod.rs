//! The plan that brings what is there to what a stack asks for. Pure, over specs only: it reads no store and writes none.

mod fields;
mod show;

use std::collections::BTreeMap;

use berth_proto::name::StackName;
use berth_proto::spec::{ConfigSpec, NetworkSpec, SecretSpec, ServiceSpec, VolumeSpec};

use crate::convert::Stack;

pub use fields::Change;

/// What is there: everything of the stack, and everything with the name of something that the stack asks for. Extra
/// objects of other stacks do no harm.
#[derive(Debug, Clone, Default)]
pub struct Present<'a> {
    /// Services.
    pub services: Vec<&'a ServiceSpec>,
    /// Networks.
    pub networks: Vec<&'a NetworkSpec>,
    /// Volumes.
    pub volumes: Vec<&'a VolumeSpec>,
    /// Configs.
    pub configs: Vec<&'a ConfigSpec>,
    /// Secrets. Where their contents are known they are compared too.
    pub secrets: Vec<&'a SecretSpec>,
    /// False where the contents of secrets were left out on the way here: they then count as equal.
    pub secret_contents_known: bool,
}

/// What an object is, in the order in which objects are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// A config.
    Config,
    /// A secret.
    Secret,
    /// A service.
    Service,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Network => "network",
            Kind::Volume => "volume",
            Kind::Config => "config",
            Kind::Secret => "secret",
            Kind::Service => "service",
        }
    }
}

/// What is done with one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed, in at least one field.
    Change(Vec<Change>),
    /// It is removed.
    Remove,
}

/// One object and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it is.
    pub kind: Kind,
    /// Its full name.
    pub name: String,
    /// What is done.
    pub action: Action,
}

/// An object that the stack asks for, but whose name something outside of the stack has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// The stack that has it; `None` when it belongs to no stack.
    pub owner: Option<StackName>,
}

/// From what is there to what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The stack.
    pub stack: StackName,
    /// What is done, in an order in which it can be done: makes and changes in the order of [`Kind`], then removals in
    /// the opposite order.
    pub steps: Vec<Step>,
    /// Of the stack, no longer asked for, and left there: not pruned, or a volume, which is never removed with its data.
    pub left: Vec<(Kind, String)>,
    /// Names that cannot be taken. A plan with any must not be carried out.
    pub conflicts: Vec<Conflict>,
    /// Objects that are as they should be.
    pub unchanged: usize,
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.conflicts.is_empty()
    }

    /// Objects made, changed and removed.
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |of: fn(&Action) -> bool| self.steps.iter().filter(|step| of(&step.action)).count();
        (
            count(|action| matches!(action, Action::Create)),
            count(|action| matches!(action, Action::Change(_))),
            count(|action| matches!(action, Action::Remove)),
        )
    }
}

/// Plans. With `prune`, what the stack no longer asks for is removed, except volumes.
pub fn plan(desired: &Stack, present: &Present<'_>, prune: bool) -> Plan {
    let mut planner = Planner {
        stack: &desired.name,
        prune,
        plan: Plan {
            stack: desired.name.clone(),
            steps: Vec::new(),
            left: Vec::new(),
            conflicts: Vec::new(),
            unchanged: 0,
        },
        removals: Vec::new(),
    };
    planner.objects(Kind::Network, &desired.networks, &present.networks, fields::differences);
    planner.objects(Kind::Volume, &desired.volumes, &present.volumes, fields::differences);
    planner.objects(Kind::Config, &desired.configs, &present.configs, fields::config);
    let known = present.secret_contents_known;
    planner.objects(Kind::Secret, &desired.secrets, &present.secrets, |old, new| fields::secret(old, new, known));
    planner.objects(Kind::Service, &desired.services, &present.services, fields::service);
    planner.removals.reverse();
    planner.plan.steps.append(&mut planner.removals);
    planner.plan
}

/// What differs between two specs of a service, field by field.
pub fn service_changes(old: &ServiceSpec, new: &ServiceSpec) -> Vec<Change> {
    fields::service(old, new)
}

/// The spec to write for a service that is there: what is wanted, with what only `--force` sets kept.
#[must_use]
pub fn carry_over(mut desired: ServiceSpec, present: &ServiceSpec) -> ServiceSpec {
    desired.task.force_update = present.task.force_update;
    desired
}

/// What all specs of a stack have.
trait Owned {
    fn full_name(&self) -> &str;
    fn stack(&self) -> Option<&StackName>;
}

macro_rules! owned {
    ($($spec:ty),*) => {$(
        impl Owned for $spec {
            fn full_name(&self) -> &str {
                &self.name
            }
            fn stack(&self) -> Option<&StackName> {
                self.stack.as_ref()
            }
        }
    )*};
}

owned!(ServiceSpec, NetworkSpec, VolumeSpec, ConfigSpec, SecretSpec);

struct Planner<'a> {
    stack: &'a StackName,
    prune: bool,
    plan: Plan,
    removals: Vec<Step>,
}

impl Planner<'_> {
    fn objects<S: Owned>(
        &mut self,
        kind: Kind,
        desired: &[S],
        present: &[&S],
        differences: impl Fn(&S, &S) -> Vec<Change>,
    ) {
        let mut there: BTreeMap<&str, &S> = present.iter().map(|spec| (spec.full_name(), *spec)).collect();
        for new in desired {
            let name = new.full_name().to_owned();
            let Some(old) = there.remove(name.as_str()) else {
                self.plan.steps.push(Step { kind, name, action: Action::Create });
                continue;
            };
            if old.stack() != Some(self.stack) {
                self.plan.conflicts.push(Conflict { kind, name, owner: old.stack().cloned() });
                continue;
            }
            match differences(old, new) {
                changes if changes.is_empty() => self.plan.unchanged += 1,
                changes => self.plan.steps.push(Step { kind, name, action: Action::Change(changes) }),
            }
        }
        for (name, _) in there.into_iter().filter(|(_, old)| old.stack() == Some(self.stack)) {
            if self.prune && kind != Kind::Volume {
                self.removals.push(Step { kind, name: name.to_owned(), action: Action::Remove });
            } else {
                self.plan.left.push((kind, name.to_owned()));
            }
        }
    }
}
