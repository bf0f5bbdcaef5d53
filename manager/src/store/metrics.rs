//! What a scrape shows of the state: how many objects there are and how they do, read from a snapshot; and what happened to
//! tasks, counted as it is committed. Decides nothing.
//!
//! Nodes and services are told apart by their names: there are as many series as there are of them. Tasks are not.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_metrics::{Counters, Figures, Histogram, Registry, buckets, collector, counters};
use berth_proto::id::ServiceId;
use berth_proto::object::{Node, Service, SpecVersion, Task, UpdateProgress};
use berth_proto::spec::ServiceMode;
use berth_proto::state::{Availability, NodeRole, NodeState, TaskState};
use berth_proto::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::orchestrator::Loop;
use crate::placement;

use super::event::{Author, Event};
use super::object::{Object, ObjectKind};
use super::state::State;
use super::watch::{Hub, WatchError};

/// What is counted of the commits that one manager applies.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    transitions: Counters<1>,
    updates: Counters<1>,
    startup: Histogram,
    failures: Arc<Mutex<BTreeMap<ServiceId, u64>>>,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        let states = TaskState::ALL.iter().map(|state| state.as_str());
        Self {
            transitions: counters("state", states),
            updates: counters("result", ["completed", "paused", "rolled_back"]),
            startup: buckets::slow(),
            failures: Arc::default(),
        }
    }
}

impl StoreMetrics {
    /// Shows them, and what can be read from the newest state of `hub`.
    pub fn register(&self, registry: &mut Registry, hub: Hub) {
        registry.register(
            "berth_task_transitions",
            "Tasks that came into a state, since this manager began",
            self.transitions.clone(),
        );
        registry.register(
            "berth_updates",
            "Updates of services by what came of them, since this manager began; rollbacks that people ask for are none",
            self.updates.clone(),
        );
        registry.register(
            "berth_task_startup_seconds",
            "Time from when a task was made until it ran for the first time",
            self.startup.clone(),
        );
        let failures = Arc::clone(&self.failures);
        registry.register_collector(collector("store", move |figures| {
            let state = hub.snapshot();
            figures.gauge("berth_store_index", "Index of the newest state", state.index())?;
            figures.gauge("berth_store_watchers", "Who follows the commits of this manager", hub.readers() as u64)?;
            write_kinds(figures, &state)?;
            write_nodes(figures, &state)?;
            write_services(figures, &state, &lock(&failures))
        }));
    }

    /// Counts what is committed, until `stop`.
    pub async fn follow(self, hub: Hub, stop: CancellationToken) {
        let (_, mut commits) = hub.subscribe();
        loop {
            let commit = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: a commit that was not returned is returned next time.
                commit = commits.next() => commit,
            };
            match commit {
                Ok(commit) => commit.authored().for_each(|(event, author)| self.note(event, author)),
                Err(WatchError::Lagged { .. }) => {
                    // What was missed is not counted; what is gone must go.
                    let state = commits.resync();
                    lock(&self.failures).retain(|service, _| state.service(*service).is_some());
                }
                Err(WatchError::Closed) => return,
            }
        }
    }

    fn note(&self, event: &Event, author: &Author) {
        match (event.before(), event.after()) {
            (old, Some(Object::Task(task))) => {
                let before = old.and_then(|old| match old {
                    Object::Task(old) => Some(old.status.state),
                    _ => None,
                });
                if before != Some(task.status.state) {
                    self.moved(before, task, author.at);
                }
            }
            (Some(Object::Service(old)), Some(Object::Service(new))) if stage(old) != stage(new) => {
                self.updated(new, &author.actor);
            }
            (Some(Object::Service(service)), None) => drop(lock(&self.failures).remove(&service.id)),
            _ => {}
        }
    }

    fn updated(&self, service: &Service, actor: &str) {
        let result = match service.update.as_ref().map(|update| update.progress) {
            Some(UpdateProgress::Completed) => "completed",
            Some(UpdateProgress::Paused | UpdateProgress::RollbackPaused) => "paused",
            Some(UpdateProgress::RollbackStarted) if Loop::ALL.iter().any(|by| by.as_str() == actor) => "rolled_back",
            _ => return,
        };
        self.updates.get_or_create(&[("result", result)]).inc();
    }

    /// `at` is when it was asked for: a manager that comes back applies what is old.
    fn moved(&self, before: Option<TaskState>, task: &Task, at: Timestamp) {
        let state = task.status.state;
        self.transitions.get_or_create(&[("state", state.as_str())]).inc();
        if state == TaskState::Running && before.is_some() {
            self.startup.observe(at.since(task.meta.created_at).as_secs_f64());
        }
        if matches!(state, TaskState::Failed | TaskState::Rejected) {
            *lock(&self.failures).entry(task.service).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_kinds(figures: &mut Figures<'_>, state: &State) -> fmt::Result {
    let kinds = ObjectKind::ALL.iter().map(|kind| ([("kind", kind.as_str())], state.count(*kind) as u64));
    figures.gauges("berth_objects", "Objects of the cluster, by kind", kinds)?;
    let tasks = TaskState::ALL.iter().map(|of| ([("state", of.as_str())], state.count_in_state(*of)));
    figures.gauges("berth_tasks", "Tasks by what was observed of them, those that history keeps among them", tasks)
}

fn write_nodes(figures: &mut Figures<'_>, state: &State) -> fmt::Result {
    let mut counts: BTreeMap<[(&str, &str); 3], u64> = BTreeMap::new();
    let labels = |is, role: NodeRole, availability: Availability| {
        [("state", NodeState::as_str(is)), ("role", role.as_str()), ("availability", availability.as_str())]
    };
    for is in NodeState::ALL {
        for role in NodeRole::ALL {
            for availability in Availability::ALL {
                counts.insert(labels(*is, *role, *availability), 0);
            }
        }
    }
    for node in state.nodes() {
        *counts.entry(labels(node.status.state, node.spec.role, node.spec.availability)).or_default() += 1;
    }
    figures.gauges("berth_nodes", "Nodes by state, role and availability", counts)?;
    let named: Vec<(String, &Node)> = state.nodes().map(|node| (node.id.to_string(), &**node)).collect();
    let each = |value: &dyn Fn(&Node) -> f64| -> Vec<_> {
        named.iter().map(|(id, node)| ([("node_id", id.as_str()), ("node", hostname(node))], value(node))).collect()
    };
    let ready = each(&|node| f64::from(u8::from(node.status.state == NodeState::Ready)));
    figures.gauges("berth_node_ready", "1 for each node that is ready", ready)?;
    let resources = |node: &Node| node.description.as_ref().map(|told| told.resources.clone()).unwrap_or_default();
    let cores = each(&|node| cores(resources(node).nano_cpus));
    figures.gauges("berth_node_capacity_cores", "Processors that a node has for tasks", cores)?;
    let memory = each(&|node| bytes(resources(node).memory));
    figures.gauges("berth_node_capacity_memory_bytes", "Memory that a node has for tasks", memory)?;
    let reserved = each(&|node| self::cores(state.reserved(node.id).nano_cpus));
    figures.gauges("berth_node_reserved_cores", "Processors that tasks on a node reserve", reserved)?;
    let reserved = each(&|node| bytes(state.reserved(node.id).memory));
    figures.gauges("berth_node_reserved_memory_bytes", "Memory that tasks on a node reserve", reserved)
}

fn hostname(node: &Node) -> &str {
    node.description.as_ref().map_or("", |told| &told.hostname)
}

#[allow(clippy::cast_precision_loss, reason = "thousandths of a cpu are what counts")]
fn cores(nano_cpus: u64) -> f64 {
    nano_cpus as f64 / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "exact up to eight petabytes")]
fn bytes(bytes: u64) -> f64 {
    bytes as f64
}

/// What the tasks of one service are.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    running: u64,
    wanted: u64,
    completed: u64,
}

