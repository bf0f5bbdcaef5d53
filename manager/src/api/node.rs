//! Changing and removing nodes. Pure.

use std::sync::Arc;

use berth_proto::object::Node;
use berth_proto::spec::NodeSpec;
use berth_proto::state::NodeState;
use berth_proto::validate::Validate;

use super::find::host_name;
use super::refusal::Refused;
use crate::store::Transaction;

/// Changes a node. Nothing is added when it is so already.
pub fn update(tx: &mut Transaction, node: &Arc<Node>, spec: NodeSpec) -> Result<(), Refused> {
    let refuse = |invalid| Refused::Invalid { what: format!("the spec of node {}", host_name(node)), invalid };
    spec.validate().map_err(refuse)?;
    if spec.role != node.spec.role {
        return Err(Refused::Unsupported("changing the role of a node"));
    }
    if spec != node.spec {
        tx.update(Arc::new(Node { spec, ..Node::clone(node) }));
    }
    Ok(())
}

/// Removes a node that is down, or with `force` one that is not. Managers stay.
pub fn remove(tx: &mut Transaction, node: &Arc<Node>, force: bool) -> Result<(), Refused> {
    let name = || host_name(node).to_owned();
    if node.manager.is_some() {
        return Err(Refused::NodeIsManager { name: name() });
    }
    if node.status.state != NodeState::Down && !force {
        return Err(Refused::NodeNotDown { name: name() });
    }
    tx.remove(&**node);
    Ok(())
}
