//! A small world for tests: one node, services and tasks made to order.

use std::sync::Arc;

use berth_proto::id::{Id, ServiceId};
use berth_proto::object::{
    ContainerStatus, ManagerStatus, Meta, Node, NodeDescription, NodeStatus, RestartRecord, Service, Slot, Task,
    TaskStatus, UpdateProgress, UpdateStatus,
};
use berth_proto::spec::{NodeSpec, ServiceSpec};
use berth_proto::state::{DesiredState, NodeRole, NodeState, TaskState};
use berth_proto::time::Timestamp;
use serde_json::json;

use crate::client::world::World;

/// The time in tests: a thousand seconds after the beginning.
pub const NOW: Timestamp = Timestamp(1_000_000_000_000);

/// A time so many milliseconds before [`NOW`].
pub fn ago(milliseconds: i64) -> Timestamp {
    Timestamp(NOW.0 - milliseconds * 1_000_000)
}

/// An id that is easy to tell from others.
pub fn id<K>(number: u128) -> Id<K> {
    Id::from_random(number << 96)
}

/// A world with one node, named n1.
pub fn world() -> World {
    let mut world = World::default();
    let node = Node {
        id: id(1),
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Manager, ..NodeSpec::default() },
        description: Some(NodeDescription {
            hostname: "n1".to_owned(),
            engine_version: "0.1.0".to_owned(),
            ..NodeDescription::default()
        }),
        status: NodeStatus { state: NodeState::Ready, address: "10.0.0.1".to_owned(), ..NodeStatus::default() },
        manager: Some(ManagerStatus { leader: true, reachable: true, ..ManagerStatus::default() }),
        ingress: Vec::new(),
    };
    world.nodes.insert(node.id, node);
    world
}

/// Adds a service from a spec's JSON over a plain one.
pub fn add_service(world: &mut World, number: u128, name: &str, over: serde_json::Value) -> ServiceId {
    let mut spec = json!({
        "name": name,
        "task": { "container": { "image": "nginx:1.25" } },
        "mode": { "replicated": { "replicas": 2 } },
    });
    if let (Some(spec), Some(over)) = (spec.as_object_mut(), over.as_object()) {
        spec.extend(over.clone());
    }
    let spec: ServiceSpec = serde_json::from_value(spec).expect("a spec");
    let service = Service {
        id: id(number),
        meta: Meta { version: 5, created_at: ago(60_000), updated_at: ago(60_000) },
        spec: Arc::new(spec),
        spec_version: 5,
        previous: None,
        history: Vec::new(),
        endpoint: None,
        update: None,
        job: None,
        pending_delete: false,
        autoscaled: None,
        traced: None,
    };
    world.services.insert(service.id, service);
    id(number)
}

/// Sets how the last update goes.
pub fn set_update(world: &mut World, service: ServiceId, progress: UpdateProgress, message: &str) {
    let service = world.services.get_mut(&service).expect("a service");
    let (message, target) = (message.to_owned(), service.spec_version);
    service.update = Some(UpdateStatus { progress, started_at: ago(1000), completed_at: None, message, target });
}

/// Adds a task that entered its state `since` milliseconds ago.
pub fn add_task(world: &mut World, service: ServiceId, number: u128, slot: u64, state: TaskState, since: i64) {
    let service = &world.services[&service];
    let ended = state.is_terminal();
    let container = ContainerStatus { exit_code: (state == TaskState::Failed).then_some(3), ..Default::default() };
    let task = Task {
        id: id(number),
        meta: Meta { version: 6, created_at: ago(since + 10), updated_at: ago(since) },
        service: service.id,
        service_name: service.spec.name.clone(),
        spec_version: service.spec_version,
        slot: Slot::Replica(slot),
        node: Some(id(1)),
        desired: if ended { DesiredState::Shutdown } else { DesiredState::Running },
        status: TaskStatus {
            state,
            at: ago(since),
            error: match state {
                TaskState::Rejected => "no such image: nginx:1.25".to_owned(),
                _ => String::new(),
            },
            container: Some(container),
            ..TaskStatus::default()
        },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    };
    world.tasks.insert(task.id, task);
}
