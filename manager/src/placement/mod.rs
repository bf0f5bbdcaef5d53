//! Between the store and the scheduler: what tasks ask of nodes, which tasks wait for one, and writing down what was
//! decided. Decides nothing itself.

mod way;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId};
use berth_proto::object::{Service, Slot, SpecVersion, Task};
use berth_proto::spec::{MountKind, ServiceMode, ServiceSpec};
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;
use berth_scheduler::{Demand, IdMap, Placement, Refusal, TaskGroup, TaskRequest};

use crate::orchestrator::Work;
use crate::orchestrator::work::TaskRef;
use crate::store::State;

pub use way::{MakingWay, Nominee};

/// What tasks of the spec ask of a node; drivers of its networks and volumes are looked up.
pub fn demand(state: &State, spec: &ServiceSpec) -> Demand {
    let networks = spec.task.networks.iter().filter_map(|asked| state.network_by_name(&asked.network));
    let networks = networks.map(|network| format!("network:{}", driver_word(network.spec.driver)));
    let volumes = spec.task.container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => volume.driver.as_ref().map(|driver| format!("volume:{driver}")),
        MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Image(_) => None,
    });
    let mut capabilities: Vec<String> = networks.chain(volumes).collect();
    capabilities.sort_unstable();
    capabilities.dedup();
    let mut demand = Demand::of(spec, capabilities);
    if spec.task.placement.strategy.is_none() {
        demand.strategy = state.cluster().map(|cluster| cluster.spec.strategy).unwrap_or_default();
    }
    demand
}

fn driver_word(driver: berth_proto::spec::NetworkDriver) -> &'static str {
    use berth_proto::spec::NetworkDriver as D;
    match driver {
        D::Overlay => "overlay",
        D::Bridge => "bridge",
        D::Host => "host",
        D::None => "none",
        D::Macvlan => "macvlan",
    }
}

/// The demands of spec versions, worked out once each.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    known: IdMap<ServiceId, BTreeMap<SpecVersion, Arc<Demand>>>,
}

impl Demands {
    /// The demand of the task's spec version; an empty one when the service or version is gone.
    pub fn of(&mut self, state: &State, task: &Task) -> Arc<Demand> {
        let versions = self.known.entry(task.service).or_default();
        if let Some(known) = versions.get(&task.spec_version) {
            return known.clone();
        }
        let Some(spec) = state.spec_of(task) else { return Arc::default() };
        let demand = Arc::new(demand(state, spec));
        versions.insert(task.spec_version, demand.clone());
        demand
    }

    /// The demand of the service's current spec.
    pub fn current(&mut self, state: &State, service: &Service) -> Arc<Demand> {
        let versions = self.known.entry(service.id).or_default();
        let known = versions.entry(service.spec_version);
        known.or_insert_with(|| Arc::new(demand(state, &service.spec))).clone()
    }

    /// Forgets all: what they hang on besides the services has changed.
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// Forgets versions that the service no longer has, or all when it is gone.
    pub fn prune(&mut self, state: &State, id: ServiceId) {
        match state.service(id) {
            Some(service) => {
                if let Some(versions) = self.known.get_mut(&id) {
                    versions.retain(|version, _| service.spec_at(*version).is_some());
                }
            }
            None => {
                self.known.remove(&id);
            }
        }
    }
}

/// The tasks of the service that wait for a node, in groups of equal spec version; `but_for` those that have one in prospect.
pub fn groups(
    work: &Work,
    state: &State,
    demands: &mut Demands,
    but_for: impl Fn(berth_proto::id::TaskId) -> bool,
) -> Vec<TaskGroup> {
    let mut groups: BTreeMap<SpecVersion, TaskGroup> = BTreeMap::new();
    for (_, task) in work.tasks() {
        if task.status.state != TaskState::Pending || !task.desired.wants_work() || but_for(task.id) {
            continue;
        }
        let group = groups.entry(task.spec_version).or_insert_with(|| TaskGroup {
            service: task.service,
            spec_version: task.spec_version,
            demand: demands.of(state, task),
            tasks: Vec::new(),
            wanted: wanted(&work.service),
        });
        let bound_to = match task.slot {
            Slot::Node(node) => Some(node),
            Slot::Replica(_) => None,
        };
        group.tasks.push(TaskRequest { task: task.id, bound_to });
    }
    groups.into_values().collect()
}

/// How many tasks of the service there should be at once; on each node, for global services.
pub fn wanted(service: &Service) -> u64 {
    match service.mode() {
        ServiceMode::Replicated { replicas } => replicas,
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => match max_concurrent {
            0 => total_completions,
            at_once => at_once.min(total_completions),
        },
        ServiceMode::Global | ServiceMode::GlobalJob => 1,
    }
}

/// Writes down that a task has a node, and why that one.
pub fn place(work: &mut Work, at: TaskRef, node: NodeId, why: &str, now: Timestamp) {
    let task = work.task_mut(at);
    (task.node, task.nominated) = (Some(node), None);
    task.status.state = TaskState::Assigned;
    task.status.at = now;
    task.status.message = format!("assigned: {why}");
    task.status.error.clear();
}

/// Asks the tasks that the placement evicts to stop, and writes down that theirs waits for it, in one transaction.
pub fn make_way(work: &mut Work, at: TaskRef, placement: &Placement) {
    let (count, node) = (placement.evicts.len(), placement.node);
    let tasks = if count == 1 { "a task".to_owned() } else { format!("{count} tasks") };
    hold(work, at, &format!("waiting until {tasks} of lower priority made way on node {node}"), "");
    work.task_mut(at).nominated = Some(node);
    work.evict(at, &placement.evicts);
}

/// Writes down why a task waits; returns false when it says so already.
pub fn refuse(work: &mut Work, at: TaskRef, refusal: &Refusal) -> bool {
    let error = refusal.explanation.to_string();
    if work.task(at).nominated.is_some() {
        // It waited for a node that does not take it any more.
        work.task_mut(at).nominated = None;
    }
    hold(work, at, "waiting for a node", &error)
}

/// Writes down what a task waits for; returns false when it says so already.
pub fn hold(work: &mut Work, at: TaskRef, message: &str, error: &str) -> bool {
    let known = &work.task(at).status;
    if known.message == message && known.error == error {
        return false;
    }
    let status = &mut work.task_mut(at).status;
    status.message = message.to_owned();
    status.error = error.to_owned();
    true
}
