//! A service as the cluster keeps it: the specs that its tasks still use, its endpoint, how an update goes.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Meta;
use crate::id::{NetworkId, ServiceId};
use crate::spec::{PortConfig, ServiceMode, ServiceSpec};
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// Version of a service's spec: the log index of the write that brought it.
pub type SpecVersion = u64;

/// A service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Id.
    pub id: ServiceId,
    /// Version and times.
    pub meta: Meta,
    /// What a person asked for.
    pub spec: Arc<ServiceSpec>,
    /// Version of `spec`.
    pub spec_version: SpecVersion,
    /// Where a rollback goes; `None` after a rollback and before the first update.
    pub previous: Option<SpecRevision>,
    /// Older specs that tasks still refer to, oldest first. The reaper removes what no task uses.
    pub history: Vec<SpecRevision>,
    /// What the allocator gave it; `None` until then.
    pub endpoint: Option<Endpoint>,
    /// How the update to `spec` goes; `None` when there was none.
    pub update: Option<UpdateStatus>,
    /// Present on jobs.
    pub job: Option<JobStatus>,
    /// A person asked for its removal: it ends its tasks, then goes.
    pub pending_delete: bool,
    /// What autoscaling decided last; `None` before that, and where the spec asks for none.
    #[serde(default)]
    pub autoscaled: Option<Autoscaled>,
    /// The trace of the last change that a person made, until what follows from it is done; `None` where nobody traces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<TraceContext>,
}

impl Service {
    /// A service that nobody has done anything for yet.
    pub fn new(id: ServiceId, spec: ServiceSpec) -> Self {
        Self {
            id,
            meta: Meta::default(),
            spec: Arc::new(spec),
            spec_version: 0,
            previous: None,
            history: Vec::new(),
            endpoint: None,
            update: None,
            job: None,
            pending_delete: false,
            autoscaled: None,
            traced: None,
        }
    }

    /// How many tasks it should have now: as the spec says, but for the replicas of a service that is scaled by its load. The
    /// one place that says so.
    pub fn mode(&self) -> ServiceMode {
        match (self.spec.mode, &self.spec.autoscale) {
            (ServiceMode::Replicated { replicas }, Some(autoscale)) => {
                let first = || replicas.min(autoscale.max).max(autoscale.min);
                let replicas = self.autoscaled.as_ref().map_or_else(first, |decided| decided.replicas);
                ServiceMode::Replicated { replicas }
            }
            (mode, _) => mode,
        }
    }

    /// Replicas that it should have now; `None` for a service that is not replicated.
    pub fn replicas(&self) -> Option<u64> {
        match self.mode() {
            ServiceMode::Replicated { replicas } => Some(replicas),
            ServiceMode::Global | ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => None,
        }
    }

    /// The spec of that version, if the service still has it.
    pub fn spec_at(&self, version: SpecVersion) -> Option<&Arc<ServiceSpec>> {
        if version == self.spec_version {
            return Some(&self.spec);
        }
        let older = self.previous.iter().chain(&self.history);
        older.filter(|revision| revision.version == version).map(|revision| &revision.spec).next()
    }
}

/// The number of replicas that autoscaling, or a person within its bounds, decided last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Autoscaled {
    /// The number.
    pub replicas: u64,
    /// Since when.
    pub since: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// A spec with its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpecRevision {
    /// Version.
    pub version: SpecVersion,
    /// The spec.
    pub spec: Arc<ServiceSpec>,
}

/// What the allocator gives a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct Endpoint {
    /// Published ports, each with its port outside filled in.
    pub ports: Vec<PortConfig>,
    /// One for each network in VIP mode.
    pub virtual_ips: Vec<VirtualIp>,
}

/// A service's address on one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualIp {
    /// The network.
    pub network: NetworkId,
    /// Address with the network's prefix length.
    pub address: IpNet,
}

impl VirtualIp {
    /// The bare address.
    pub fn ip(&self) -> IpAddr {
        self.address.addr()
    }
}

/// How an update goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// Where it is.
    pub progress: UpdateProgress,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Why, for people.
    pub message: String,
    /// Spec version that it leads to.
    pub target: SpecVersion,
}

/// Where an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpdateProgress {
    /// Replacing tasks.
    Updating,
    /// Stopped by failures; waits for a person.
    Paused,
    /// All tasks are at the new spec.
    Completed,
    /// Going back.
    RollbackStarted,
    /// Stopped by failures while going back.
    RollbackPaused,
    /// Back at the previous spec.
    RollbackCompleted,
}

impl UpdateProgress {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Updating,
        Self::Paused,
        Self::Completed,
        Self::RollbackStarted,
        Self::RollbackPaused,
        Self::RollbackCompleted,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct JobStatus {
    /// Raised each time the job is to run again.
    pub iteration: u64,
    /// When this run began.
    pub last_execution: Timestamp,
}
