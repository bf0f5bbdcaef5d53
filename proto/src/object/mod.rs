//! What the cluster keeps: each object is a spec with its id, its version and everything that was found or decided.

mod any;
mod cluster;
mod file;
mod node;
mod replicas;
mod resource;
mod service;
mod task;

pub use any::{Object, ObjectKind, ObjectRef};
pub use cluster::{ApiToken, Authority, Cluster, JoinSecret, Root};
pub use file::{Config, Content, FileObject, Secret};
pub use node::{ManagerStatus, Node, NodeDescription, NodeResources, NodeStatus, TunnelKey};
pub use replicas::Replicas;
pub use resource::{Network, NetworkAllocation, Volume};
pub use service::{
    Autoscaled, Endpoint, JobStatus, Service, SpecRevision, SpecVersion, UpdateProgress, UpdateStatus, VirtualIp,
};
pub use task::{Attachment, ContainerStatus, RestartRecord, Slot, Task, TaskStatus};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Version and times of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Meta {
    /// Log index of the last write; 0 before the first. A write that names another version is refused.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}
