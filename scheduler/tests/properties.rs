//! What holds for every cluster: no node is given more than it has, plans repeat, every task is answered, and the view
//! kept up to date equals the view built afresh.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::{Node, Task};
use berth_proto::spec::{Affinity, Relation, Scope, Selector, Strategy as Placing};
use berth_proto::state::{Availability, DesiredState, TaskState};
use berth_scheduler::{ClusterView, Demand, HostPort, TaskGroup, constraint_holds, schedule};
use proptest::prelude::*;
use proptest::strategy::Strategy;
use support::*;

fn any_node(n: u128) -> impl Strategy<Value = Node> {
    (0..9u64, 0..9u64, 0..3u8, 0..8u8).prop_map(move |(cpus, gib, zone, mood)| {
        let mut node = labelled(node(n, cpus, gib), "zone", ["a", "b", "c"][zone as usize]);
        if mood == 0 {
            node.spec.availability = Availability::Drain;
        }
        node
    })
}

fn any_nodes() -> impl Strategy<Value = Vec<Node>> {
    (0..12usize).prop_flat_map(|len| (0..len).map(|n| any_node(n as u128 + 1)).collect::<Vec<_>>())
}

fn any_demand() -> impl Strategy<Value = Demand> {
    let words = (any::<bool>(), 0..4u8, 0..3i32, any::<bool>(), 0..6u8);
    (0..3u64, 0..3u64, 0..4u64, 0..3u8, words).prop_map(
        |(cpus, gib, max_per_node, constraint, (spread, port, priority, spreads, rule))| Demand {
            constraints: match constraint {
                0 => vec!["node.labels.zone==a".parse().unwrap()],
                1 => vec!["node.labels.zone!=b".parse().unwrap()],
                _ => vec![],
            },
            spread: if spread { vec!["node.labels.zone".into()] } else { vec![] },
            host_ports: if port == 0 {
                vec![HostPort { protocol: berth_proto::spec::Protocol::Tcp, port: 80, address: None }]
            } else {
                vec![]
            },
            max_per_node,
            priority,
            strategy: if spreads { Placing::Spread } else { Placing::Pack },
            affinity: any_rule(rule),
            labels: [("kind".to_owned(), ["x", "y"][usize::from(port % 2)].to_owned())].into(),
            ..reserve(cpus, gib)
        },
    )
}

fn any_rule(kind: u8) -> Vec<Affinity> {
    let with = Selector::Label { key: "kind".into(), value: "x".into() };
    let scope = if kind.is_multiple_of(2) { Scope::Node } else { Scope::Attribute("node.labels.zone".into()) };
    match kind {
        0 | 1 => vec![Affinity { relation: Relation::Apart, with, scope, required: true }],
        2 | 3 => vec![Affinity { relation: Relation::Together, with, scope, required: true }],
        4 => vec![Affinity { relation: Relation::Apart, with, scope, required: false }],
        _ => vec![],
    }
}

fn any_groups() -> impl Strategy<Value = Vec<TaskGroup>> {
    proptest::collection::vec((any_demand(), 0..9u128), 0..6).prop_map(|groups| {
        let groups = groups.into_iter().enumerate();
        groups.map(|(n, (demand, tasks))| group(n as u128, demand, n as u128 * 100..n as u128 * 100 + tasks)).collect()
    })
}

