//! What the programs for virtual addresses should know: which tasks, and which addresses lead where.
//!
//! The packet filter has the same in every task's table (`vips`) and needs none of this. So nothing waits for it, and nothing
//! that it lacks for a moment is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId, TaskId};

use super::balance::same_family;
use super::sandbox::wants_namespace;
use super::{Op, Rules};
use crate::ebpf::layout::{MOST_NETWORKS, MOST_SLOTS};
use crate::ebpf::{Frontend, FrontendChange, Frontends, TranslatorState};
use crate::model::{Desired, Observed, SandboxSpec, ServiceBackend};

/// Plans programs and maps for one pass.
pub(super) struct Translation<'a> {
    /// What tasks are known to programs that stay; `None` without programs.
    tasks: Option<&'a BTreeMap<TaskId, Vec<NetworkId>>>,
}

/// What programs that are made anew know.
static NONE: BTreeMap<TaskId, Vec<NetworkId>> = BTreeMap::new();

impl<'a> Translation<'a> {
    /// Plans all but the tasks: the programs themselves and the virtual addresses.
    pub fn new(rules: &Rules, desired: &Desired, observed: &'a Observed, ops: &mut Vec<Op>) -> Self {
        let found = observed.translator.as_ref();
        if observed.service_backend == ServiceBackend::Nft {
            if found.is_some() {
                ops.push(Op::RemoveTranslator);
            }
            return Self { tasks: None };
        }
        let state = found.filter(|state| state.intact);
        if state.is_none() {
            ops.push(Op::MakeTranslator);
        }
        let change = change(rules, desired, state);
        if !change.is_empty() {
            ops.push(Op::Frontends { change: Arc::new(change) });
        }
        Self { tasks: Some(state.map_or(&NONE, |state| &state.tasks)) }
    }

    /// Lets a task use what is on its networks.
    pub fn task(&self, spec: &SandboxSpec, ops: &mut Vec<Op>) {
        let Some(tasks) = self.tasks else { return };
        let networks = networks(spec);
        let have = tasks.get(&spec.task).map(Vec::as_slice).unwrap_or_default();
        if have != networks {
            ops.push(Op::Admit { task: spec.task, networks });
        }
    }

    /// Takes that from one whose namespace is about to go.
    pub fn gone(&self, task: TaskId, ops: &mut Vec<Op>) {
        if self.tasks.is_some_and(|tasks| tasks.contains_key(&task)) {
            ops.push(Op::Expel { task });
        }
    }

    /// Takes it from tasks that have no namespace, and from namespaces that nobody knows.
    pub fn leftovers(&self, desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
        let Some(tasks) = self.tasks else { return };
        let gone = tasks.keys().filter(|task| !wants_namespace(desired, **task));
        ops.extend(gone.filter(|task| !observed.sandboxes.contains_key(*task)).map(|task| Op::Expel { task: *task }));
        let strays = observed.translator.iter().filter(|state| state.intact).flat_map(|state| &state.strays);
        let cookies: Vec<u64> = strays.copied().collect();
        if !cookies.is_empty() {
            ops.push(Op::ExpelStrays { cookies });
        }
    }
}

/// The networks whose virtual addresses a task may use, in the order in which they are tried: where two have the same address
/// the packet filter takes the later one.
fn networks(spec: &SandboxSpec) -> Vec<NetworkId> {
    let all: BTreeSet<NetworkId> = spec.attachments().iter().map(|a| a.network).collect();
    all.into_iter().rev().take(MOST_NETWORKS).collect()
}

fn change(rules: &Rules, desired: &Desired, state: Option<&TranslatorState>) -> FrontendChange {
    let none = Frontends::new();
    let have = state.map_or(&none, |state| &state.frontends);
    let previous = rules.previous.as_ref().filter(|previous| {
        let same_networks = previous.networks.keys().eq(desired.networks.keys());
        state.is_some_and(|state| state.synced) && same_networks && !is_full(previous)
    });
    let mut change = match previous {
        Some(previous) if !is_full(desired) => {
            let changed = desired.changed_services(previous);
            let before = frontends(previous, Some(&changed));
            FrontendChange::between(before, frontends(desired, Some(&changed)))
        }
        _ if is_full(desired) => FrontendChange::between(have.clone(), Frontends::new()),
        _ => FrontendChange::between(have.clone(), frontends(desired, None)),
    };
    if let Some(known) = &rules.keep_unknown {
        change.before.retain(|of, _| change.after.contains_key(of) || known.owns_vip(of.vip));
    }
    change
}

/// Whether there is more than the maps hold.
fn is_full(desired: &Desired) -> bool {
    let slots =
        |service: &crate::model::Service| service.backends.len() * service.vips.values().map(Vec::len).sum::<usize>();
    desired.services.values().map(|service| slots(service)).sum::<usize>() > MOST_SLOTS
}

/// Virtual addresses of some services (all of them if not said which) on the node's networks.
fn frontends(desired: &Desired, only: Option<&BTreeSet<ServiceId>>) -> Frontends {
    let mut all = Vec::new();
    let chosen: Vec<_> = match only {
        Some(ids) => ids.iter().filter_map(|id| desired.services.get(id)).collect(),
        None => desired.services.values().collect(),
    };
    for service in chosen {
        for (network, vips) in service.vips.iter().filter(|(network, _)| desired.networks.contains_key(*network)) {
            let backends = service.ready_on(*network);
            for vip in vips {
                all.push((Frontend { network: *network, vip: *vip }, same_family(*vip, &backends).collect()));
            }
        }
    }
    all.into_iter().collect()
}
