//! Who answers for a service: its virtual addresses, its published ports, the tasks behind them. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::name::{ServiceName, StackName};
use berth_proto::object::{Attachment, Endpoint, Service, Task};
use berth_proto::spec::{EndpointMode, PublishMode};
use berth_proto::state::{HealthState, NodeState, TaskState};

use crate::store::State;

/// Who answers for a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoints {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: ServiceName,
    /// Its stack.
    pub stack: Option<StackName>,
    /// What its name resolves to.
    pub mode: EndpointMode,
    /// What the allocator gave it.
    pub endpoint: Option<Endpoint>,
    /// Tasks of other nodes answer too.
    pub everywhere: bool,
    /// Its tasks that have a place and have not ended, by slot.
    pub backends: Vec<Backend>,
}

/// A task behind a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The task.
    pub task: TaskId,
    /// Its slot, where slots have numbers.
    pub slot: Option<u64>,
    /// Where it is.
    pub node: NodeId,
    /// Host name of its container as the spec gives it; empty when the node makes one from the task's id.
    pub hostname: String,
    /// Its addresses.
    pub attachments: Vec<Attachment>,
    /// True while its names are answered: it has started and is meant to go on. Before and after, others know only its
    /// place, so that they reach it from its first packet to its last.
    pub named: bool,
    /// True while it takes requests.
    pub ready: bool,
}

/// Who answers for the services that a node needs.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Of every service that it needs.
    pub endpoints: Vec<Arc<Endpoints>>,
    /// Some service is published on every node: each of them is an entrance.
    pub published: bool,
}

/// What changed behind a service of which all else stayed as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointsChange {
    /// The service as it is now.
    pub of: Arc<Endpoints>,
    /// Tasks that came or changed, by their places among the backends.
    pub changed: Vec<usize>,
    /// Tasks that are gone.
    pub removed: Vec<TaskId>,
}

impl EndpointsChange {
    /// What turns `old` into `new`; `None` when that is more than the tasks behind it, or not less to say than all of it.
    pub fn between(old: &Endpoints, new: &Arc<Endpoints>) -> Option<Self> {
        let same = old.service == new.service
            && old.name == new.name
            && old.stack == new.stack
            && old.mode == new.mode
            && old.everywhere == new.everywhere
            && old.endpoint == new.endpoint;
        if !same {
            return None;
        }
        let before: HashMap<TaskId, &Backend> = old.backends.iter().map(|backend| (backend.task, backend)).collect();
        let places = new.backends.iter().enumerate();
        let changed =
            places.filter(|(_, backend)| before.get(&backend.task) != Some(backend)).map(|(at, _)| at).collect();
        let now: HashSet<TaskId> = new.backends.iter().map(|backend| backend.task).collect();
        let removed = old.backends.iter().map(|backend| backend.task).filter(|task| !now.contains(task)).collect();
        let change = Self { of: Arc::clone(new), changed, removed };
        (change.changed.len() * 2 < new.backends.len()).then_some(change)
    }
}

/// Endpoints of the services that `node` needs: those that are answered on every node or have tasks on one of `networks`, and
/// those of its own tasks. Of a service that only networks within a node lead to, just the node's own tasks answer. Looks at
/// no task of another node but behind the others; these are the same for every node, and come from `shared`.
pub fn endpoints_for(
    state: &State,
    node: NodeId,
    networks: &[NetworkId],
    mut shared: impl FnMut(&Service) -> Arc<Endpoints>,
) -> Needed {
    let (within, across): (Vec<NetworkId>, Vec<NetworkId>) =
        networks.iter().partition(|id| state.network(**id).is_some_and(|it| it.spec.driver.stays_on_node()));
    let has_vip_on = |endpoint: &Endpoint, networks: &[NetworkId]| {
        endpoint.virtual_ips.iter().any(|vip| networks.binary_search(&vip.network).is_ok())
    };
    let mut everywhere: BTreeSet<ServiceId> =
        across.iter().flat_map(|network| state.services_on_network(*network)).collect();
    let (mut here, mut published) = (BTreeSet::new(), false);
    for service in state.services() {
        let Some(endpoint) = &service.endpoint else { continue };
        let is_published = endpoint.ports.iter().any(|port| port.mode == PublishMode::Ingress);
        published |= is_published;
        if is_published || has_vip_on(endpoint, &across) {
            everywhere.insert(service.id);
        } else if has_vip_on(endpoint, &within) {
            here.insert(service.id);
        }
    }
    let own = state.tasks_on_node(node).filter(|task| !task.status.state.is_terminal());
    let answers = |task: &&Arc<Task>| {
        let publishes = || state.service(task.service).is_some_and(|service| !service.spec.endpoint.ports.is_empty());
        !task.attachments.is_empty() || publishes()
    };
    here.extend(own.filter(answers).map(|task| task.service));
    let here = here.difference(&everywhere).filter_map(|id| state.service(*id)).map(|service| {
        let own = state.tasks_on_node(node).filter(|task| task.service == service.id);
        Arc::new(endpoints(state, service, false, own))
    });
    let across = everywhere.iter().filter_map(|id| state.service(*id)).map(|service| shared(service));
    Needed { endpoints: across.chain(here).collect(), published }
}

