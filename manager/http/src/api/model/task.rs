//! A task.

use std::net::IpAddr;

use berth_manager::api::find::host_name;
use berth_manager::store::State;
use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::name::ServiceName;
use berth_proto::object::{self, SpecVersion};
use berth_proto::schema::IpAddress;
use berth_proto::spec::PortConfig;
use berth_proto::state::{DesiredState, HealthState, TaskState};
use berth_proto::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// One attempt to run one replica. A task is never moved or restarted: a new one replaces it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Task {
    /// Id.
    pub id: TaskId,
    /// Version of the last write.
    pub version: u64,
    /// `service.slot`, or `service.hostname` for a task of a global service.
    pub name: String,
    /// Service name.
    pub service: ServiceName,
    /// Id of the service.
    pub service_id: ServiceId,
    /// Number of the replica; null for tasks of global services.
    pub slot: Option<u64>,
    /// Host name of its node; null until it is placed.
    pub node: Option<String>,
    /// Id of its node.
    pub node_id: Option<NodeId>,
    /// Image as written; null when the service is gone.
    pub image: Option<String>,
    /// Observed state.
    pub state: TaskState,
    /// When the state was entered.
    pub since: Timestamp,
    /// What it should do.
    pub desired_state: DesiredState,
    /// Health, where there is a health check.
    pub health: Option<HealthState>,
    /// What goes on, for people.
    pub message: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
    /// Exit code of its process.
    pub exit_code: Option<i32>,
    /// Its container, once there is one.
    pub container: Option<Container>,
    /// Its addresses on all networks.
    #[schema(value_type = Vec<IpAddress>)]
    pub addresses: Vec<IpAddr>,
    /// The same, network by network.
    pub attachments: Vec<Attachment>,
    /// Published ports of this task alone (host mode).
    pub ports: Vec<PortConfig>,
    /// How its slot was restarted before.
    pub restarts: Restarts,
    /// Spec of the service that it runs.
    pub spec_version: SpecVersion,
    /// Run of the job that it belongs to.
    pub job_iteration: Option<u64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// The states that it went through, oldest first, as far as this manager remembers. Only where one task is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub history: Option<Vec<StatusChange>>,
    /// Tasks of the same slot before it, newest first. Only where one task is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub earlier: Option<Vec<TaskId>>,
}

/// A state that a task entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StatusChange {
    /// The state.
    pub state: TaskState,
    /// When it was entered.
    pub at: Timestamp,
    /// What went on, for people.
    pub message: String,
    /// What went wrong; empty when nothing did.
    pub error: String,
}

/// What was observed of a task's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Container {
    /// Process id on the node; 0 when it does not run.
    pub pid: i32,
    /// The kernel ended it for want of memory.
    pub oom_killed: bool,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Digest of the image that it runs.
    pub image_digest: String,
}

/// A task's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attachment {
    /// Name of the network; null when it is gone.
    pub network: Option<String>,
    /// Its id.
    pub network_id: NetworkId,
    /// Addresses, at most one for each family.
    #[schema(value_type = Vec<IpAddress>)]
    pub addresses: Vec<IpAddr>,
    /// More names on this network.
    pub aliases: Vec<String>,
}

/// How a slot was restarted before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Restarts {
    /// Replacements since the spec version began.
    pub total: u64,
    /// Failures in a row.
    pub failures_in_row: u32,
    /// The task waits until then; null when it does not.
    pub start_at: Option<Timestamp>,
}

impl StatusChange {
    /// What a task's status says.
    pub fn new(status: &object::TaskStatus) -> Self {
        Self { state: status.state, at: status.at, message: status.message.clone(), error: status.error.clone() }
    }
}

impl Task {
    /// The shape of a task; `state` knows its node, spec and networks.
    pub fn new(task: &object::Task, state: &State) -> Self {
        let container = task.status.container.as_ref();
        let attachment = |one: &object::Attachment| Attachment {
            network: state.network(one.network).map(|network| network.spec.name.to_string()),
            network_id: one.network,
            addresses: one.ips().collect(),
            aliases: one.aliases.to_vec(),
        };
        let node_name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |node| host_name(node).into_owned());
        Self {
            id: task.id,
            version: task.meta.version,
            name: task.short_name(node_name),
            service: task.service_name.clone(),
            service_id: task.service,
            slot: task.slot.number(),
            node: task.node.map(node_name),
            node_id: task.node,
            image: state.spec_of(task).map(|spec| spec.task.container.image.clone()),
            state: task.status.state,
            since: task.status.at,
            desired_state: task.desired,
            health: task.status.health,
            message: task.status.message.clone(),
            error: task.status.error.clone(),
            exit_code: container.and_then(|container| container.exit_code),
            container: container.map(Container::new),
            addresses: task.attachments.iter().flat_map(object::Attachment::ips).collect(),
            attachments: task.attachments.iter().map(attachment).collect(),
            ports: task.host_ports.clone(),
            restarts: Restarts {
                total: task.restarts.total,
                failures_in_row: task.restarts.failures_in_row,
                start_at: task.restarts.start_at,
            },
            spec_version: task.spec_version,
            job_iteration: task.job_iteration,
            created_at: task.meta.created_at,
            updated_at: task.meta.updated_at,
            history: None,
            earlier: None,
        }
    }
}

impl Container {
    fn new(container: &object::ContainerStatus) -> Self {
        Self {
            pid: container.pid,
            oom_killed: container.oom_killed,
            started_at: container.started_at,
            finished_at: container.finished_at,
            image_digest: container.image_digest.clone(),
        }
    }
}
