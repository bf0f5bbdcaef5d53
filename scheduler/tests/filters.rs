//! Each filter removes the nodes that it should and says so.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::spec::{Platform, Protocol};
use berth_proto::state::{Availability, NodeRole, NodeState, TaskState};
use berth_scheduler::{Demand, Explanation, HostPort, constraint_holds, schedule};
use support::*;

/// The refusal of a single task without what would help, or the empty text where it was placed.
fn refusal(nodes: Vec<Node>, demand: Demand) -> String {
    let plan = schedule(&view(nodes), &[group(1, demand, 1..2)], NOW);
    plan.refusals.first().map(|refusal| why(&refusal.explanation)).unwrap_or_default()
}

fn why(explanation: &Explanation) -> String {
    let said = explanation.to_string();
    said.split("; fits ").next().unwrap_or_default().to_owned()
}

#[test]
fn nothing_fits_without_nodes() {
    assert_eq!(refusal(vec![], Demand::default()), "no node fits: there are no nodes");
}

#[test]
fn nodes_that_are_not_ready_and_active_are_out() {
    let mut nodes: Vec<Node> = (1..=5).map(|n| node(n, 4, 4)).collect();
    nodes[0].status.state = NodeState::Down;
    nodes[1].status.state = NodeState::Unknown;
    nodes[2].spec.availability = Availability::Drain;
    nodes[3].spec.availability = Availability::Pause;
    nodes[4].spec.availability = Availability::Drain;
    let said = refusal(nodes, Demand::default());
    assert_eq!(said, "no node fits: 5 nodes: 2 drained, 1 down, 1 not heard of yet, 1 paused");
}

#[test]
fn resources_that_lack_are_named_with_what_is_left() {
    let said = refusal(vec![node(1, 4, 1), node(2, 4, 1), node(3, 1, 8)], reserve(2, 2));
    assert_eq!(said, "no node fits: 3 nodes: 2 lack 2GiB memory (most left: 1GiB), 1 lacks 2 cpu (most left: 1)");
    let gpu = Demand { generic: BTreeMap::from([("gpu".to_owned(), 1)]), ..Demand::default() };
    assert_eq!(refusal(vec![node(1, 4, 1)], gpu), "no node fits: 1 node: 1 lacks 1 gpu");
}

#[test]
fn constraints_read_every_known_attribute() {
    let mut node = labelled(node(1, 1, 1), "Zone", "A");
    node.spec.role = NodeRole::Manager;
    node.status.address = "10.0.0.5:4777".into();
    node.description.as_mut().unwrap().engine_labels.insert("gen".into(), "3".into());
    for (text, expected) in [
        ("node.labels.Zone==a", true),
        ("node.labels.zone==a", false),
        ("NODE.LABELS.Zone==A", true),
        ("node.labels.Zone!=a", false),
        ("node.labels.none!=a", true),
        ("node.labels.none==a", false),
        ("engine.labels.gen==3", true),
        ("node.role==manager", true),
        ("node.role!=worker", true),
        ("node.hostname==HOST1", true),
        ("node.platform.os==linux", true),
        ("node.platform.arch==amd64", true),
        ("node.ip==10.0.0.5", true),
        ("node.ip==10.0.0.0/24", true),
        ("node.ip!=10.0.0.0/24", false),
        ("node.colour==red", false),
        ("node.colour!=red", false),
        ("node.id==0000000000000000000000001", true),
        ("node.id!=0000000000000000000000001", false),
    ] {
        assert_eq!(constraint_holds(&text.parse().unwrap(), &node), expected, "{text}");
    }
    let demand = Demand { constraints: vec!["node.labels.disk==ssd".parse().unwrap()], ..Demand::default() };
    assert_eq!(refusal(vec![node], demand), "no node fits: 1 node: 1 does not match node.labels.disk==ssd");
}

#[test]
fn platforms_are_compared_in_oci_words() {
    let arm = Platform { os: "linux".into(), architecture: "arm64".into() };
    let demand = |platform| Demand { platforms: vec![platform], ..Demand::default() };
    assert!(refusal(vec![node(1, 1, 1)], demand(arm)).ends_with("1 of another platform than linux/arm64"));
    let amd = Platform { os: String::new(), architecture: "amd64".into() };
    assert_eq!(refusal(vec![node(1, 1, 1)], demand(amd)), "");
}

#[test]
fn a_capability_is_missed_only_where_others_of_its_kind_are_reported() {
    let demand = Demand { capabilities: vec!["network:overlay".into()], ..Demand::default() };
    assert_eq!(refusal(vec![node(1, 1, 1)], demand.clone()), "");
    let mut bridge_only = node(1, 1, 1);
    bridge_only.description.as_mut().unwrap().capabilities.insert("network:bridge".into());
    assert_eq!(refusal(vec![bridge_only], demand), "no node fits: 1 node: 1 lacks network:overlay");
}

#[test]
fn a_host_port_has_one_holder_per_node() {
    let port = HostPort { protocol: Protocol::Tcp, port: 80, address: None };
    let demand = Demand { host_ports: vec![port], ..Demand::default() };
    let plan = schedule(&view([node(1, 4, 4), node(2, 4, 4)]), &[group(1, demand, 1..4)], NOW);
    assert_eq!(plan.placements.len(), 2);
    assert_ne!(plan.placements[0].node, plan.placements[1].node);
    let said = why(&plan.refusals[0].explanation);
    assert_eq!(said, "no node fits: 2 nodes: 2 have host port 80/tcp taken");
    let on = |text: &str| HostPort { address: Some(text.parse().unwrap()), ..port };
    assert!(on("0.0.0.0").clashes_with(&on("10.0.0.1")) && !on("10.0.0.1").clashes_with(&on("10.0.0.2")));
}

#[test]
fn max_replicas_per_node_counts_only_tasks_that_are_wanted() {
    let demand = Arc::new(Demand { max_per_node: 1, ..Demand::default() });
    let mut view = view([node(1, 4, 4)]);
    let mut old = task(9, 1, Some(NodeId::from_random(1)), TaskState::Running);
    view.upsert_task(&old, &demand);
    let plan = schedule(&view, &[group(1, (*demand).clone(), 1..2)], NOW);
    let said = why(&plan.refusals[0].explanation);
    assert_eq!(said, "no node fits: 1 node: 1 has 1 task of the service, the most allowed on one node");
    old.desired = berth_proto::state::DesiredState::Shutdown;
    assert!(view.upsert_task(&old, &demand));
    assert_eq!(schedule(&view, &[group(1, (*demand).clone(), 1..2)], NOW).placements.len(), 1);
}

#[test]
fn a_bound_task_goes_to_its_node_or_nowhere() {
    let mut bound = group(1, reserve(1, 1), 1..3);
    bound.tasks[0].bound_to = Some(NodeId::from_random(2));
    bound.tasks[1].bound_to = Some(NodeId::from_random(3));
    let plan = schedule(&view([node(1, 4, 4), node(2, 4, 4), node(3, 4, 0)]), &[bound], NOW);
    assert_eq!(plan.placements[0].node, NodeId::from_random(2));
    let said = why(&plan.refusals[0].explanation);
    assert_eq!(said, "no node fits: 1 node: 1 lacks 1GiB memory (most left: 0B)");
}