/// Who answers for a service that tasks of all nodes answer for: the same for every node that hears of it.
pub fn everywhere(state: &State, service: &Service) -> Endpoints {
    endpoints(state, service, true, state.tasks_of_service(service.id))
}

fn endpoints<'a>(
    state: &State,
    service: &Service,
    everywhere: bool,
    tasks: impl Iterator<Item = &'a Arc<Task>>,
) -> Endpoints {
    Endpoints {
        service: service.id,
        name: service.spec.name.clone(),
        stack: service.spec.stack.clone(),
        mode: service.spec.endpoint.mode,
        endpoint: service.endpoint.clone(),
        everywhere,
        backends: tasks.filter_map(|task| backend(state, task)).collect(),
    }
}

fn backend(state: &State, task: &Task) -> Option<Backend> {
    let node = task.node?;
    let has_started = (TaskState::Starting..=TaskState::Running).contains(&task.status.state);
    let named = has_started && task.desired.wants_work();
    let has_place = task.status.state >= TaskState::Assigned && !task.status.state.is_terminal();
    if !named && (!has_place || task.attachments.is_empty()) {
        return None;
    }
    // A node that has not been heard of since this manager began to lead is not down.
    let is_up = state.node(node).is_some_and(|node| node.status.state != NodeState::Down);
    let healthy = task.status.health.is_none_or(|health| health != HealthState::Unhealthy);
    let hostname = state.spec_of(task).and_then(|spec| spec.task.container.hostname.clone());
    Some(Backend {
        task: task.id,
        slot: task.slot.number(),
        node,
        hostname: hostname.unwrap_or_default(),
        attachments: task.attachments.clone(),
        named,
        ready: named && task.status.state == TaskState::Running && healthy && is_up,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn endpoints(tasks: &[(u128, bool)]) -> Arc<Endpoints> {
        let backend = |(task, ready): &(u128, bool)| Backend {
            task: TaskId::from_random(*task),
            slot: Some(1),
            node: NodeId::from_random(1),
            hostname: String::new(),
            attachments: Vec::new(),
            named: true,
            ready: *ready,
        };
        Arc::new(Endpoints {
            service: ServiceId::from_random(9),
            name: "web".parse().unwrap(),
            stack: None,
            mode: EndpointMode::Vip,
            endpoint: None,
            everywhere: true,
            backends: tasks.iter().map(backend).collect(),
        })
    }

    #[test]
    fn few_changes_of_many_are_said_alone_and_many_as_a_whole() {
        let old = endpoints(&[(1, true), (2, true), (3, true), (4, true)]);
        let new = endpoints(&[(1, true), (3, false), (4, true), (5, false)]);
        assert_eq!(EndpointsChange::between(&old, &new), None, "two of four are as good said with the rest");
        let new = endpoints(&[(1, true), (3, false), (4, true)]);
        let change = EndpointsChange::between(&old, &new).unwrap();
        assert_eq!((change.changed, change.removed), (vec![1], vec![TaskId::from_random(2)]));
        let renamed = Arc::new(Endpoints { name: "other".parse().unwrap(), ..Endpoints::clone(&new) });
        assert_eq!(EndpointsChange::between(&old, &renamed), None);
    }
}
