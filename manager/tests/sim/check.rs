//! What must hold at every moment.

use std::collections::{BTreeMap, BTreeSet};

use berth_manager::loops::{Reconciler, ReconcilerConfig};
use berth_manager::store::{Change, Object, Transaction};
use berth_proto::object::Slot;
use berth_proto::spec::{ServiceMode, UpdateOrder};
use berth_proto::state::TaskState;

use super::Sim;

pub fn invariants(sim: &Sim) {
    let mut addresses = BTreeSet::new();
    let mut held: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for service in sim.state.services() {
        let mut wanted: BTreeMap<Slot, usize> = BTreeMap::new();
        let mut up: BTreeMap<Slot, usize> = BTreeMap::new();
        for task in sim.state.tasks_of_service(service.id) {
            let state = task.status.state;
            if task.desired.wants_work() {
                *wanted.entry(task.slot).or_default() += 1;
            }
            let out_of_reach = task
                .node
                .and_then(|node| sim.state.node(node))
                .is_none_or(|node| node.status.state == berth_proto::state::NodeState::Down);
            let may_overlap = out_of_reach || sim.partitioned;
            if (TaskState::Starting..=TaskState::Running).contains(&state) && !may_overlap {
                *up.entry(task.slot).or_default() += 1;
            }
            if !state.is_terminal() {
                for attachment in &task.attachments {
                    for address in &attachment.addresses {
                        assert!(
                            addresses.insert((attachment.network, *address)),
                            "{address} given twice\n{}",
                            sim.table()
                        );
                    }
                }
                if let Some(node) = task.node.filter(|_| state >= TaskState::Assigned) {
                    let reserved = &sim.state.spec_of(task).unwrap().task.resources.reservations;
                    let sums = held.entry(node).or_default();
                    sums.0 += reserved.nano_cpus;
                    sums.1 += reserved.memory;
                }
            }
        }
        for vip in service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips) {
            assert!(addresses.insert((vip.network, vip.address)), "{} given twice\n{}", vip.address, sim.table());
        }
        // A spec that changed its order in mid-update may leave two for a while.
        let orders = service.previous.iter().map(|revision| &revision.spec).chain([&service.spec]);
        let start_first = orders
            .flat_map(|spec| [spec.update.order, spec.rollback.order])
            .any(|order| order == UpdateOrder::StartFirst);
        let most = if start_first { 2 } else { 1 };
        for (slot, count) in wanted.iter().chain(&up) {
            assert!(*count <= most, "{count} tasks in slot {slot:?} of {}\n{}", service.spec.name, sim.table());
        }
        if let ServiceMode::Replicated { replicas } = service.spec.mode
            && !service.pending_delete
        {
            assert!(wanted.len() as u64 <= replicas, "more slots than {replicas}\n{}", sim.table());
        }
    }
    for (node, (cpu, memory)) in held {
        let Some(node) = sim.state.node(node) else { continue };
        let has = &node.description.as_ref().unwrap().resources;
        assert!(cpu <= has.nano_cpus && memory <= has.memory, "node {} overcommitted\n{}", node.id, sim.table());
    }
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
