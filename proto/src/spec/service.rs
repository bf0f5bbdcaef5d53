//! The whole service part of a Compose file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Autoscale, ContainerSpec, EndpointSpec, Labels, LogSpec, NetworkAttachmentSpec, Placement, Requirements,
    RestartPolicy, UpdateConfig,
};
use crate::name::{ServiceName, StackName};

/// A service: how many of what should run, where, and how it changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSpec {
    /// Unique name; `<stack>_<service>` when it came from a stack.
    pub name: ServiceName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels of the service (not of its containers).
    #[serde(default)]
    pub labels: Labels,
    /// What each task runs.
    pub task: TaskSpec,
    /// How many tasks.
    #[serde(default)]
    pub mode: ServiceMode,
    /// How a changed spec is rolled out.
    #[serde(default)]
    pub update: UpdateConfig,
    /// How a rollback is rolled out.
    #[serde(default)]
    pub rollback: UpdateConfig,
    /// How it is reached.
    #[serde(default)]
    pub endpoint: EndpointSpec,
    /// Higher ones may evict lower ones.
    #[serde(default)]
    pub priority: i32,
    /// How the number of replicas follows the load; `None` leaves it to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// Services that must be up first, by full name (Compose `depends_on`).
    #[serde(default)]
    pub depends_on: BTreeMap<ServiceName, DependsOn>,
}

impl ServiceSpec {
    /// One replica of a container, everything else by default.
    pub fn new(name: ServiceName, container: ContainerSpec) -> Self {
        Self {
            name,
            stack: None,
            labels: Labels::new(),
            task: TaskSpec::new(container),
            mode: ServiceMode::default(),
            update: UpdateConfig::default(),
            rollback: UpdateConfig::default(),
            endpoint: EndpointSpec::default(),
            priority: 0,
            autoscale: None,
            depends_on: BTreeMap::new(),
        }
    }

    /// The spec as a person would write it: the managers' choice of contents for its configs and secrets left out.
    #[must_use]
    pub fn without_digests(&self) -> Self {
        let mut spec = self.clone();
        let container = &mut spec.task.container;
        container.configs.iter_mut().chain(&mut container.secrets).for_each(|file| file.digest = None);
        spec
    }
}

/// What each task of a service runs. Two tasks with equal `TaskSpec` need not be replaced by one another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskSpec {
    /// The container.
    pub container: ContainerSpec,
    /// Limits and reservations.
    #[serde(default)]
    pub resources: Requirements,
    /// When a task that ended is replaced.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Which nodes qualify. A change of only this restarts nothing that still fits.
    #[serde(default)]
    pub placement: Placement,
    /// Networks to join; empty means the node's default bridge.
    #[serde(default)]
    pub networks: Vec<NetworkAttachmentSpec>,
    /// Where output goes.
    #[serde(default)]
    pub log: LogSpec,
    /// Raised by `--force` to make an equal template count as changed.
    #[serde(default)]
    pub force_update: u64,
}

impl TaskSpec {
    /// A container, everything else by default.
    pub fn new(container: ContainerSpec) -> Self {
        Self {
            container,
            resources: Requirements::default(),
            restart: RestartPolicy::default(),
            placement: Placement::default(),
            networks: Vec::new(),
            log: LogSpec::default(),
            force_update: 0,
        }
    }
}

/// How many tasks a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceMode {
    /// A number of replicas, in slots 1..=n.
    Replicated {
        /// Number of slots.
        replicas: u64,
    },
    /// One task on each qualifying node.
    Global,
    /// Run until `total_completions` tasks have ended well.
    ReplicatedJob {
        /// Tasks that run at the same time.
        max_concurrent: u64,
        /// Tasks that must end with exit code 0.
        total_completions: u64,
    },
    /// Run once to completion on each qualifying node.
    GlobalJob,
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated { replicas: 1 }
    }
}

impl ServiceMode {
    /// True when its tasks are meant to end.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob { .. } | Self::GlobalJob)
    }

    /// The word in the MODE column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replicated { .. } => "replicated",
            Self::Global => "global",
            Self::ReplicatedJob { .. } => "replicated-job",
            Self::GlobalJob => "global-job",
        }
    }
}

/// What a service waits for before its first tasks are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DependsOn {
    /// The state to wait for.
    pub condition: DependencyCondition,
    /// Restart this service when the other one is updated.
    #[serde(default)]
    pub restart: bool,
    /// False: a missing other service is no obstacle.
    #[serde(default = "yes")]
    pub required: bool,
}

fn yes() -> bool {
    true
}

/// Compose `depends_on.condition`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    /// A task of it is running.
    #[default]
    ServiceStarted,
    /// All its wanted tasks run and are healthy.
    ServiceHealthy,
    /// Its tasks have ended with exit code 0.
    ServiceCompletedSuccessfully,
}
