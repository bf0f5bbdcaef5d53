//! One pass: hold ports, list if needed, plan, carry out, serve names.
//!
//! Blocking. Owns what is desired and the last known state of the node; after a failure the node is listed anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId, TaskId};

use crate::dns::Dns;
use crate::error::OverlayError;
use crate::kernel::{Kernel, PortError};
use crate::model::{Desired, Network, Observed, Service};
use crate::names::Instance;
use crate::nft::Elements;
use crate::parallel;
use crate::plan::{self, Known, Op, PortClash, Rules};

/// So many changed services are worth a thread for their names.
const BESIDE: usize = 64;

/// How much a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Everything,
    /// Tables and names only: services changed.
    Balance,
    /// One task.
    Task(TaskId),
}

/// What is desired, and what is known of the node.
pub(crate) struct State {
    pub desired: Desired,
    /// Networks that are wanted only by tasks that have not ended yet.
    leaving: BTreeSet<NetworkId>,
    /// Until everything desired is known: what was desired so far. The rest is not removed.
    unsettled: Option<Known>,
    observed: Option<Observed>,
    /// What was desired at the last pass in which nothing failed.
    previous: Option<Desired>,
    instance: Instance,
}

/// What a pass did.
#[derive(Debug, Default)]
pub struct Report {
    /// The steps that were carried out, in order, as a person reads them.
    pub steps: Vec<String>,
    /// Steps that failed, each with the task it was for.
    pub failures: Vec<OverlayError>,
    /// Ports that somebody else on this node has.
    pub ports: Vec<PortError>,
    /// Ports that two of ours want.
    pub clashes: Vec<PortClash>,
}

impl Report {
    /// Whether the node is exactly as desired now.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.ports.is_empty() && self.clashes.is_empty()
    }

    /// The first thing that went wrong, if any.
    pub fn into_result(self) -> Result<(), OverlayError> {
        let ports = self.ports.into_iter().map(OverlayError::from);
        let clashes = self.clashes.into_iter().map(OverlayError::from);
        self.failures.into_iter().chain(ports).chain(clashes).next().map_or(Ok(()), Err)
    }

    /// The first step of one task that went wrong, if any.
    pub(crate) fn into_task_result(self, task: TaskId) -> Result<(), OverlayError> {
        let ours = |e: &OverlayError| !matches!(e, OverlayError::Step { task: Some(other), .. } if *other != task);
        self.failures.into_iter().find(ours).map_or(Ok(()), Err)
    }
}

impl State {
    pub fn new(instance: Instance) -> Self {
        Self {
            desired: Desired::default(),
            leaving: BTreeSet::new(),
            unsettled: Some(Known::default()),
            observed: None,
            previous: None,
            instance,
        }
    }

    /// List the node in the next pass.
    pub fn forget_observed(&mut self) {
        self.observed = None;
    }

    /// Everything desired is known from now on: what is not desired may be removed.
    pub fn settle(&mut self) {
        if self.unsettled.take().is_some() {
            self.forget_observed();
        }
    }

    /// Replaces everything desired.
    pub fn replace(&mut self, desired: Desired) {
        self.desired = desired;
        self.leaving.clear();
    }

    /// Replaces the networks. One that a task is on stays until that task is detached: a network that is removed together with
    /// its last task must not take the link from under it.
    pub fn set_networks(&mut self, networks: BTreeMap<NetworkId, Network>) {
        let before = std::mem::replace(&mut self.desired.networks, networks);
        let used = self.used_networks();
        self.leaving.clear();
        for (id, network) in before.into_iter().filter(|(id, _)| used.contains(id)) {
            if let std::collections::btree_map::Entry::Vacant(entry) = self.desired.networks.entry(id) {
                entry.insert(network);
                self.leaving.insert(id);
            }
        }
    }

    /// Removes a task, and the networks that only it still needed. Returns whether there were any.
    pub fn remove_sandbox(&mut self, task: TaskId) -> bool {
        self.desired.sandboxes.remove(&task);
        if self.leaving.is_empty() {
            return false;
        }
        let used = self.used_networks();
        let (stay, leave) = std::mem::take(&mut self.leaving).into_iter().partition(|id| used.contains(id));
        self.leaving = stay;
        let leave: BTreeSet<NetworkId> = leave;
        self.desired.networks.retain(|id, _| !leave.contains(id));
        !leave.is_empty()
    }

    fn used_networks(&self) -> BTreeSet<NetworkId> {
        self.desired.sandboxes.values().flat_map(|spec| spec.attachments().iter().map(|a| a.network)).collect()
    }

