//! What must hold at every moment.

use std::collections::{BTreeMap, BTreeSet};

use berth_manager::loops::{Reconciler, ReconcilerConfig};
use berth_manager::store::{Change, Object, State, Transaction};
use berth_proto::id::NodeId;
use berth_proto::object::{Service, Slot, Task};
use berth_proto::spec::{ServiceMode, UpdateOrder};
use berth_proto::state::{NodeState, TaskState};

use super::{Sim, table};

pub fn invariants(sim: &Sim) {
    let out_of_reach = |node: NodeId| sim.state.node(node).is_none_or(|node| node.status.state == NodeState::Down);
    hold(&sim.state, &|task| sim.partitioned || task.node.is_none_or(out_of_reach));
    for service in sim.state.services().filter(|service| !service.pending_delete) {
        let ServiceMode::Replicated { replicas } = service.mode() else { continue };
        let wanted = sim.state.tasks_of_service(service.id).filter(|task| task.desired.wants_work());
        let slots: BTreeSet<Slot> = wanted.map(|task| task.slot).collect();
        assert!(slots.len() as u64 <= replicas, "more slots than {replicas}\n{}", sim.table());
    }
}

/// What must hold in every state. `may_overlap` says which tasks may run beside their replacements: those of nodes that were
/// out of reach.
pub fn hold(state: &State, may_overlap: &dyn Fn(&Task) -> bool) {
    let mut addresses = BTreeSet::new();
    let mut held: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for service in state.services() {
        slots(state, service, may_overlap);
        for task in state.tasks_of_service(service.id).filter(|task| !task.status.state.is_terminal()) {
            for attachment in &task.attachments {
                for address in &attachment.addresses {
                    let is_free = addresses.insert((attachment.network, *address));
                    assert!(is_free, "{address} given twice\n{}", table(state));
                }
            }
            if let Some(node) = task.node.filter(|_| task.status.state >= TaskState::Assigned) {
                let reserved = &state.spec_of(task).unwrap().task.resources.reservations;
                let sums = held.entry(node).or_default();
                sums.0 += reserved.nano_cpus;
                sums.1 += reserved.memory;
            }
        }
        for vip in service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips) {
            assert!(addresses.insert((vip.network, vip.address)), "{} given twice\n{}", vip.address, table(state));
        }
    }
    for (node, (cpu, memory)) in held {
        let Some(has) = state.node(node).and_then(|node| node.description.as_ref()) else { continue };
        let has = &has.resources;
        assert!(cpu <= has.nano_cpus && memory <= has.memory, "node {node} overcommitted\n{}", table(state));
    }
}

/// No more tasks in a slot than the update order allows.
fn slots(state: &State, service: &Service, may_overlap: &dyn Fn(&Task) -> bool) {
    let mut wanted: BTreeMap<Slot, usize> = BTreeMap::new();
    let mut up: BTreeMap<Slot, usize> = BTreeMap::new();
    for task in state.tasks_of_service(service.id) {
        if task.desired.wants_work() {
            *wanted.entry(task.slot).or_default() += 1;
        }
        if (TaskState::Starting..=TaskState::Running).contains(&task.status.state) && !may_overlap(task) {
            *up.entry(task.slot).or_default() += 1;
        }
    }
    let most = most_in_a_slot(service);
    for (slot, count) in wanted.iter().chain(&up) {
        assert!(*count <= most, "{count} tasks in slot {slot:?} of {}\n{}", service.spec.name, table(state));
    }
}

/// A spec that changed its order in mid-update may leave two for a while.
pub fn most_in_a_slot(service: &Service) -> usize {
    let orders = service.previous.iter().map(|revision| &revision.spec).chain([&service.spec]);
    let start_first =
        orders.flat_map(|spec| [spec.update.order, spec.rollback.order]).any(|order| order == UpdateOrder::StartFirst);
    if start_first { 2 } else { 1 }
}

/// A full pass over a state that the loops are content with writes nothing, and neither does one of a manager that has
/// just taken over.
pub fn idempotent(sim: &mut Sim) {
    let mut again = sim.loops.clone();
    again.mark_everything(&sim.state);
    let mut written = again.pass(&sim.state, sim.now, &mut sim.ids.clone());
    written.retain(|transaction| !only_explains(transaction));
    assert!(written.is_empty(), "a second look wrote {written:?}\n{}", sim.table());
    let mut other = Reconciler::load(&sim.state, ReconcilerConfig::default(), sim.now);
    let mut written = other.pass(&sim.state, sim.now, &mut sim.ids.clone());
    written.retain(|transaction| !only_explains(transaction));
    assert!(written.is_empty(), "a manager that took over wrote {written:?}\n{}", sim.table());
}

/// The figures in the explanation of a task that waits for a node are brought up to date by full passes only.
fn only_explains(transaction: &Transaction) -> bool {
    let explains = |change: &Change| match change {
        Change::Put(Object::Task(task)) => task.meta.version > 0 && task.status.state == TaskState::Pending,
        _ => false,
    };
    transaction.changes.iter().all(explains)
}
