//! What would help, what if, and what could be better: explanations, the loss of a node, rebalancing.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::state::{Availability, TaskState};
use berth_scheduler::{
    Budget, Change, ClusterView, Demand, Goal, TaskGroup, explain_placement, plan_rebalance, schedule, survives_loss,
};
use proptest::prelude::*;
use support::*;

fn run(view: &mut ClusterView, n: u128, of: u128, on: u128, demand: Demand) {
    view.upsert_task(&task(n, of, Some(NodeId::from_random(on)), TaskState::Running), &Arc::new(demand));
}

#[test]
fn a_refusal_says_what_would_help() {
    let mut drained = node(3, 8, 8);
    drained.spec.availability = Availability::Drain;
    let mut view = view([labelled(node(1, 4, 1), "disk", "ssd"), node(2, 4, 4), drained]);
    let ssd = vec!["node.labels.disk==ssd".parse().unwrap()];
    let plan = schedule(&view, &[group(1, Demand { constraints: ssd.clone(), ..reserve(1, 2) }, 1..2)], NOW);
    let explanation = &plan.refusals[0].explanation;
    assert_eq!(
        explanation.to_string(),
        "no node fits: 3 nodes: 1 drained, 1 does not match node.labels.disk==ssd, 1 lacks 2GiB memory (most left: 1GiB); \
         fits with one more node that matches node.labels.disk==ssd, or if reserve-memory <= 1GiB"
    );
    assert_eq!(explanation.nearest[0].misses.len(), 1);
    run(&mut view, 90, 9, 1, reserve(0, 1));
    let plan = schedule(&view, &[group(1, Demand { constraints: ssd, ..reserve(1, 1) }, 1..2)], NOW);
    assert!(plan.refusals[0].explanation.to_string().ends_with("or if 1GiB memory is freed on a node"));
}

proptest! {
    /// Reserving no more than the explanation says is enough.
    #[test]
    fn the_change_that_is_named_helps(
        nodes in proptest::collection::vec((1..9u64, 1..9u64), 1..6),
        cpus in 1..12u64,
        gib in 1..12u64,
    ) {
        let view = view(nodes.iter().zip(1u128..).map(|((cpus, gib), n)| node(n, *cpus, *gib)));
        let asked = reserve(cpus, gib);
        let plan = schedule(&view, &[group(1, asked.clone(), 1..2)], NOW);
        let Some(refusal) = plan.refusals.first() else { return Ok(()) };
        prop_assert!(!refusal.explanation.fixes.is_empty());
        for fix in &refusal.explanation.fixes {
            let mut less = asked.clone();
            for change in &fix.changes {
                match change {
                    Change::ReserveMemory(most) => less.memory = *most,
                    Change::ReserveCpus(most) => less.nano_cpus = *most,
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            prop_assert_eq!(schedule(&view, &[group(1, less, 1..2)], NOW).placements.len(), 1);
        }
    }
}

#[test]
fn a_placed_task_is_explained_by_its_node_and_the_next_best() {
    let mut view = view([node(1, 4, 4), node(2, 4, 4), node(3, 8, 8)]);
    run(&mut view, 90, 9, 1, reserve(2, 2));
    run(&mut view, 91, 9, 2, reserve(1, 1));
    let one = group(1, reserve(1, 1), 1..2);
    let plan = schedule(&view, std::slice::from_ref(&one), NOW);
    assert_eq!((plan.placements[0].node, plan.placements[0].reason.terms.fullness), (NodeId::from_random(1), 750_000));
    let after = view.with_plan(std::slice::from_ref(&one), &plan);
    let choice = explain_placement(&after, &one, TaskId::from_random(1), NOW).unwrap();
    assert_eq!((choice.node, choice.reason.terms), (NodeId::from_random(1), plan.placements[0].reason.terms));
    let (next, terms) = choice.reason.next.unwrap();
    assert_eq!((next, terms.fullness), (NodeId::from_random(2), 500_000));
    assert_eq!(choice.reason.candidates, 3);
}

fn placed_on(nodes: u128, cpus: u64, groups: &[TaskGroup]) -> ClusterView {
    let view = view((1..=nodes).map(|n| node(n, cpus, cpus)));
    let plan = schedule(&view, groups, NOW);
    assert!(plan.refusals.is_empty());
    view.with_plan(groups, &plan)
}

#[test]
fn services_survive_the_loss_of_a_node_when_the_others_have_room() {
    let groups = [group(1, reserve(2, 2), 1..4)];
    let view = placed_on(3, 4, &groups);
    let survival = survives_loss(&view, &groups, NOW);
    assert!(survival.survives() && survival.tried == 2, "{survival:?}");
    let full = [group(1, reserve(2, 2), 1..7)];
    let survival = survives_loss(&placed_on(3, 4, &full), &full, NOW);
    assert_eq!(survival.losses.len(), 3);
    assert_eq!(survival.losses[0].homeless, [(service(1), 2)]);
}

fn budget(goal: Goal, moves: usize) -> Budget {
    Budget { goal, moves, now: NOW }
}

#[test]
fn the_fewest_moves_free_nodes() {
    let mut view = view((1..=4).map(|n| node(n, 4, 4)));
    run(&mut view, 90, 1, 1, reserve(2, 2));
    run(&mut view, 91, 2, 2, reserve(1, 1));
    run(&mut view, 92, 3, 3, reserve(1, 1));
    let plan = plan_rebalance(&view, &budget(Goal::FreeNodes, 10));
    assert_eq!((plan.moves.len(), plan.bill.used_before, plan.bill.used_after, plan.bill.freed()), (2, 3, 1, 2));
    assert_eq!(plan_rebalance(&view, &budget(Goal::FreeNodes, 1)).moves.len(), 1);
    assert!(plan_rebalance(&view, &budget(Goal::FreeNodes, 0)).moves.is_empty());
}

#[test]
fn a_node_that_cannot_be_emptied_whole_is_left_alone() {
    let mut view = view((1..=2).map(|n| node(n, 4, 4)));
    run(&mut view, 90, 1, 1, reserve(2, 2));
    run(&mut view, 91, 2, 1, reserve(1, 1));
    run(&mut view, 92, 3, 2, reserve(3, 3));
    run(&mut view, 93, 3, 2, Demand { max_unavailable: Some(1), ..reserve(0, 0) });
    assert!(plan_rebalance(&view, &budget(Goal::FreeNodes, 10)).moves.is_empty());
}

#[test]
fn levelling_brings_the_fullest_node_down() {
    let mut view = view((1..=2).map(|n| node(n, 4, 4)));
    for n in 90..94 {
        run(&mut view, n, n, 1, reserve(1, 1));
    }
    let plan = plan_rebalance(&view, &budget(Goal::Level, 10));
    assert_eq!((plan.moves.len(), plan.bill.level_before, plan.bill.level_after), (2, 1_000_000, 500_000));
    let limited = Demand { max_unavailable: Some(1), ..reserve(1, 1) };
    for n in 90..94 {
        run(&mut view, n, 1, 1, limited.clone());
    }
    assert_eq!(plan_rebalance(&view, &budget(Goal::Level, 10)).moves.len(), 1, "no more than the service may miss");
}
