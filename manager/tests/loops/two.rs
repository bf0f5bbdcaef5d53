//! Two schedulers at once: loops of two managers that decide from the same state. Nothing is placed twice or on a node without
//! room, whoever is faster, and what was refused is decided anew.

use berth_proto::id::ServiceId;
use berth_proto::spec::{PublishMode, ServiceSpec};

use crate::sim::Sim;
use crate::sim::spec::*;

fn reserving(name: &str, replicas: u64, cpus: u64) -> ServiceSpec {
    let mut spec = service(name, "run", replicas);
    spec.task.resources.reservations.nano_cpus = cpus * 1_000_000_000;
    spec
}

/// A cluster that has its networks already: those are for the allocator to make.
fn with_nodes(seed: u64, n: u128) -> Sim {
    let mut sim = Sim::with_nodes(seed, n);
    sim.create(service("first", "run", 0));
    sim.settle();
    sim
}

fn running(sim: &Sim, services: &[ServiceId]) -> usize {
    services.iter().map(|id| sim.running(*id).len()).sum()
}

#[test]
fn the_last_room_is_given_once() {
    for seed in 0..20 {
        // Five nodes of four cpus; ten services want 40 in all.
        let mut sim = with_nodes(seed, 5);
        let services: Vec<ServiceId> = (0..10).map(|n| sim.create(reserving(&format!("s{n}"), 4, 1))).collect();
        sim.settle_both();
        assert!(sim.overtaken > 0, "both decided the same: seed {seed} shows nothing");
        sim.run(secs(5));
        assert_eq!(running(&sim, &services), 20, "{}", sim.table());
        // One node more: what waits is placed, by both again.
        sim.add_node(6);
        sim.settle_both();
        sim.run(secs(5));
        assert_eq!(running(&sim, &services), 24, "{}", sim.table());
    }
}

#[test]
fn a_port_of_a_node_is_given_once() {
    for seed in 0..20 {
        let mut sim = with_nodes(seed, 3);
        let on_port = |name: &str| publish(service(name, "run", 3), 80, Some(8080), PublishMode::Host);
        let services = [sim.create(on_port("one")), sim.create(on_port("two"))];
        sim.settle_both();
        sim.run(secs(5));
        assert_eq!(running(&sim, &services), 3, "{}", sim.table());
        let nodes: std::collections::BTreeSet<_> =
            services.iter().flat_map(|id| sim.running(*id)).map(|task| task.node).collect();
        assert_eq!(nodes.len(), 3, "one each: {}", sim.table());
    }
}

#[test]
fn what_was_not_refused_stays_as_it_was_decided() {
    let mut sim = Sim::with_nodes(3, 8);
    let first = sim.create(reserving("first", 4, 1));
    sim.settle();
    sim.run(secs(5));
    let before: Vec<_> = sim.running(first).iter().map(|task| (task.id, task.node)).collect();
    let second = sim.create(reserving("second", 8, 2));
    sim.settle_both();
    sim.run(secs(5));
    assert_eq!(sim.running(second).len(), 8, "{}", sim.table());
    let after: Vec<_> = sim.running(first).iter().map(|task| (task.id, task.node)).collect();
    assert_eq!(before, after);
}
