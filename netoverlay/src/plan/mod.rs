//! Desired minus observed: the ordered operations that mend the difference.
//!
//! Owns every decision of this crate. Pure: no I/O, no clock, no randomness; the same input gives the same plan. Carrying a
//! plan out and planning again gives an empty plan, and a plan cut off at any point is completed by the next one.

mod balance;
mod direct;
mod known;
mod node;
mod op;
mod ports;
mod probe;
mod route;
mod sandbox;
mod translate;
mod tunnel;
mod vips;

pub use known::Known;
pub use op::{BridgePort, Flow, LinkEnd, LinkPlan, Op, Place, TunnelPlan};
pub use ports::{PortClash, Publisher, wanted_ports};
pub use probe::{PROBE_MARK, PROBE_PORT};
pub use route::{MAIN_TABLE, Route, SourceRule};
pub use tunnel::TUNNEL_PORT;
pub(crate) use tunnel::return_gateway;

use berth_proto::id::TaskId;

use crate::model::{Desired, Observed};
use crate::names::Instance;
use translate::Translation;
use tunnel::Tunnels;
use vips::Vips;

/// What the planner must know besides desired and observed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Prefix of all link names.
    pub instance: Instance,
    /// Leave alone what was never desired since the start: for the time before everything desired is known.
    pub keep_unknown: Option<Known>,
    /// What was desired when the tables that are marked as synced were written.
    pub previous: Option<Desired>,
}

/// Plans everything.
pub fn plan(rules: &Rules, desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = node::bridges(rules, desired, observed);
    let tunnels = Tunnels::new(rules, desired, observed);
    tunnels.devices(&mut ops);
    ways(rules, desired, observed, &tunnels, &mut ops);
    probe::ways(rules, desired, observed, &mut ops);
    let vips = Vips::new(rules, desired);
    let translation = Translation::new(rules, desired, observed, &mut ops);
    for task in desired.sandboxes.keys() {
        ops.extend(sandbox::create(rules, desired, observed, *task, &vips, &translation));
    }
    ops.extend(node::table(rules, desired, observed));
    if rules.keep_unknown.is_none() {
        for task in observed.sandboxes.keys().filter(|t| !sandbox::wants_namespace(desired, **t)) {
            ops.extend(sandbox::delete(observed, *task, &translation));
        }
        translation.leftovers(desired, observed, &mut ops);
        ops.extend(node::leftovers(rules, desired, observed));
        tunnels.leftovers(&mut ops);
    }
    ops
}

/// Plans what leads to tasks on other nodes.
fn ways(rules: &Rules, desired: &Desired, observed: &Observed, tunnels: &Tunnels<'_>, ops: &mut Vec<Op>) {
    let straight = direct::Change::new(rules, desired, observed);
    straight.add(ops);
    tunnels.ways(ops);
    straight.remove(ops);
}

/// Plans what one task needs: its networks' bridges, its namespace, and the node's table.
pub fn plan_task(rules: &Rules, desired: &Desired, observed: &Observed, task: TaskId) -> Vec<Op> {
    let mut ops = node::bridges(rules, desired, observed);
    let tunnels = Tunnels::new(rules, desired, observed);
    tunnels.devices(&mut ops);
    ways(rules, desired, observed, &tunnels, &mut ops);
    probe::ways(rules, desired, observed, &mut ops);
    let translation = Translation::new(rules, desired, observed, &mut ops);
    if sandbox::wants_namespace(desired, task) {
        ops.extend(sandbox::create(rules, desired, observed, task, &Vips::new(rules, desired), &translation));
        ops.extend(node::table(rules, desired, observed));
    } else {
        ops.extend(node::table(rules, desired, observed));
        ops.extend(sandbox::delete(observed, task, &translation));
    }
    ops
}

/// Plans what a change of services needs: the ways to other nodes, the tables of the node and of every namespace.
pub fn plan_balance(rules: &Rules, desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    let tunnels = Tunnels::new(rules, desired, observed);
    tunnels.devices(&mut ops);
    ways(rules, desired, observed, &tunnels, &mut ops);
    let vips = Vips::new(rules, desired);
    let translation = Translation::new(rules, desired, observed, &mut ops);
    for spec in desired.sandboxes.values() {
        if let Some(state) = observed.sandboxes.get(&spec.task) {
            vips.table(spec, state, &mut ops);
            translation.task(spec, &mut ops);
        }
    }
    ops.extend(node::table(rules, desired, observed));
    ops
}

#[cfg(test)]
mod tests;
