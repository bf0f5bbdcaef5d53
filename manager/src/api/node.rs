//! Changing and removing nodes. Pure.

use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::{Node, Slot, Task};
use berth_proto::spec::NodeSpec;
use berth_proto::state::{Availability, NodeRole, NodeState};
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

/// What a node that leaves by itself is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaving {
    /// It is removed.
    Gone,
    /// It is drained, and these tasks have not moved yet.
    Moving(Vec<String>),
}

/// The next step of a node that leaves: it is drained, and removed once it has no tasks, or at once with `now`. A manager has
/// to be demoted first: how many losses the cluster bears is not for one of its nodes to decide.
pub fn leave(state: &State, tx: &mut Transaction, node: NodeId, now: bool) -> Result<Leaving, Refused> {
    let Some(node) = state.node(node) else { return Ok(Leaving::Gone) };
    if node.spec.role == NodeRole::Manager || node.manager.is_some() {
        let name = host_name(node).into_owned();
        let is_other = |other: &&Arc<Node>| other.id != node.id && other.spec.role == NodeRole::Manager;
        let is_last = !state.nodes().any(|other| is_other(&other));
        return Err(if is_last { Refused::LastLeaves { name } } else { Refused::NodeIsManager { name } });
    }
    let left: Vec<String> =
        state.tasks_on_node(node.id).filter(|task| !task.status.state.is_terminal()).map(|task| name(task)).collect();
    let is_drained = node.spec.availability == Availability::Drain;
    if now || (is_drained && left.is_empty()) {
        tx.remove(&**node);
        return Ok(Leaving::Gone);
    }
    if !is_drained {
        let spec = NodeSpec { availability: Availability::Drain, ..node.spec.clone() };
        tx.update(Arc::new(Node { spec, ..Node::clone(node) }));
    }
    Ok(Leaving::Moving(left))
}

fn name(task: &Task) -> String {
    match task.slot {
        Slot::Replica(slot) => format!("{}.{slot}", task.service_name),
        Slot::Node(_) => task.service_name.to_string(),
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::object::{ManagerStatus, Meta, NodeStatus, RestartRecord, TaskStatus};
    use berth_proto::pb;
    use berth_proto::state::{DesiredState, TaskState};
    use berth_proto::time::Timestamp;

    use super::*;
    use crate::store::{Change, Object};

    const NODE: NodeId = NodeId::from_random(1);

    fn node(number: u128, role: NodeRole, availability: Availability) -> Object {
        Object::from(Node {
            id: NodeId::from_random(number),
            meta: Meta::default(),
            spec: NodeSpec { role, availability, ..NodeSpec::default() },
            description: None,
            status: NodeStatus::default(),
            manager: (role == NodeRole::Manager).then(ManagerStatus::default),
            ingress: Vec::new(),
        })
    }

    fn task(number: u128, state: TaskState) -> Object {
        Object::from(Task {
            id: berth_proto::id::TaskId::from_random(number),
            meta: Meta::default(),
            service: berth_proto::id::ServiceId::from_random(9),
            service_name: "web".parse().unwrap(),
            spec_version: 1,
            slot: Slot::Replica(u64::try_from(number).unwrap()),
            node: Some(NODE),
            desired: DesiredState::Shutdown,
            status: TaskStatus { state, ..TaskStatus::default() },
            attachments: Vec::new(),
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        })
    }

    fn step(objects: Vec<Object>, now: bool) -> (Result<Leaving, Refused>, Vec<Change>) {
        let mut tx = Transaction::new(Timestamp(1), "test");
        let step = leave(&State::from_objects(1, objects), &mut tx, NODE, now);
        (step, tx.changes)
    }

    #[test]
    fn a_node_is_drained_then_waited_for_then_removed() {
        use Availability::{Active, Drain};
        let worker = |availability| node(1, NodeRole::Worker, availability);
        let (running, ended) = (|| task(11, TaskState::Running), || task(12, TaskState::Shutdown));
        let moving = || Some(Leaving::Moving(vec!["web.11".to_owned()]));
        let drained = |change: &Change| matches!(change, Change::Put(Object::Node(node)) if node.spec.availability == Availability::Drain);
        let removed = |change: &Change| matches!(change, Change::Remove(_));

        let (answer, changes) = step(vec![worker(Active), running(), ended()], false);
        assert_eq!(answer.ok(), moving());
        assert!(changes.len() == 1 && drained(&changes[0]), "{changes:?}");
        let (answer, changes) = step(vec![worker(Drain), running(), ended()], false);
        assert_eq!((answer.ok(), changes.len()), (moving(), 0));
        for (objects, now) in [(vec![worker(Drain), ended()], false), (vec![worker(Active), running()], true)] {
            let (answer, changes) = step(objects, now);
            assert_eq!(answer.ok(), Some(Leaving::Gone));
            assert!(changes.len() == 1 && removed(&changes[0]), "{changes:?}");
        }
        // One that is active gets tasks until everybody knows that it is not.
        assert_eq!(step(vec![worker(Active)], false).0.ok(), Some(Leaving::Moving(Vec::new())));
        let (answer, changes) = step(Vec::new(), false);
        assert_eq!((answer.ok(), changes.len()), (Some(Leaving::Gone), 0));
    }

    #[test]
    fn a_manager_does_not_leave_and_is_told_what_to_do() {
        let manager = |number| node(number, NodeRole::Manager, Availability::Active);
        for now in [false, true] {
            let (refused, changes) = step(vec![manager(1), manager(2)], now);
            assert!(matches!(refused, Err(Refused::NodeIsManager { .. })) && changes.is_empty(), "{refused:?}");
            let worker = node(2, NodeRole::Worker, Availability::Active);
            let (refused, changes) = step(vec![manager(1), worker], now);
            assert!(matches!(refused, Err(Refused::LastLeaves { .. })) && changes.is_empty(), "{refused:?}");
        }
        let status = tonic::Status::from(Refused::LastLeaves { name: "a".to_owned() });
        let refusal = <pb::Refusal as prost::Message>::decode(status.details()).unwrap();
        assert!(refusal.hint.contains("berth reset"), "{refusal:?}");
    }
}
