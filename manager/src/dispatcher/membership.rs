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

/// Who may have to know something else after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerned {
    /// Nobody.
    Nobody,
    /// One node.
    Node(NodeId),
    /// Everybody.
    Everybody,
}

/// Whom the event concerns. May name too many, never too few.
pub fn concerned(event: &Event) -> Concerned {
    match (event.before(), event.after()) {
        (Some(Object::Node(old)), Some(Object::Node(new))) => {
            let role = |node: &Node| (node.spec.role, node.manager.is_some());
            if address(old) != address(new) {
                Concerned::Everybody
            } else if role(old) != role(new) {
                Concerned::Node(new.id)
            } else {
                Concerned::Nobody
            }
        }
        (Some(Object::Node(one)), None) | (None, Some(Object::Node(one))) if address(one).is_some() => {
            Concerned::Everybody
        }
        (_, Some(Object::Cluster(_))) => Concerned::Everybody,
        _ => Concerned::Nobody,
    }
}

/// Where a manager is reached.
fn address(node: &Node) -> Option<&str> {
    node.manager.as_ref().map(|manager| manager.address.as_str()).filter(|address| !address.is_empty())
}
