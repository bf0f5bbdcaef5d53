//! Rules between tasks: together and apart, required and wished, and gangs.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::spec::{Affinity, Relation, Scope, Selector};
use berth_proto::state::TaskState;
use berth_scheduler::{ClusterView, Demand, Plan, TaskGroup, schedule};
use support::*;

fn rule(relation: Relation, with: &str, scope: &str, required: bool) -> Affinity {
    let with = match with.split_once('=') {
        Some((key, value)) => Selector::Label { key: key.into(), value: value.into() },
        None => Selector::Service(with.parse().unwrap()),
    };
    let scope = if scope == "node" { Scope::Node } else { Scope::Attribute(scope.into()) };
    Affinity { relation, with, scope, required }
}

fn named(name: &str, rules: Vec<Affinity>) -> Demand {
    Demand { name: Some(name.parse().unwrap()), affinity: rules, ..Demand::default() }
}

/// Two racks of two nodes each and a node in none.
fn racks() -> ClusterView {
    let rack = |n, rack| labelled(node(n, 8, 8), "rack", rack);
    view([rack(1, "a"), rack(2, "a"), rack(3, "b"), rack(4, "b"), node(5, 8, 8)])
}

fn nodes_of(plan: &Plan, of: u128) -> Vec<u128> {
    let placed = plan.placements.iter().filter(|placement| placement.service == service(of));
    let mut nodes: Vec<u128> = placed.map(|placement| placement.node.as_u128()).collect();
    nodes.sort_unstable();
    nodes
}

fn rack_of(n: u128) -> &'static str {
    ["", "a", "a", "b", "b", ""][n as usize]
}

#[test]
fn tasks_of_a_service_that_keeps_apart_from_itself_take_a_rack_each() {
    let demand = named("web", vec![rule(Relation::Apart, "web", "node.labels.rack", true)]);
    let plan = schedule(&racks(), &[group(1, demand, 1..5)], NOW);
    let mut racks: Vec<&str> = nodes_of(&plan, 1).into_iter().map(rack_of).collect();
    racks.sort_unstable();
    assert_eq!(racks, ["", "", "a", "b"][..racks.len()].to_vec(), "a node in no rack is apart from all");
    let four = named("web", vec![rule(Relation::Apart, "web", "node", true)]);
    let plan = schedule(&racks_without(5), &[group(1, four, 1..6)], NOW);
    assert_eq!((plan.placements.len(), plan.refusals[0].tasks.len()), (4, 1));
    let said = plan.refusals[0].explanation.to_string();
    assert!(said.starts_with("no node fits: 4 nodes: 4 are not apart from web on a node; fits if "), "{said}");
}

fn racks_without(n: u128) -> ClusterView {
    let mut view = racks();
    view.remove_node(NodeId::from_random(n));
    view
}

#[test]
fn tasks_that_want_to_be_together_follow_the_first() {
    let demand = named("web", vec![rule(Relation::Together, "web", "node.labels.rack", true)]);
    let plan = schedule(&racks(), &[group(1, Demand { max_per_node: 1, ..demand }, 1..4)], NOW);
    let nodes = nodes_of(&plan, 1);
    assert_eq!(nodes.len(), 2, "the third finds no node in the rack of the first");
    assert!(!rack_of(nodes[0]).is_empty() && rack_of(nodes[0]) == rack_of(nodes[1]), "{nodes:?}");
}

#[test]
fn a_service_goes_to_where_the_other_one_is() {
    let mut view = racks();
    view.upsert_task(&task(90, 9, Some(NodeId::from_random(3)), TaskState::Running), &Arc::new(named("db", vec![])));
    let by = |scope, required| {
        let demand = named("web", vec![rule(Relation::Together, "db", scope, required)]);
        nodes_of(&schedule(&view, &[group(1, demand, 1..5)], NOW), 1)
    };
    assert_eq!(by("node", true), [3, 3, 3, 3]);
    assert_eq!(by("node.labels.rack", true), [3, 3, 4, 4]);
    assert_eq!(by("node", false), [3, 3, 3, 3], "a wish is kept while there is room");
    let missing = named("web", vec![rule(Relation::Together, "cache", "node", true)]);
    assert!(schedule(&view, &[group(1, missing, 1..2)], NOW).placements.is_empty());
}

