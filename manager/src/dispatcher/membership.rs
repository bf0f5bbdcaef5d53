//! What a node has to know to stay part of the cluster: the managers, the role it is to have, the roots it should trust. Pure.

use berth_proto::id::NodeId;
use berth_proto::object::{Node, Object};
use berth_proto::pb;
use berth_proto::state::NodeRole;

use crate::store::{Event, State};

/// What `node` should know; `None` when there is no such node.
pub fn membership(state: &State, node: NodeId) -> Option<pb::Membership> {
    let own = state.node(node)?;
    // One that is demoted stays a manager until it was let go: the others may need its vote for that.
    let role = if own.manager.is_some() { NodeRole::Manager } else { own.spec.role };
    let managers = state.nodes().filter_map(|node| {
        let address = address(node)?.to_owned();
        Some(pb::ManagerAddress { node_id: node.id.to_string(), address })
    });
    let authority = state.cluster().and_then(|cluster| cluster.authority.as_ref());
    let roots = authority.into_iter().flat_map(|authority| authority.trusted().cloned());
    let role = pb::NodeRole::from(role).into();
    Some(pb::Membership { managers: managers.collect(), role, roots: roots.collect() })
}

/// Whether the event may change what `node` should know. May say yes too often, never no.
pub fn concerns(event: &Event, node: NodeId) -> bool {
    match (event.before(), event.after()) {
        (Some(Object::Node(old)), Some(Object::Node(new))) => {
            let role = |node: &Node| (node.spec.role, node.manager.is_some());
            address(old) != address(new) || (new.id == node && role(old) != role(new))
        }
        (Some(Object::Node(one)), None) | (None, Some(Object::Node(one))) => address(one).is_some(),
        (_, Some(Object::Cluster(_))) => true,
        _ => false,
    }
}

/// Where a manager is reached.
fn address(node: &Node) -> Option<&str> {
    node.manager.as_ref().map(|manager| manager.address.as_str()).filter(|address| !address.is_empty())
}
