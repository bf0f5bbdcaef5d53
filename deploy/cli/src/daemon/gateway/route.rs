//! Which node has a task, and where it is reached. Pure.

use std::collections::{BTreeMap, BTreeSet};

use berth_manager::store::State;
use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::Node;
use berth_proto::pb::network_check_request::Peer;
use berth_proto::state::NodeState;
use tonic::Status;

/// The node that a task is on; `None` when the managers know no such task, or it is on no node yet.
pub fn node_of(state: &State, task: &str) -> Result<Option<NodeId>, Status> {
    let id: TaskId = task.parse().map_err(|error| Status::invalid_argument(format!("task: {error}")))?;
    Ok(state.task(id).and_then(|task| task.node))
}

/// The nodes that a service's tasks are or were on.
pub fn nodes_of(state: &State, service: ServiceId) -> BTreeSet<NodeId> {
    state.tasks_of_service(service).filter_map(|task| task.node).collect()
}

/// The tasks by the node that each is on; those that are on none count as `own`'s, which says so.
pub fn by_node(state: &State, tasks: &[String], own: NodeId) -> Result<BTreeMap<NodeId, Vec<String>>, Status> {
    let mut nodes: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    for task in tasks {
        nodes.entry(node_of(state, task)?.unwrap_or(own)).or_default().push(task.clone());
    }
    Ok(nodes)
}

/// The nodes that `node` is to look at, each with its address: those named, or all others that are ready.
pub fn reached(state: &State, node: NodeId, named: &[Peer]) -> Result<Vec<Peer>, Status> {
    let peer = |found: &Node| Peer { node_id: found.id.to_string(), address: found.status.address.clone() };
    if named.is_empty() {
        let others = state.nodes().filter(|other| other.id != node && other.status.state == NodeState::Ready);
        return Ok(others.map(|found| peer(found)).collect());
    }
    let find = |named: &Peer| {
        let id: NodeId = named.node_id.parse().map_err(|error| Status::invalid_argument(format!("node: {error}")))?;
        let found = state.node(id).ok_or_else(|| Status::not_found(format!("node {id} is not part of the cluster")))?;
        Ok(peer(found))
    };
    named.iter().map(find).collect()
}

/// Host name and address of a node that can be asked.
pub fn address(state: &State, node: NodeId) -> Result<(String, String), Status> {
    let found = state.node(node);
    let found = found.ok_or_else(|| Status::not_found(format!("node {node} was removed from the cluster")))?;
    let name = found.description.as_ref().map_or_else(|| node.to_string(), |about| about.hostname.clone());
    if found.status.state == NodeState::Down {
        return Err(Status::unavailable(format!("node {name} is down: what it has cannot be read until it is back")));
    }
    if found.status.address.is_empty() {
        return Err(Status::unavailable(format!("node {name} has not said where it is reached")));
    }
    Ok((name, found.status.address.clone()))
}
