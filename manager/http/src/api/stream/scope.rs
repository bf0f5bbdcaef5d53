//! Which objects a watch is about, and what a commit did to them. Pure but for the newest state, which names come from.

use std::collections::BTreeSet;

use berth_manager::store::{Commit, Event, Hub, Object, State};
use berth_proto::id::{NodeId, ServiceId};
use berth_proto::object::ObjectKind;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::sse;
use crate::api::model;
use crate::api::model::Action;

/// Which objects a watch is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Of these kinds.
    pub kinds: BTreeSet<ObjectKind>,
    /// Only these services and their tasks; none is all.
    pub services: BTreeSet<ServiceId>,
    /// Only these nodes and the tasks on them; none is all.
    pub nodes: BTreeSet<NodeId>,
}

/// What one commit did.
#[derive(Debug, Serialize, ToSchema)]
pub struct Changes {
    /// Its log index.
    pub index: u64,
    /// Object by object, in order; one may come more than once.
    pub changes: Vec<Change>,
}

/// What was done to an object, as far as the watch goes: one that comes into what it is about is as good as new.
#[derive(Debug, Serialize, ToSchema)]
pub struct Change {
    /// What was done.
    pub action: Action,
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Its id.
    pub id: String,
    /// As it is now; null when it is gone.
    pub object: Option<model::Object>,
}

impl Scope {
    /// The commit as an event; empty when it did nothing here.
    pub fn frame(&self, commit: &Commit, hub: &Hub) -> Bytes {
        let seen: Vec<(Action, &Event)> =
            commit.events.iter().filter_map(|event| Some((self.action(event)?, event))).collect();
        if seen.is_empty() {
            return Bytes::new();
        }
        // Newer than the commit, perhaps: what it says besides the object will be said again.
        let state = hub.snapshot();
        let changes = seen.into_iter().map(|(action, event)| change(action, event, &state)).collect();
        sse::event("change", Some(commit.index), &Changes { index: commit.index, changes })
    }

    fn action(&self, event: &Event) -> Option<Action> {
        let holds = |object: Option<&Object>| object.is_some_and(|object| self.holds(object));
        match (holds(event.before()), holds(event.after())) {
            (false, false) => None,
            (false, true) => Some(Action::Create),
            (true, true) => Some(Action::Update),
            (true, false) => Some(Action::Remove),
        }
    }

    fn holds(&self, object: &Object) -> bool {
        let of = |service: ServiceId| self.services.is_empty() || self.services.contains(&service);
        let on = |node: Option<NodeId>| self.nodes.is_empty() || node.is_some_and(|node| self.nodes.contains(&node));
        self.kinds.contains(&object.kind())
            && match object {
                Object::Task(task) => of(task.service) && on(task.node),
                Object::Service(service) => of(service.id),
                Object::Node(node) => on(Some(node.id)),
                _ => true,
            }
    }
}

fn change(action: Action, event: &Event, state: &State) -> Change {
    let object = (action != Action::Remove).then(|| model::Object::new(event.object(), state));
    let reference = event.reference();
    Change { action, kind: reference.kind(), id: reference.id_text(), object }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_proto::id::{Id, TaskId};
    use berth_proto::object::Task;
    use berth_proto::pb;

    use super::*;

    fn id<K>(number: u128) -> Id<K> {
        Id::from_random(number << 64)
    }

    /// A task of service 1 on that node.
    fn task(node: Option<u128>) -> Object {
        let number: TaskId = id(9);
        let task = pb::Task {
            id: number.to_string(),
            meta: Some(pb::Meta::default()),
            service: id::<berth_proto::id::kind::Service>(1).to_string(),
            service_name: "web".to_owned(),
            slot: Some(pb::task::Slot::Replica(1)),
            node: node.map(|node| id::<berth_proto::id::kind::Node>(node).to_string()),
            status: Some(pb::TaskStatus::default()),
            ..Default::default()
        };
        Object::Task(Arc::new(Task::try_from(task).expect("a task")))
    }

    fn scope(kinds: &[ObjectKind], services: &[u128], nodes: &[u128]) -> Scope {
        Scope {
            kinds: kinds.iter().copied().collect(),
            services: services.iter().map(|number| id(*number)).collect(),
            nodes: nodes.iter().map(|number| id(*number)).collect(),
        }
    }

    #[test]
    fn a_task_that_is_placed_comes_into_the_scope_of_its_node() {
        let placed = Event::Updated { old: task(None), new: task(Some(2)) };
        let (task_kind, all) = (&[ObjectKind::Task][..], ObjectKind::ALL);
        for (scope, wanted) in [
            (scope(all, &[], &[]), Some(Action::Update)),
            (scope(task_kind, &[1], &[]), Some(Action::Update)),
            (scope(task_kind, &[3], &[]), None),
            (scope(task_kind, &[], &[2]), Some(Action::Create)),
            (scope(task_kind, &[3], &[2]), None),
            (scope(&[ObjectKind::Node], &[], &[]), None),
        ] {
            assert_eq!(scope.action(&placed), wanted, "{scope:?}");
        }
        let of_node = scope(task_kind, &[], &[2]);
        assert_eq!(of_node.action(&Event::Removed(task(Some(2)))), Some(Action::Remove));
        assert_eq!(of_node.action(&Event::Removed(task(None))), None);
    }
}
