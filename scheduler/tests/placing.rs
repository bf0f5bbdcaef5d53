//! Which of the nodes that fit is taken.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::state::TaskState;
use berth_scheduler::{Demand, Plan, Strategy, schedule};
use support::*;

fn per_node(plan: &Plan) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for placement in &plan.placements {
        *counts.entry(placement.node).or_default() += 1;
    }
    counts
}

#[test]
fn tasks_that_reserve_nothing_are_spread() {
    let plan = schedule(&view((1..=4).map(|n| node(n, 4, 4))), &[group(1, Demand::default(), 1..13)], NOW);
    assert_eq!(per_node(&plan).into_values().collect::<Vec<_>>(), [3, 3, 3, 3]);
}

#[test]
fn single_tasks_with_reservations_are_packed() {
    let groups: Vec<_> = (1..=4u128).map(|n| group(n, reserve(1, 1), n * 10..n * 10 + 1)).collect();
    let plan = schedule(&view((1..=4).map(|n| node(n, 4, 4))), &groups, NOW);
    assert_eq!(per_node(&plan).into_values().collect::<Vec<_>>(), [4], "four services of one task fill one node");
}

#[test]
fn replicas_of_one_service_do_not_crowd_one_node() {
    let plan = schedule(&view((1..=3).map(|n| node(n, 8, 8))), &[group(1, reserve(1, 1), 1..4)], NOW);
    assert_eq!(per_node(&plan).len(), 3);
}

#[test]
fn the_spread_strategy_spreads_reserved_tasks_too() {
    let demand = |n| group(n, Demand { strategy: Strategy::Spread, ..reserve(1, 1) }, n * 10..n * 10 + 1);
    let groups: Vec<_> = (1..=4).map(demand).collect();
    let plan = schedule(&view((1..=4).map(|n| node(n, 4, 4))), &groups, NOW);
    assert_eq!(per_node(&plan).len(), 4);
}

#[test]
fn preferences_spread_over_zones_before_nodes_and_overflow_when_a_zone_is_full() {
    let nodes = [
        labelled(node(1, 4, 4), "zone", "a"),
        labelled(node(2, 4, 4), "zone", "a"),
        labelled(node(3, 4, 4), "zone", "a"),
        labelled(node(4, 4, 4), "zone", "b"),
        node(5, 1, 1),
    ];
    let demand = Demand { spread: vec!["node.labels.zone".into()], ..reserve(1, 1) };
    let plan = schedule(&view(nodes), &[group(1, demand, 1..11)], NOW);
    let counts = per_node(&plan);
    let of = |n: u128| counts.get(&NodeId::from_random(n)).copied().unwrap_or_default();
    assert_eq!(of(1) + of(2) + of(3), 5, "{counts:?}");
    assert_eq!((of(4), of(5)), (4, 1), "the small zones are full: {counts:?}");
}

#[test]
fn spread_counts_what_runs_already() {
    let demand = Demand { spread: vec!["node.labels.zone".into()], ..Demand::default() };
    let mut view = view([labelled(node(1, 4, 4), "zone", "a"), labelled(node(2, 4, 4), "zone", "b")]);
    for n in 100..103 {
        view.upsert_task(&task(n, 1, Some(NodeId::from_random(1)), TaskState::Running), &Arc::new(demand.clone()));
    }
    let plan = schedule(&view, &[group(1, demand, 1..4)], NOW);
    assert_eq!(per_node(&plan), BTreeMap::from([(NodeId::from_random(2), 3)]));
}

#[test]
fn a_node_where_the_service_keeps_failing_is_avoided_for_a_while() {
    let demand = Arc::new(Demand::default());
    let mut view = view([node(1, 4, 4), node(2, 4, 4)]);
    view.upsert_task(&task(50, 1, Some(NodeId::from_random(2)), TaskState::Running), &demand);
    for n in 100..103 {
        view.upsert_task(&task(n, 1, Some(NodeId::from_random(1)), TaskState::Failed), &demand);
    }
    let place = |now| schedule(&view, &[group(1, Demand::default(), 1..2)], now).placements[0].node;
    assert_eq!(place(NOW), NodeId::from_random(2));
    assert_eq!(place(NOW.after(std::time::Duration::from_secs(400))), NodeId::from_random(1));
}

#[test]
fn higher_priority_is_served_first() {
    let low = group(1, reserve(4, 4), 1..2);
    let high = group(2, Demand { priority: 5, ..reserve(4, 4) }, 11..12);
    let plan = schedule(&view([node(1, 4, 4)]), &[low, high], NOW);
    assert_eq!(plan.placements[0].service, service(2));
    assert_eq!(plan.refusals[0].service, service(1));
}
