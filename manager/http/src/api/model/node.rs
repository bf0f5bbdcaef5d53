//! A node.

use std::collections::{BTreeMap, BTreeSet};

use berth_manager::store::State;
use berth_proto::id::NodeId;
use berth_proto::object;
use berth_proto::spec::{Labels, Platform};
use berth_proto::state::{Availability, NodeRole, NodeState};
use berth_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Node {
    /// Id.
    pub id: NodeId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Host name; empty before its first session.
    pub hostname: String,
    /// Whether its managers hear of it.
    pub state: NodeState,
    /// When the state was entered.
    pub since: Timestamp,
    /// Why it is in that state, for people.
    pub message: String,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// Its part in the cluster.
    pub role: NodeRole,
    /// True on the leader of the managers.
    pub leader: bool,
    /// Whether the leader hears of this manager; null on workers.
    pub reachability: Option<Reachability>,
    /// `IP:PORT` that other nodes reach it at.
    pub address: String,
    /// Version of Berth that it runs.
    pub engine_version: String,
    /// Labels that people set.
    pub labels: Labels,
    /// Labels of its daemon's configuration.
    pub engine_labels: Labels,
    /// Operating system and architecture.
    pub platform: Platform,
    /// What it has to give.
    pub resources: Resources,
    /// What of that is set aside for tasks.
    pub reserved: Resources,
    /// Tasks on it that have not ended.
    pub tasks: u64,
    /// What it can do, e.g. `cgroup:v2`.
    pub capabilities: BTreeSet<String>,
    /// When it joined.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// Whether the leader hears of a manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// It answers.
    Reachable,
    /// It does not.
    Unreachable,
}

/// Amounts of what machines have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, ToSchema)]
pub struct Resources {
    /// Cores.
    pub cpus: f64,
    /// Bytes.
    pub memory: u64,
    /// Counts of named things.
    pub generic: BTreeMap<String, u64>,
}

/// What can be set on a node. Its role is changed by `promote` and `demote`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeSettings {
    /// Whether it takes tasks.
    pub availability: Availability,
    /// Labels that constraints and preferences read.
    pub labels: Labels,
}

impl Resources {
    fn new(nano_cpus: u64, memory: u64, generic: BTreeMap<String, u64>) -> Self {
        Self { cpus: nano_cpus as f64 / 1e9, memory, generic }
    }
}

impl Node {
    /// The shape of a node; `state` knows its tasks.
    pub fn new(node: &object::Node, state: &State) -> Self {
        let description = node.description.clone().unwrap_or_default();
        let manager = node.manager.as_ref();
        let reachability = |is: bool| if is { Reachability::Reachable } else { Reachability::Unreachable };
        let given = description.resources;
        let (mut tasks, mut nano_cpus, mut memory, mut generic) = (0, 0, 0, BTreeMap::new());
        for task in state.tasks_on_node(node.id).filter(|task| !task.status.state.is_terminal()) {
            tasks += 1;
            let Some(spec) = state.spec_of(task) else { continue };
            let reserved = &spec.task.resources.reservations;
            nano_cpus = reserved.nano_cpus.saturating_add(nano_cpus);
            memory = reserved.memory.saturating_add(memory);
            for (name, count) in &reserved.generic {
                let sum: &mut u64 = generic.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
        Self {
            id: node.id,
            version: node.meta.version,
            hostname: description.hostname,
            state: node.status.state,
            since: node.status.at,
            message: node.status.message.clone(),
            availability: node.spec.availability,
            role: node.spec.role,
            leader: manager.is_some_and(|manager| manager.leader),
            reachability: manager.map(|manager| reachability(manager.reachable)),
            address: node.status.address.clone(),
            engine_version: description.engine_version,
            labels: node.spec.labels.clone(),
            engine_labels: description.engine_labels,
            platform: description.platform,
            resources: Resources::new(given.nano_cpus, given.memory, given.generic),
            reserved: Resources::new(nano_cpus, memory, generic),
            tasks,
            capabilities: description.capabilities,
            created_at: node.meta.created_at,
            updated_at: node.meta.updated_at,
        }
    }
}
