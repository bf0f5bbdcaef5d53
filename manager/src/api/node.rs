//! Changing and removing nodes. Pure.

use std::sync::Arc;

use berth_proto::object::Node;
use berth_proto::spec::NodeSpec;
use berth_proto::state::{NodeRole, NodeState};
use berth_proto::validate::Validate;

use super::find::host_name;
use super::refusal::Refused;
use crate::store::{State, Transaction};

/// Changes a node. Nothing is added when it is so already. Who is to be a manager is taken in when it asks; who is to be a
/// worker is let go by the leader.
pub fn update(state: &State, tx: &mut Transaction, node: &Arc<Node>, spec: NodeSpec) -> Result<(), Refused> {
    let refuse = |invalid| Refused::Invalid { what: format!("the spec of node {}", host_name(node)), invalid };
    spec.validate().map_err(refuse)?;
    if node.spec.role == NodeRole::Manager && spec.role == NodeRole::Worker {
        check_others(state, tx, node)?;
    }
    if spec != node.spec {
        tx.update(Arc::new(Node { spec, ..Node::clone(node) }));
    }
    Ok(())
}

/// Removes a node that is down, or with `force` one that is not, or one that is a manager.
pub fn remove(state: &State, tx: &mut Transaction, node: &Arc<Node>, force: bool) -> Result<(), Refused> {
    let name = || host_name(node).into_owned();
    let is_manager = node.spec.role == NodeRole::Manager || node.manager.is_some();
    if is_manager && !force {
        return Err(Refused::NodeIsManager { name: name() });
    }
    if node.status.state != NodeState::Down && !force {
        return Err(Refused::NodeNotDown { name: name() });
    }
    if is_manager {
        check_others(state, tx, node)?;
    }
    tx.remove(&**node);
    Ok(())
}

/// Whether the other managers can go on without the node, as far as the leader has written down. Two that leave at the same
/// moment must not both rely on each other: none of the others may change meanwhile.
fn check_others(state: &State, tx: &mut Transaction, node: &Node) -> Result<(), Refused> {
    if node.manager.is_none() {
        return Ok(());
    }
    let (mut managers, mut reachable) = (0, 0);
    for other in state.nodes().filter(|other| other.id != node.id && other.spec.role == NodeRole::Manager) {
        let Some(manager) = &other.manager else { continue };
        managers += 1;
        reachable += usize::from(manager.reachable);
        tx.expect(&**other);
    }
    let name = host_name(node).into_owned();
    let needed = managers / 2 + 1;
    match managers {
        0 => Err(Refused::LastManager { name }),
        _ if reachable < needed => Err(Refused::NoQuorum { name, reachable, managers, needed }),
        _ => Ok(()),
    }
}
