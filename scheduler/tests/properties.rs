//! What holds for every cluster: no node is given more than it has, plans repeat, every task is answered, and the view
//! kept up to date equals the view built afresh.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::{Node, Task};
use berth_proto::state::{Availability, DesiredState, TaskState};
use berth_scheduler::{ClusterView, Demand, HostPort, TaskGroup, constraint_holds, schedule};
use proptest::prelude::*;
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
    (0..3u64, 0..3u64, 0..4u64, 0..3u8, any::<bool>(), 0..4u8, 0..3i32).prop_map(
        |(cpus, gib, max_per_node, constraint, spread, port, priority)| Demand {
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
            ..reserve(cpus, gib)
        },
    )
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
            let again = TaskGroup { tasks: vec![group.tasks[0]], ..group.clone() };
            prop_assert!(schedule(&after, &[again], NOW).placements.is_empty());
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
    fn the_view_kept_up_to_date_equals_the_view_built_afresh(steps in proptest::collection::vec(any_step(), 0..80)) {
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
                    let demand = Arc::new(demand);
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
    Task(Box<Task>, Demand),
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
            Step::Task(Box::new(task), demand)
        },
    );
    prop_oneof![
        2 => (1..5u128).prop_flat_map(any_node).prop_map(|node| Step::Node(Box::new(node))),
        1 => (1..5u128).prop_map(|n| Step::NodeGone(NodeId::from_random(n))),
        6 => any_task,
        1 => (1..12u128).prop_map(|n| Step::TaskGone(TaskId::from_random(n))),
    ]
}
