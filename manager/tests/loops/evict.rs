//! Taking the place of others: who makes way, and who has the room meanwhile. That no node ever has more than it can hold is
//! looked at in every state.

use berth_proto::id::{NodeId, ServiceId};
use berth_proto::object::Task;
use berth_proto::spec::ServiceSpec;
use berth_proto::state::{NodeState, TaskState};

use crate::sim::Sim;
use crate::sim::spec::*;

/// A service of that priority, each task of so many GiB; nodes have eight.
fn weighing(name: &str, replicas: u64, gibibytes: u64, priority: i32) -> ServiceSpec {
    let mut spec = service(name, "run", replicas);
    spec.task.resources.reservations.memory = gibibytes << 30;
    // As many at once as it takes.
    spec.update.parallelism = 0;
    spec.priority = priority;
    spec
}

/// Tasks of both services on a full node, of which the second waits until the first ones have stopped.
fn making_way(seed: u64, nodes: u128) -> (Sim, ServiceId, ServiceId) {
    let mut sim = Sim::with_nodes(seed, nodes);
    sim.agents.stop = secs(5);
    let low = sim.create(weighing("low", 4 * nodes as u64, 2, 0));
    sim.run(secs(1));
    assert_eq!(sim.running(low).len(), 4 * nodes as usize);
    let high = sim.create(weighing("high", 1, 6, 10));
    sim.run(secs(1));
    let waiting = sim.tasks(high)[0].clone();
    assert_eq!((waiting.status.state, waiting.node), (TaskState::Pending, None), "{}", sim.table());
    assert!(waiting.status.message.contains("until 3 tasks of lower priority made way"), "{}", waiting.status.message);
    (sim, low, high)
}

fn stopping(sim: &Sim, id: ServiceId) -> Vec<&Task> {
    let stops = |task: &&Task| !task.desired.wants_work() && !task.status.state.is_terminal();
    sim.tasks(id).into_iter().filter(stops).collect()
}

#[test]
fn a_task_of_higher_priority_takes_the_place_of_a_lower_one() {
    let mut sim = Sim::with_nodes(28, 2);
    let mut low = service("low", "run", 2);
    low.task.resources.reservations.memory = 8 << 30;
    let low = sim.create(low);
    sim.run(secs(1));
    assert_eq!(sim.running(low).len(), 2);
    let mut high = service("high", "run", 1);
    high.task.resources.reservations.memory = 6 << 30;
    high.priority = 10;
    let high = sim.create(high);
    sim.run(secs(20));
    assert_eq!((sim.running(high).len(), sim.running(low).len()), (1, 1));
    let waiting: Vec<_> = sim.tasks(low).into_iter().filter(|task| task.node.is_none()).collect();
    assert_eq!(waiting.len(), 1, "its replacement waits and evicts nobody");
    let mut equal = service("equal", "run", 1);
    equal.task.resources.reservations.memory = 6 << 30;
    let equal = sim.create(equal);
    sim.run(secs(5));
    assert!(sim.running(equal).is_empty() && sim.running(low).len() == 1);
}

#[test]
fn the_room_of_those_who_make_way_is_not_for_their_replacements() {
    let (mut sim, low, high) = making_way(51, 1);
    assert_eq!(stopping(&sim, low).len(), 3, "no more than it takes: {}", sim.table());
    sim.run(secs(30));
    assert_eq!((sim.running(high).len(), sim.running(low).len()), (1, 1), "{}", sim.table());
    let waiting = sim.tasks(low).into_iter().filter(|task| task.node.is_none());
    assert_eq!(waiting.count(), 3, "the replacements wait");
}

#[test]
fn who_is_not_wanted_any_more_leaves_the_room_to_others() {
    let (mut sim, low, high) = making_way(52, 1);
    sim.remove(high);
    sim.run(secs(30));
    assert_eq!(sim.running(low).len(), 4, "{}", sim.table());
}

#[test]
fn a_node_that_is_lost_meanwhile_is_waited_for_no_more() {
    let (mut sim, low, high) = making_way(53, 2);
    let node = stopping(&sim, low)[0].node.unwrap();
    assert!(stopping(&sim, low).iter().all(|task| task.node == Some(node)));
    sim.node_state(node.as_u128(), NodeState::Down);
    sim.run(secs(30));
    let other = NodeId::from_random(3 - node.as_u128());
    let placed: Vec<_> = sim.running(high).iter().map(|task| task.node).collect();
    assert_eq!(placed, [Some(other)], "{}", sim.table());
}

#[test]
fn a_new_leader_brings_it_to_an_end() {
    let (mut sim, low, high) = making_way(54, 1);
    sim.restart_manager();
    sim.run(secs(30));
    assert_eq!((sim.running(high).len(), sim.running(low).len()), (1, 1), "{}", sim.table());
}
