//! One attempt to run one replica. A task is never moved or restarted: a new one replaces it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Meta, SpecVersion};
use crate::id::{NetworkId, NodeId, ServiceId, TaskId};
use crate::name::ServiceName;
use crate::spec::PortConfig;
use crate::state::{DesiredState, HealthState, TaskState};
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// One attempt to run one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Id.
    pub id: TaskId,
    /// Version and times.
    pub meta: Meta,
    /// Its service.
    pub service: ServiceId,
    /// The service's name when the task was made, so that history stays readable.
    pub service_name: ServiceName,
    /// Spec that it runs: [`super::Service::spec_at`].
    pub spec_version: SpecVersion,
    /// Which replica it is.
    pub slot: Slot,
    /// Where it runs; `None` until it is placed. Global tasks are born with it.
    pub node: Option<NodeId>,
    /// What it should do.
    pub desired: DesiredState,
    /// What was observed.
    pub status: TaskStatus,
    /// Its networks and addresses there, in the order they are joined.
    pub attachments: Vec<Attachment>,
    /// Its host-mode ports.
    pub host_ports: Vec<PortConfig>,
    /// How its slot was restarted before; carried from the task it replaces.
    pub restarts: RestartRecord,
    /// Run of the job that it belongs to.
    pub job_iteration: Option<u64>,
    /// Node on which tasks of lower priority make way for it, while it waits for that (Kubernetes' `nominatedNodeName`).
    pub nominated: Option<NodeId>,
    /// The trace of the change that it was made for. A task that replaces one that ended is part of no trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traced: Option<TraceContext>,
}

/// Which replica a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Of a replicated service, from 1.
    Replica(u64),
    /// Of a global service, one for each node.
    Node(NodeId),
}

impl Slot {
    /// The number of a replica.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Replica(number) => Some(number),
            Self::Node(_) => None,
        }
    }
}

impl Task {
    /// `service.slot.task` for replicas, `service.node.task` for global tasks; as Docker Swarm names containers.
    pub fn name(&self) -> String {
        match self.slot {
            Slot::Replica(slot) => format!("{}.{slot}.{}", self.service_name, self.id),
            Slot::Node(node) => format!("{}.{node}.{}", self.service_name, self.id),
        }
    }

    /// `web.1`, or `web.<host>` for a task of a global service, as people call it.
    pub fn short_name(&self, host_name: impl FnOnce(NodeId) -> String) -> String {
        match self.slot {
            Slot::Replica(slot) => format!("{}.{slot}", self.service_name),
            Slot::Node(node) => format!("{}.{}", self.service_name, host_name(node)),
        }
    }
}

/// What was observed of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct TaskStatus {
    /// State.
    pub state: TaskState,
    /// When it was entered.
    pub at: Timestamp,
    /// What is going on, for people.
    pub message: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// Health, where there is a health check and it runs.
    pub health: Option<HealthState>,
    /// Its container, from `starting` on.
    pub container: Option<ContainerStatus>,
}

/// What was observed of a task's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ContainerStatus {
    /// Process id on the node; 0 when it does not run.
    pub pid: i32,
    /// Exit code, 128 + n after signal n; `None` while it runs or when it is not known.
    pub exit_code: Option<i32>,
    /// The kernel ended it for want of memory.
    pub oom_killed: bool,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Digest of the image it runs.
    pub image_digest: String,
}

/// A task's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The network.
    pub network: NetworkId,
    /// Addresses with the network's prefix lengths, at most one for each family.
    pub addresses: Vec<IpNet>,
    /// More names on this network.
    pub aliases: Arc<[String]>,
    /// True for the network that gives the default route.
    pub default_route: bool,
    /// A fixed hardware address, six hex pairs with colons; others derive it from the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

impl Attachment {
    /// The bare addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(IpNet::addr)
    }
}

/// How a slot was restarted; written into each replacement, so that it outlives managers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct RestartRecord {
    /// Replacements in this slot since its spec version began.
    pub total: u64,
    /// When the ones that count for the window were made, oldest first (at most 100 are kept).
    pub recent: Vec<Timestamp>,
    /// Failures in a row, for the backoff.
    pub failures_in_row: u32,
    /// The task stays desired `ready` until then.
    pub start_at: Option<Timestamp>,
}
