//! Who leaves for a task of higher priority.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::spec::Protocol;
use berth_proto::state::TaskState;
use berth_scheduler::{ClusterView, Demand, HostPort, Plan, schedule};
use proptest::prelude::*;
use support::*;

fn run(view: &mut ClusterView, n: u128, of: u128, on: u128, demand: Demand) {
    view.upsert_task(&task(n, of, Some(NodeId::from_random(on)), TaskState::Running), &Arc::new(demand));
}

fn low(priority: i32, cpus: u64) -> Demand {
    Demand { priority, ..reserve(cpus, cpus) }
}

fn evicted(plan: &Plan) -> Vec<u128> {
    let victims = plan.placements.iter().flat_map(|placement| &placement.evicts);
    let mut victims: Vec<u128> = victims.map(|task| task.as_u128()).collect();
    victims.sort_unstable();
    victims
}

#[test]
fn the_fewest_of_the_lowest_priority_leave() {
    let mut view = view([node(1, 4, 4), node(2, 4, 4), node(3, 4, 4)]);
    run(&mut view, 90, 9, 1, low(0, 2));
    run(&mut view, 91, 9, 1, low(0, 2));
    run(&mut view, 92, 9, 2, low(2, 4));
    run(&mut view, 93, 9, 3, low(1, 4));
    assert_eq!(evicted(&schedule(&view, &[group(1, low(5, 4), 1..2)], NOW)), [93], "one victim beats two");
    assert_eq!(evicted(&schedule(&view, &[group(1, low(5, 2), 1..2)], NOW)), [90], "the lowest, and the least");
}

#[test]
fn equal_and_higher_priorities_stay() {
    let mut view = view([node(1, 4, 4)]);
    run(&mut view, 90, 9, 1, low(5, 4));
    for priority in [4, 5] {
        let plan = schedule(&view, &[group(1, low(priority, 1), 1..2)], NOW);
        assert!(plan.placements.is_empty() && plan.refusals.len() == 1);
    }
    assert_eq!(evicted(&schedule(&view, &[group(1, low(6, 1), 1..2)], NOW)), [90]);
}

#[test]
fn nobody_leaves_in_vain_or_while_there_is_room() {
    let mut view = view([node(1, 4, 4), node(2, 1, 1)]);
    run(&mut view, 90, 9, 1, low(0, 2));
    run(&mut view, 91, 8, 1, low(9, 2));
    let plan = schedule(&view, &[group(1, low(5, 3), 1..2)], NOW);
    assert!(plan.placements.is_empty(), "the other one stays, so that its leaving would not help: {plan:?}");
    let plan = schedule(&view, &[group(1, low(5, 1), 1..2)], NOW);
    assert_eq!((plan.placements[0].node, evicted(&plan)), (NodeId::from_random(2), vec![]));
}

#[test]
fn a_service_does_not_miss_more_tasks_than_it_may() {
    let mut view = view((1..=3).map(|n| node(n, 2, 2)));
    let budget = |most| Demand { max_unavailable: most, ..low(0, 2) };
    for n in 1..=3 {
        run(&mut view, 90 + n, 9, n, budget(Some(2)));
    }
    let plan = schedule(&view, &[group(1, low(5, 2), 1..4)], NOW);
    assert_eq!((plan.placements.len(), plan.refusals[0].tasks.len()), (2, 1));
    // One of them does not run yet: it counts as missing.
    view.upsert_task(&task(93, 9, Some(NodeId::from_random(3)), TaskState::Preparing), &Arc::new(budget(Some(2))));
    assert_eq!(schedule(&view, &[group(1, low(5, 2), 1..4)], NOW).placements.len(), 1);
    // One of them waits for a node.
    let waiting = group(9, budget(Some(2)), 101..102);
    assert!(evicted(&schedule(&view, &[group(1, low(5, 2), 1..4), waiting], NOW)).is_empty());
}

#[test]
fn who_has_the_port_leaves() {
    let port = HostPort { protocol: Protocol::Tcp, port: 80, address: None };
    let with = |priority| Demand { host_ports: vec![port], ..low(priority, 1) };
    let mut view = view([node(1, 4, 4)]);
    view.upsert_task(&placed_task(90, 9, 1, &with(0)), &Arc::new(with(0)));
    run(&mut view, 91, 9, 1, low(0, 1));
    assert_eq!(evicted(&schedule(&view, &[group(1, with(5), 1..2)], NOW)), [90]);
}