/// One way through all tasks, for all services together.
fn counts(state: &State) -> HashMap<ServiceId, Count> {
    let mut counts: HashMap<ServiceId, Count> = HashMap::new();
    for task in state.tasks() {
        let count = counts.entry(task.service).or_default();
        let works = task.desired.wants_work();
        count.running += u64::from(works && task.status.state == TaskState::Running);
        count.wanted += u64::from(works && !task.status.state.is_terminal());
        count.completed += u64::from(works && task.status.state == TaskState::Complete);
    }
    counts
}

fn desired(service: &Service, count: Count) -> u64 {
    match service.spec.mode {
        ServiceMode::Replicated { .. } => placement::wanted(service),
        ServiceMode::ReplicatedJob { total_completions, .. } => {
            placement::wanted(service).min(total_completions.saturating_sub(count.completed))
        }
        // As many as there are nodes for them, which is what was made.
        ServiceMode::Global | ServiceMode::GlobalJob => count.wanted,
    }
}

fn write_services(figures: &mut Figures<'_>, state: &State, failures: &BTreeMap<ServiceId, u64>) -> fmt::Result {
    let mut updates: BTreeMap<&str, u64> = UpdateProgress::ALL.map(|progress| (progress.as_str(), 0)).into();
    updates.insert("none", 0);
    for service in state.services() {
        let progress = service.update.as_ref().map_or("none", |update| update.progress.as_str());
        *updates.entry(progress).or_default() += 1;
    }
    let updates = updates.into_iter().map(|(progress, count)| ([("update", progress)], count));
    figures.gauges("berth_services", "Services by how their last update went", updates)?;
    let counts = counts(state);
    let each = |value: &dyn Fn(&Service, Count) -> u64| -> Vec<_> {
        let count = |service: &Service| counts.get(&service.id).copied().unwrap_or_default();
        state.services().map(|service| (labels(service), value(service, count(service)))).collect()
    };
    figures.gauges("berth_service_replicas_desired", "Tasks that a service should have", each(&desired))?;
    let running = each(&|_, count| count.running);
    figures.gauges("berth_service_replicas_running", "Tasks of a service that run, and are meant to", running)?;
    let paused = state.services().filter(|service| is_paused(service)).map(|service| (labels(service), 1_u64));
    let help = "1 for each service whose update was stopped by failures, and waits for a person";
    figures.gauges("berth_service_update_paused", help, paused)?;
    let failures = each(&|service, _| failures.get(&service.id).copied().unwrap_or_default());
    let help = "Tasks of a service that failed or could not be started, since this manager began";
    figures.counters("berth_service_task_failures", help, failures)
}

/// Where its update is, and to what it leads.
fn stage(service: &Service) -> Option<(UpdateProgress, SpecVersion)> {
    service.update.as_ref().map(|update| (update.progress, update.target))
}

fn is_paused(service: &Service) -> bool {
    let progress = service.update.as_ref().map(|update| update.progress);
    matches!(progress, Some(UpdateProgress::Paused | UpdateProgress::RollbackPaused))
}

fn labels(service: &Service) -> [(&'static str, &str); 2] {
    let stack = service.spec.stack.as_ref().map_or("", |stack| stack.as_str());
    [("service", service.spec.name.as_str()), ("stack", stack)]
}
