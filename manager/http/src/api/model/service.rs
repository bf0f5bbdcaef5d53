//! A service.

use std::sync::Arc;

use berth_manager::store::State;
use berth_proto::id::{NetworkId, ServiceId};
use berth_proto::name::{ServiceName, StackName};
use berth_proto::object::{self, Autoscaled, Replicas, SpecVersion, UpdateProgress};
use berth_proto::schema::IpAddress;
use berth_proto::spec::{PortConfig, ServiceSpec};
use berth_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A service: how many of what run, and how it changes.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Service {
    /// Id.
    pub id: ServiceId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Name.
    pub name: ServiceName,
    /// Stack, if it belongs to one.
    pub stack: Option<StackName>,
    /// `replicated`, `global`, `replicated-job`, `global-job`.
    pub mode: &'static str,
    /// How many tasks run, and how many should.
    pub replicas: Replicas,
    /// What autoscaling, or a person within its bounds, decided last; null before that, and where the spec asks for none.
    pub autoscaled: Option<Autoscaled>,
    /// Image as written.
    pub image: String,
    /// Published ports, with those that were chosen for it.
    pub ports: Vec<PortConfig>,
    /// Where the last update is; null when there was none.
    pub update_status: Option<UpdateProgress>,
    /// More about it.
    pub update: Option<Update>,
    /// Its addresses, one for each network.
    pub virtual_ips: Vec<VirtualIp>,
    /// Present on jobs.
    pub job: Option<Job>,
    /// Its removal was asked for: its tasks are being stopped.
    pub removing: bool,
    /// Version of `spec`.
    pub spec_version: SpecVersion,
    /// What it should be.
    #[schema(value_type = ServiceSpec)]
    pub spec: Arc<ServiceSpec>,
    /// Version of the spec that a rollback goes back to; null when there is none.
    pub previous_spec_version: Option<SpecVersion>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// How an update goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Update {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Why it is where it is, for people.
    pub message: String,
    /// Spec version that it leads to.
    pub target: SpecVersion,
}

/// A service's address on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct VirtualIp {
    /// Name of the network; null when it is gone.
    pub network: Option<String>,
    /// Its id.
    pub network_id: NetworkId,
    /// The address.
    #[schema(value_type = IpAddress)]
    pub address: std::net::IpAddr,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Job {
    /// Raised each time the job is to run again.
    pub iteration: u64,
    /// When this run began.
    pub last_execution: Timestamp,
}

/// Asks for a number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scale {
    /// How many; of a job, how many must end well.
    #[schema(maximum = 1_000_000)]
    pub replicas: u64,
}

impl Service {
    /// The shape of a service; `state` knows its tasks and networks.
    pub fn new(service: &object::Service, state: &State) -> Self {
        let spec = &service.spec;
        let given = service.endpoint.as_ref().map(|endpoint| &endpoint.ports);
        let ports = given.filter(|ports| !ports.is_empty()).unwrap_or(&spec.endpoint.ports);
        let tasks = state.tasks_of_service(service.id).map(|task| &**task);
        let update = |update: &object::UpdateStatus| Update {
            started_at: update.started_at,
            completed_at: update.completed_at,
            message: update.message.clone(),
            target: update.target,
        };
        let virtual_ip = |ip: &object::VirtualIp| VirtualIp {
            network: state.network(ip.network).map(|network| network.spec.name.to_string()),
            network_id: ip.network,
            address: ip.ip(),
        };
        let job = |job: object::JobStatus| Job { iteration: job.iteration, last_execution: job.last_execution };
        Self {
            id: service.id,
            version: service.meta.version,
            name: spec.name.clone(),
            stack: spec.stack.clone(),
            mode: spec.mode.as_str(),
            replicas: Replicas::count(service, tasks),
            autoscaled: service.autoscaled.clone(),
            image: spec.task.container.image.clone(),
            ports: ports.clone(),
            update_status: service.update.as_ref().map(|update| update.progress),
            update: service.update.as_ref().map(update),
            virtual_ips: service.endpoint.iter().flat_map(|given| &given.virtual_ips).map(virtual_ip).collect(),
            job: service.job.map(job),
            removing: service.pending_delete,
            spec_version: service.spec_version,
            spec: Arc::clone(spec),
            previous_spec_version: service.previous.as_ref().map(|previous| previous.version),
            created_at: service.meta.created_at,
            updated_at: service.meta.updated_at,
        }
    }
}