    /// Marks a task ready or not wherever it answers.
    pub fn set_ready(&mut self, task: TaskId, ready: bool) {
        if let Some(spec) = self.desired.sandboxes.get_mut(&task) {
            Arc::make_mut(spec).ready = ready;
        }
        let stale = |s: &Service| s.backends.iter().any(|b| b.task == task && b.ready != ready);
        let ids: Vec<ServiceId> = self.desired.services.iter().filter(|(_, s)| stale(s)).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(service) = self.desired.services.get_mut(&id) else { continue };
            let backends = Arc::make_mut(service).backends.iter_mut();
            backends.filter(|b| b.task == task).for_each(|b| b.ready = ready);
        }
    }
}

/// Brings the node to what is desired.
pub(crate) fn converge(
    kernel: &dyn Kernel,
    state: &mut State,
    dns: &Dns,
    scope: Scope,
) -> Result<Report, OverlayError> {
    let mut report = Report::default();
    let (wanted_ports, clashes) = plan::wanted_ports(&state.desired);
    report.ports = kernel.hold_more_ports(&wanted_ports);
    report.clashes = clashes;
    // Whoever learns that the kernel part is done may ask for names: both are done when this returns.
    let desired = state.desired.clone();
    let changed = state.previous.as_ref().map_or(desired.services.len(), |p| desired.changed_services(p).len());
    beside(changed > BESIDE, &|| dns.publish(&desired), || in_kernel(kernel, state, scope, &mut report))?;
    // Held ports are let go last: nothing is translated any more to what another program may now serve itself.
    kernel.hold_ports(&wanted_ports);
    for sockets in kernel.take_dns_sockets() {
        dns.serve(sockets);
    }
    dns.retain(&state.desired);
    Ok(report)
}

/// Does two things at the same time where they are large enough to pay a thread, else one after the other.
fn beside<T>(large: bool, names: &(dyn Fn() + Sync), kernel: impl FnOnce() -> T) -> T {
    if !large {
        names();
        return kernel();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("net-names".into()).spawn_scoped(scope, names);
        if thread.is_err() {
            names();
        }
        kernel()
    })
}

/// Lists the node if that is needed, plans, carries out.
fn in_kernel(kernel: &dyn Kernel, state: &mut State, scope: Scope, report: &mut Report) -> Result<(), OverlayError> {
    let known = state.observed.take();
    // A node that had to be listed is brought right as a whole: afterwards its tables count as known.
    let scope = if known.is_none() && state.unsettled.is_none() { Scope::Everything } else { scope };
    let mut observed = match known {
        Some(observed) => observed,
        None => kernel.list().map_err(|source| OverlayError::List { source })?,
    };
    observed.held = kernel.held_ports().into_iter().collect();
    if let Some(known) = &mut state.unsettled {
        known.learn(&state.desired);
    }
    let rules = Rules {
        instance: state.instance.clone(),
        keep_unknown: state.unsettled.clone(),
        previous: state.previous.take(),
    };
    let ops = match scope {
        Scope::Everything => plan::plan(&rules, &state.desired, &observed),
        Scope::Balance => plan::plan_balance(&rules, &state.desired, &observed),
        Scope::Task(task) => plan::plan_task(&rules, &state.desired, &observed, task),
    };
    carry_out(kernel, &ops, &mut observed, report);
    if report.failures.is_empty() {
        if state.unsettled.is_none() {
            observed.translator.iter_mut().for_each(|translator| translator.synced = true);
            // The elements of tasks' tables follow from what was desired: no need to keep them once per task.
            for (task, sandbox) in &mut observed.sandboxes {
                if state.desired.sandboxes.contains_key(task) {
                    sandbox.table.synced = true;
                    sandbox.table.elements = Elements::default();
                }
            }
        }
        state.observed = Some(observed);
        state.previous = Some(state.desired.clone());
    }
    Ok(())
}

/// Carries out the steps, those of one task at a time together. When a step fails, the rest of that task's steps are left out
/// and the others go on.
fn carry_out(kernel: &dyn Kernel, ops: &[Op], observed: &mut Observed, report: &mut Report) {
    let mut failed: Vec<TaskId> = Vec::new();
    let groups: Vec<&[Op]> = ops.chunk_by(|a, b| a.task() == b.task()).collect();
    // Tasks do not depend on each other, the node's own steps keep their place.
    for run in groups.chunk_by(|a, b| a[0].task().is_some() && b[0].task().is_some()) {
        let run: Vec<&[Op]> =
            run.iter().copied().filter(|g| g[0].task().is_none_or(|t| !failed.contains(&t))).collect();
        for (group, outcome) in run.iter().zip(parallel::apply(kernel, &run)) {
            let (done, error) = match outcome {
                Ok(()) => (group.len(), None),
                Err((done, error)) => (done, Some(error)),
            };
            for op in &group[..done] {
                tracing::debug!(step = %op, "network step");
                op.apply_to(observed);
                report.steps.push(op.to_string());
            }
            if let Some(source) = error {
                let task = group[done].task();
                tracing::warn!(step = %group[done], error = %source, "network step failed");
                failed.extend(task);
                report.failures.push(OverlayError::Step { step: group[done].to_string(), task, source });
            }
        }
    }
}
