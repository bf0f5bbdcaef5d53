//! Which events make which services worth another look. Errs on the side of looking; the full pass catches the rest.

use std::collections::BTreeSet;

use berth_proto::id::ServiceId;
use berth_proto::object::{Node, NodeDescription, Service, Task};
use berth_proto::spec::ServiceMode;
use berth_proto::state::{NodeState, TaskState};

use crate::store::{Event, Object, State};

/// Services to look at.
#[derive(Debug, Clone, Default)]
pub struct Dirty {
    /// These.
    pub services: BTreeSet<ServiceId>,
    /// A network without a subnet, or one that is not encrypted as it should be, may exist.
    pub networks: bool,
    /// A node without addresses on the ingress network may exist.
    pub nodes: bool,
    /// Something that a waiting task could use was given back or came.
    pub room: bool,
    /// Something happened that a held service may wait for.
    pub progress: bool,
}

impl Dirty {
    /// Everything.
    pub fn everything(state: &State) -> Self {
        let services = state.services().map(|service| service.id).collect();
        Self { services, networks: true, nodes: true, room: true, progress: true }
    }

    /// True when there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && !self.networks && !self.nodes && !self.room && !self.progress
    }

    /// Marks what the event touches.
    pub fn note(&mut self, event: &Event, state: &State) {
        self.nodes |= matches!(event.after(), Some(Object::Node(node)) if node.ingress.is_empty());
        match event.object() {
            Object::Service(service) => {
                self.services.insert(service.id);
                self.progress = true;
                self.note_update(event, service, state);
            }
            Object::Task(task) => self.note_task(event, task),
            Object::Node(_) if says_nothing_of_tasks(event) => {}
            Object::Node(node) => {
                let is_ready = |node: &&std::sync::Arc<Node>| node.status.state == NodeState::Ready;
                if is_ready(&node) && state.nodes().filter(is_ready).take(2).count() == 1 {
                    // The first to be ready: it may take over what all the others lost.
                    self.services.extend(state.services().map(|service| service.id));
                }
                let on_node = state.tasks_on_node(node.id).filter(|task| !task.status.state.is_terminal());
                self.services.extend(on_node.map(|task| task.service));
                let global = |mode: ServiceMode| matches!(mode, ServiceMode::Global | ServiceMode::GlobalJob);
                let globals = state.services().filter(|service| global(service.spec.mode));
                self.services.extend(globals.map(|service| service.id));
            }
            Object::Network(_) => {
                (self.networks, self.nodes) = (true, true);
                // Tasks may have waited for its subnet.
                self.room = true;
            }
            Object::Cluster(_) => {
                // Whether networks are encrypted by default may have changed.
                self.networks = true;
                self.services.extend(state.services().map(|service| service.id));
            }
            Object::Volume(_) | Object::Config(_) | Object::Secret(_) => {}
        }
    }

    /// An update that was completed may make others restart.
    fn note_update(&mut self, event: &Event, service: &Service, state: &State) {
        let completed = |service: &Service| service.update.as_ref().and_then(|update| update.completed_at);
        let before = match event.before() {
            Some(Object::Service(before)) => completed(before),
            _ => None,
        };
        if completed(service).is_some() && completed(service) != before {
            let depends = |other: &&std::sync::Arc<Service>| other.spec.depends_on.contains_key(&service.spec.name);
            self.services.extend(state.services().filter(depends).map(|other| other.id));
        }
    }

    fn note_task(&mut self, event: &Event, task: &Task) {
        let before = match event.before() {
            Some(Object::Task(before)) => Some(&**before),
            _ => None,
        };
        let stage = |task: &Task| (task.status.state.max(TaskState::Starting), task.status.health);
        let is_news = match (before, event.after()) {
            (Some(before), Some(_)) => before.desired != task.desired || stage(before) != stage(task),
            _ => true,
        };
        if is_news {
            self.services.insert(task.service);
            self.progress = true;
        }
    }
}

/// Images and a manager's part change often, its place on the ingress network once, and no task comes or goes for them.
fn says_nothing_of_tasks(event: &Event) -> bool {
    let (Some(Object::Node(old)), Some(Object::Node(new))) = (event.before(), event.after()) else { return false };
    let same_machine = match (&old.description, &new.description) {
        (Some(old), Some(new)) => {
            let NodeDescription {
                hostname,
                platform,
                resources,
                engine_version,
                engine_labels,
                capabilities,
                routes,
                images: _,
                tunnel_keys: _,
            } = old;
            *hostname == new.hostname
                && *platform == new.platform
                && *resources == new.resources
                && *engine_version == new.engine_version
                && *engine_labels == new.engine_labels
                && *capabilities == new.capabilities
                && *routes == new.routes
        }
        (old, new) => old == new,
    };
    same_machine && old.spec == new.spec && old.status.state == new.status.state
}