proptest! {
    #[test]
    fn nothing_is_overcommitted_and_every_task_is_answered(nodes in any_nodes(), groups in any_groups()) {
        let plan = schedule(&view(nodes.clone()), &groups, NOW);
        let demand = |service| groups.iter().find(|group| group.service == service).unwrap().demand.clone();
        let mut held: BTreeMap<NodeId, (u64, u64, Vec<HostPort>)> = BTreeMap::new();
        let mut of_service = BTreeMap::new();
        for placement in &plan.placements {
            let node = nodes.iter().find(|node| node.id == placement.node).unwrap();
            let demand = demand(placement.service);
            let sums = held.entry(node.id).or_default();
            sums.0 += demand.nano_cpus;
            sums.1 += demand.memory;
            prop_assert!(demand.host_ports.iter().all(|port| !sums.2.contains(port)));
            sums.2.extend(&demand.host_ports);
            let has = &node.description.as_ref().unwrap().resources;
            prop_assert!(sums.0 <= has.nano_cpus && sums.1 <= has.memory);
            prop_assert!(node.spec.availability == Availability::Active);
            prop_assert!(demand.constraints.iter().all(|constraint| constraint_holds(constraint, node)));
            let count = of_service.entry((node.id, placement.service)).or_insert(0u64);
            *count += 1;
            prop_assert!(demand.max_per_node == 0 || *count <= demand.max_per_node);
        }
        let placed = plan.placements.iter().map(|placement| placement.task);
        let refused = plan.refusals.iter().flat_map(|refusal| refusal.tasks.iter().copied());
        let answered: Vec<TaskId> = placed.chain(refused).collect();
        let asked: BTreeSet<TaskId> = groups.iter().flat_map(|group| &group.tasks).map(|request| request.task).collect();
        prop_assert_eq!(answered.len(), asked.len());
        prop_assert_eq!(answered.into_iter().collect::<BTreeSet<_>>(), asked);
    }

    #[test]
    fn a_refused_task_really_fits_nowhere(nodes in any_nodes(), groups in any_groups()) {
        let mut after = view(nodes.clone());
        let plan = schedule(&after, &groups, NOW);
        for placement in &plan.placements {
            let group = groups.iter().find(|group| group.service == placement.service).unwrap();
            after.upsert_task(&placed(placement.task, group, placement.node), &group.demand);
        }
        for refusal in &plan.refusals {
            let group = groups.iter().find(|group| group.service == refusal.service).unwrap();
            // What came later may have brought those together that want to be, and may be evicted.
            let demand = Arc::new(Demand { priority: 0, ..Demand::clone(&group.demand) });
            let again = TaskGroup { tasks: vec![group.tasks[0]], demand, ..group.clone() };
            let tied = group.demand.affinity.iter().any(|rule| rule.relation == Relation::Together);
            prop_assert!(tied || schedule(&after, &[again], NOW).placements.is_empty());
            prop_assert_eq!(refusal.explanation.misses.values().sum::<u32>(), nodes.len() as u32);
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_in_any_order_of_nodes(nodes in any_nodes(), groups in any_groups()) {
        let plan = schedule(&view(nodes.clone()), &groups, NOW);
        prop_assert_eq!(&plan, &schedule(&view(nodes.clone()), &groups, NOW));
        let backwards = schedule(&view(nodes.into_iter().rev()), &groups, NOW);
        let places = |plan: &berth_scheduler::Plan| plan.placements.iter().map(|p| (p.task, p.node)).collect::<BTreeMap<_, _>>();
        prop_assert_eq!(places(&plan), places(&backwards));
    }

    #[test]
    fn the_view_kept_up_to_date_equals_the_view_built_afresh(
        steps in proptest::collection::vec(any_step(), 0..80),
        groups in any_groups(),
    ) {
        let mut kept = ClusterView::new(7);
        let mut nodes: BTreeMap<NodeId, Node> = BTreeMap::new();
        let mut tasks: BTreeMap<TaskId, (Task, Arc<Demand>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Node(node) => {
                    kept.upsert_node(Arc::new(Node::clone(&node)));
                    nodes.insert(node.id, *node);
                }
                Step::NodeGone(id) => {
                    kept.remove_node(id);
                    nodes.remove(&id);
                }
                Step::Task(task, demand) => {
                    let demand = Arc::new(*demand);
                    kept.upsert_task(&task, &demand);
                    tasks.insert(task.id, (*task, demand));
                }
                Step::TaskGone(id) => {
                    kept.remove_task(id);
                    tasks.remove(&id);
                }
            }
        }
        let mut fresh = view(nodes.into_values());
        for (task, demand) in tasks.values() {
            fresh.upsert_task(task, demand);
        }
        prop_assert!(kept.same_as(&fresh), "{kept:?}\n{fresh:?}");
        let places = |view: &ClusterView| -> BTreeMap<_, _> {
            schedule(view, &groups, NOW).placements.into_iter().map(|p| (p.task, (p.node, p.evicts))).collect()
        };
        prop_assert_eq!(places(&kept), places(&fresh));
    }

    #[test]
    fn a_fork_does_not_touch_what_it_came_from(nodes in any_nodes(), groups in any_groups()) {
        let view = view(nodes.clone());
        let plan = schedule(&view, &groups, NOW);
        let fork = view.with_plan(&groups, &plan);
        prop_assert!(view.same_as(&support::view(nodes)));
        let again = groups.iter().flat_map(|group| &group.tasks).filter(|request| fork.node_of(request.task).is_some());
        prop_assert_eq!(again.count(), plan.placements.len());
    }

    #[test]
    fn one_more_node_never_takes_a_place_away(nodes in any_nodes(), more in any_node(99), demand in any_demand()) {
        let one = [group(1, demand, 1..2)];
        let placed = |nodes: Vec<Node>| schedule(&view(nodes), &one, NOW).placements.len();
        let mut larger = nodes.clone();
        larger.push(more);
        prop_assert!(placed(nodes) <= placed(larger));
    }

    /// Equal tasks that are not tied to each other: the most that fit are as many as fit on each node by itself.
    #[test]
    fn as_many_equal_tasks_are_placed_as_fit(nodes in any_nodes(), demand in any_demand(), tasks in 1..40u128) {
        let demand = Demand { affinity: vec![], ..demand };
        let alone = |node: &Node| {
            let mut count = 0;
            let (mut cpus, mut memory) = (demand.nano_cpus, demand.memory);
            let has = &node.description.as_ref().unwrap().resources;
            let allowed = node.spec.availability == Availability::Active
                && demand.constraints.iter().all(|constraint| constraint_holds(constraint, node));
            let most = match (demand.host_ports.len(), demand.max_per_node) {
                (0, 0) => tasks as u64,
                (0, most) => most,
                (_, _) => 1,
            };
            while allowed && count < most && cpus <= has.nano_cpus && memory <= has.memory {
                (count, cpus, memory) = (count + 1, cpus + demand.nano_cpus, memory + demand.memory);
            }
            count
        };
        let most: u64 = nodes.iter().map(alone).sum();
        let plan = schedule(&view(nodes.clone()), &[group(1, demand.clone(), 0..tasks)], NOW);
        prop_assert_eq!(plan.placements.len() as u64, most.min(tasks as u64));
    }

    #[test]
    fn required_rules_hold_in_every_plan(nodes in any_nodes(), groups in any_groups()) {
        let plan = schedule(&view(nodes.clone()), &groups, NOW);
        let of = |service| groups.iter().find(|group| group.service == service).unwrap();
        let spot = |scope: &Scope, id: NodeId| match scope {
            Scope::Node => id.to_string(),
            Scope::Attribute(_) => nodes.iter().find(|node| node.id == id).unwrap().spec.labels["zone"].clone(),
        };
        for placement in &plan.placements {
            for rule in of(placement.service).demand.affinity.iter().filter(|rule| rule.required) {
                let is_x = |service| of(service).demand.labels["kind"] == "x";
                let here = spot(&rule.scope, placement.node);
                let others = plan.placements.iter().filter(|other| other.task != placement.task && is_x(other.service));
                let near = others.filter(|other| spot(&rule.scope, other.node) == here).count();
                match rule.relation {
                    Relation::Apart => prop_assert_eq!(near, 0),
                    Relation::Together => prop_assert!(near > 0 || is_x(placement.service)),
                }
            }
        }
    }

    #[test]
    fn a_gang_is_whole_or_nothing(nodes in any_nodes(), groups in any_groups()) {
        let gang = |group: &TaskGroup| {
            TaskGroup { demand: Arc::new(Demand { gang: true, ..Demand::clone(&group.demand) }), ..group.clone() }
        };
        let groups: Vec<TaskGroup> = groups.iter().map(gang).collect();
        let plan = schedule(&view(nodes), &groups, NOW);
        for group in &groups {
            let placed = plan.placements.iter().filter(|placement| placement.service == group.service).count();
            prop_assert!(placed == 0 || placed == group.tasks.len());
        }
    }
}

fn placed(id: TaskId, group: &TaskGroup, node: NodeId) -> Task {
    let mut task = task(0, 0, Some(node), TaskState::Assigned);
    task.id = id;
    task.service = group.service;
    task.host_ports = group
        .demand
        .host_ports
        .iter()
        .map(|port| berth_proto::spec::PortConfig {
            name: None,
            protocol: port.protocol,
            target: port.port,
            published: Some(port.port),
            mode: berth_proto::spec::PublishMode::Host,
            host_ip: port.address,
        })
        .collect();
    task
}

#[derive(Debug, Clone)]
enum Step {
    Node(Box<Node>),
    NodeGone(NodeId),
    Task(Box<Task>, Box<Demand>),
    TaskGone(TaskId),
}

fn any_step() -> impl Strategy<Value = Step> {
    let states = [TaskState::Pending, TaskState::Assigned, TaskState::Running, TaskState::Complete, TaskState::Failed];
    let wishes = [DesiredState::Ready, DesiredState::Running, DesiredState::Shutdown, DesiredState::Remove];
    let any_task = (1..12u128, 1..4u128, 0..5u128, 0..5usize, 0..4usize, any_demand()).prop_map(
        move |(n, of, on, state, wish, demand)| {
            let on = (on > 0).then(|| NodeId::from_random(on));
            let mut task = task(n, of, on, states[state]);
            task.desired = wishes[wish];
            Step::Task(Box::new(task), Box::new(demand))
        },
    );
    prop_oneof![
        2 => (1..5u128).prop_flat_map(any_node).prop_map(|node| Step::Node(Box::new(node))),
        1 => (1..5u128).prop_map(|n| Step::NodeGone(NodeId::from_random(n))),
        6 => any_task,
        1 => (1..12u128).prop_map(|n| Step::TaskGone(TaskId::from_random(n))),
    ]
}