#[test]
fn a_global_task_takes_its_place_too() {
    let mut view = view([node(1, 4, 4), node(2, 4, 4)]);
    run(&mut view, 90, 9, 1, low(0, 4));
    let mut bound = group(1, low(5, 1), 1..2);
    bound.tasks[0].bound_to = Some(NodeId::from_random(1));
    assert_eq!(evicted(&schedule(&view, &[bound], NOW)), [90]);
}

#[test]
fn what_a_large_victim_leaves_serves_several() {
    let mut view = view([node(1, 4, 4), node(2, 4, 4)]);
    run(&mut view, 90, 9, 1, low(0, 4));
    run(&mut view, 91, 9, 2, low(0, 4));
    let plan = schedule(&view, &[group(1, low(5, 1), 1..5)], NOW);
    assert_eq!((plan.placements.len(), evicted(&plan).len()), (4, 1));
}

proptest! {
    /// Strictly lower priorities only, each victim once and on the node of the placement, nothing over capacity
    /// afterwards, and none that could have stayed.
    #[test]
    fn victims_are_lower_needed_and_taken_once(
        held in proptest::collection::vec((1..5u128, 1..4u64, 1..4u64, 0..4i32, 0..4u128), 0..16),
        asked in proptest::collection::vec((1..5u64, 1..5u64, 0..5i32, 1..4u128), 1..4),
        limit in proptest::option::of(1..3u64),
    ) {
        let mut view = view((1..=4).map(|n| node(n, 8, 8)));
        let mut running = std::collections::BTreeMap::new();
        for (at, (on, cpus, gib, priority, of)) in held.into_iter().enumerate() {
            let demand = Demand { priority, max_unavailable: limit, ..reserve(cpus, gib) };
            let usage = view.usage(NodeId::from_random(on)).unwrap();
            if usage.nano_cpus + demand.nano_cpus > 8 * CPU || usage.memory + demand.memory > 8 * GIB {
                continue;
            }
            run(&mut view, 900 + at as u128, 90 + of, on, demand.clone());
            running.insert(TaskId::from_random(900 + at as u128), (90 + of, on, demand));
        }
        let groups: Vec<_> = asked.into_iter().enumerate().map(|(at, (cpus, gib, priority, tasks))| {
            let first = at as u128 * 10;
            group(at as u128, Demand { priority, ..reserve(cpus, gib) }, first..first + tasks)
        }).collect();
        let plan = schedule(&view, &groups, NOW);
        let mut gone = BTreeSet::new();
        let mut missing = std::collections::BTreeMap::new();
        for placement in &plan.placements {
            let demand = &groups.iter().find(|group| group.service == placement.service).unwrap().demand;
            for victim in &placement.evicts {
                let (of, on, theirs) = &running[victim];
                prop_assert!(theirs.priority < demand.priority);
                prop_assert_eq!(NodeId::from_random(*on), placement.node);
                prop_assert!(gone.insert(*victim), "evicted twice");
                *missing.entry(*of).or_insert(0u64) += 1;
            }
        }
        prop_assert!(limit.is_none_or(|limit| missing.values().all(|count| *count <= limit)));
        let after = view.with_plan(&groups, &plan);
        for n in 1..=4u128 {
            let usage = after.usage(NodeId::from_random(n)).unwrap();
            prop_assert!(usage.nano_cpus <= 8 * CPU && usage.memory <= 8 * GIB);
        }
        // Putting any one victim back would be over capacity.
        for victim in &gone {
            let (of, on, demand) = &running[victim];
            let mut with = after.clone();
            run(&mut with, victim.as_u128(), *of, *on, demand.clone());
            let usage = with.usage(NodeId::from_random(*on)).unwrap();
            let later = plan.placements.iter().filter(|placement| placement.node == NodeId::from_random(*on)).count();
            prop_assert!(usage.nano_cpus > 8 * CPU || usage.memory > 8 * GIB || later > 1);
        }
    }
}