#[test]
fn wishes_give_way_when_there_is_no_room() {
    let mut view = view([node(1, 2, 2), node(2, 2, 2)]);
    let demand = Demand { labels: BTreeMap::from([("tier".into(), "batch".into())]), ..reserve(1, 1) };
    view.upsert_task(&task(90, 9, Some(NodeId::from_random(1)), TaskState::Running), &Arc::new(demand));
    let web = Demand { affinity: vec![rule(Relation::Apart, "tier=batch", "node", false)], ..reserve(1, 1) };
    assert_eq!(nodes_of(&schedule(&view, &[group(1, web, 1..4)], NOW), 1), [1, 2, 2]);
}

#[test]
fn what_a_task_keeps_away_does_not_come_to_it_later() {
    let mut view = view([node(1, 8, 8), node(2, 8, 8)]);
    let guarded = named("db", vec![rule(Relation::Apart, "batch", "node", true)]);
    view.upsert_task(&task(90, 9, Some(NodeId::from_random(1)), TaskState::Running), &Arc::new(guarded));
    let plan = schedule(&view, &[group(1, named("batch", vec![]), 1..4)], NOW);
    assert_eq!(nodes_of(&plan, 1), [2, 2, 2]);
    view.remove_node(NodeId::from_random(2));
    let said = schedule(&view, &[group(1, named("batch", vec![]), 1..2)], NOW).refusals[0].explanation.to_string();
    assert!(said.contains("1 has a task that is kept apart from this service"), "{said}");
}

#[test]
fn a_rule_sees_what_was_placed_earlier_in_the_same_plan() {
    let db = Demand { priority: 1, ..named("db", vec![]) };
    let web = named("web", vec![rule(Relation::Apart, "db", "node.labels.rack", true)]);
    let groups: [TaskGroup; 2] = [group(1, web, 1..3), group(2, db, 11..12)];
    let plan = schedule(&racks_without(5), &groups, NOW);
    let at = nodes_of(&plan, 2)[0];
    assert!(nodes_of(&plan, 1).iter().all(|n| rack_of(*n) != rack_of(at)), "{plan:?}");
}

#[test]
fn a_gang_is_placed_whole_or_not_at_all_and_leaves_no_trace() {
    let gang = |tasks: u128| group(1, Demand { gang: true, priority: 1, ..reserve(2, 2) }, 1..1 + tasks);
    let view = view([node(1, 4, 4), node(2, 4, 4)]);
    assert_eq!(schedule(&view, &[gang(4)], NOW).placements.len(), 4);
    let plan = schedule(&view, &[gang(5), group(2, reserve(4, 4), 11..13)], NOW);
    assert_eq!((nodes_of(&plan, 1).len(), nodes_of(&plan, 2)), (0, vec![1, 2]));
    let refusal = &plan.refusals[0];
    assert_eq!((refusal.tasks.len(), refusal.explanation.gang), (5, Some(4)));
    let said = refusal.explanation.to_string();
    assert!(said.starts_with("the tasks start together or not at all, and there is room for 4 of them: "), "{said}");
}

#[test]
fn a_gang_that_is_called_off_evicts_nobody() {
    let mut view = view([node(1, 4, 4)]);
    let low = Arc::new(reserve(2, 2));
    for n in 90..92 {
        view.upsert_task(&task(n, 9, Some(NodeId::from_random(1)), TaskState::Running), &low);
    }
    let gang = |tasks: u128| [group(1, Demand { gang: true, priority: 5, ..reserve(2, 2) }, 1..1 + tasks)];
    let plan = schedule(&view, &gang(2), NOW);
    assert_eq!(plan.placements.iter().map(|placement| placement.evicts.len()).sum::<usize>(), 2);
    let mut both = gang(3).to_vec();
    both.push(group(2, Demand { priority: 1, ..reserve(2, 2) }, 11..12));
    let plan = schedule(&view, &both, NOW);
    assert!(nodes_of(&plan, 1).is_empty());
    assert_eq!(plan.placements[0].evicts.len(), 1, "the victims of the gang are there for others");
}
