//! From objects and members to what should change. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::object::{ManagerStatus, Node};
use berth_proto::state::{Availability, NodeRole};
use berth_proto::time::Timestamp;

use crate::raft::members::View;
use crate::store::{State, Transaction};

/// What should change, as the leader sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Nodes' objects that do not say what their managers are.
    pub nodes: Transaction,
    /// A member to let go: no node is to be this manager.
    pub go: Option<u64>,
    /// This manager is to lead no more while one of these could.
    pub successors: BTreeSet<u64>,
}

/// Compares what people asked for with who takes part.
pub fn decide(state: &State, view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan { nodes: Transaction::new(now, "members"), ..Plan::default() };
    let mut managers: BTreeMap<u64, &Arc<Node>> = BTreeMap::new();
    for node in state.nodes() {
        let Some(known) = &node.manager else { continue };
        let status = status(node, known, view);
        if status.as_ref() != Some(known) {
            plan.nodes.update(Node { manager: status, ..Node::clone(node) });
        }
        if node.spec.role == NodeRole::Manager {
            managers.insert(known.raft_id, node);
        }
    }
    // Before the first objects are written nobody is known.
    if managers.is_empty() {
        return plan;
    }
    plan.go = view.addresses.keys().copied().find(|id| *id != view.id && !managers.contains_key(id));
    let goes = !managers.contains_key(&view.id);
    let is_drained = |id: &u64| managers.get(id).is_some_and(|node| node.spec.availability == Availability::Drain);
    if goes || is_drained(&view.id) {
        let able = |id: &u64| *id != view.id && managers.contains_key(id) && view.reachable.contains(id);
        let able: BTreeSet<u64> = view.voters.iter().copied().filter(able).collect();
        let better: BTreeSet<u64> = able.iter().copied().filter(|id| !is_drained(id)).collect();
        plan.successors = if goes && better.is_empty() { able } else { better };
    }
    plan
}

/// What the node's object should say of its manager; `None` once a worker has left the group.
fn status(node: &Node, known: &ManagerStatus, view: &View) -> Option<ManagerStatus> {
    let id = known.raft_id;
    let address = view.addresses.get(&id);
    if address.is_none() && node.spec.role == NodeRole::Worker {
        return None;
    }
    Some(ManagerStatus {
        raft_id: id,
        address: address.unwrap_or(&known.address).clone(),
        leader: id == view.id,
        reachable: address.is_some() && view.reachable.contains(&id),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::store::{Change, Object};
    use berth_proto::id::NodeId;
    use berth_proto::object::{Meta, NodeStatus};
    use berth_proto::spec::NodeSpec;

    fn node(raft_id: u64, role: NodeRole, availability: Availability) -> Node {
        let spec = NodeSpec { role, availability, ..NodeSpec::default() };
        let manager =
            ManagerStatus { raft_id, address: format!("10.0.0.{raft_id}:1"), leader: raft_id == 1, reachable: true };
        let id = NodeId::from_random(raft_id.into());
        Node {
            id,
            meta: Meta::default(),
            spec,
            description: None,
            status: NodeStatus::default(),
            manager: Some(manager),
            ingress: Vec::new(),
        }
    }

    fn state(nodes: impl IntoIterator<Item = Node>) -> State {
        State::from_objects(1, nodes.into_iter().map(|node| Object::Node(Arc::new(node))))
    }

    /// Three members, of which 1 leads; `reachable` answer.
    fn view<const N: usize>(reachable: [u64; N]) -> View {
        View {
            id: 1,
            leader: Some(1),
            addresses: (1..=3).map(|id| (id, format!("10.0.0.{id}:1"))).collect(),
            voters: BTreeSet::from([1, 2, 3]),
            reachable: reachable.into(),
        }
    }

    const MANAGER: NodeRole = NodeRole::Manager;
    const ACTIVE: Availability = Availability::Active;

    fn plan(nodes: [Node; 3], view: &View) -> Plan {
        decide(&state(nodes), view, Timestamp(1))
    }

    fn written(plan: &Plan) -> Vec<Option<ManagerStatus>> {
        let manager = |change: &Change| match change {
            Change::Put(Object::Node(node)) => node.manager.clone(),
            other => panic!("{other:?}"),
        };
        plan.nodes.changes.iter().map(manager).collect()
    }

    #[test]
    fn nothing_changes_where_all_is_as_it_should_be() {
        let all = [1, 2, 3].map(|id| node(id, MANAGER, ACTIVE));
        let plan = plan(all, &view([1, 2, 3]));
        assert!(plan.nodes.is_empty() && plan.go.is_none() && plan.successors.is_empty(), "{plan:?}");
    }

    #[test]
    fn objects_say_who_leads_who_answers_and_where() {
        let mut moved = view([1, 2]);
        moved.addresses.insert(2, "10.9.9.9:1".into());
        let plan = plan([1, 2, 3].map(|id| node(id, MANAGER, ACTIVE)), &moved);
        let two = ManagerStatus { raft_id: 2, address: "10.9.9.9:1".into(), leader: false, reachable: true };
        let three = ManagerStatus { raft_id: 3, address: "10.0.0.3:1".into(), leader: false, reachable: false };
        assert_eq!(written(&plan), [Some(two), Some(three)]);
    }

    #[test]
    fn who_is_to_be_a_worker_is_let_go_and_then_is_no_manager() {
        let nodes = || [node(1, MANAGER, ACTIVE), node(2, NodeRole::Worker, ACTIVE), node(3, MANAGER, ACTIVE)];
        let before = plan(nodes(), &view([1, 2, 3]));
        assert_eq!((before.go, written(&before)), (Some(2), vec![]));
        let mut gone = view([1, 3]);
        gone.addresses.remove(&2);
        gone.voters.remove(&2);
        let after = plan(nodes(), &gone);
        assert_eq!((after.go, written(&after)), (None, vec![None]));
    }

    #[test]
    fn a_member_whose_node_was_removed_is_let_go() {
        let left = decide(&state([node(1, MANAGER, ACTIVE), node(3, MANAGER, ACTIVE)]), &view([1, 3]), Timestamp(1));
        assert_eq!(left.go, Some(2));
    }

    #[test]
    fn a_leader_that_leaves_or_is_drained_lets_another_lead() {
        let with = |own: Node, other: Availability| [own, node(2, MANAGER, other), node(3, MANAGER, ACTIVE)];
        let goes = || node(1, NodeRole::Worker, ACTIVE);
        let drained = || node(1, MANAGER, Availability::Drain);
        assert_eq!(plan(with(goes(), ACTIVE), &view([1, 2])).successors, BTreeSet::from([2]));
        assert_eq!(plan(with(drained(), ACTIVE), &view([1, 2, 3])).successors, BTreeSet::from([2, 3]));
        assert_eq!(plan(with(drained(), Availability::Drain), &view([1, 2, 3])).successors, BTreeSet::from([3]));
        assert_eq!(plan(with(drained(), Availability::Drain), &view([1, 2])).successors, BTreeSet::new());
        assert_eq!(plan(with(goes(), Availability::Drain), &view([1, 2])).successors, BTreeSet::from([2]));
        assert_eq!(plan(with(goes(), ACTIVE), &view([1, 2, 3])).go, None, "it never lets itself go");
    }
}
