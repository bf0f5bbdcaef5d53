//! What a person asks for. Only people change a spec; everything the system finds or decides lives in [`crate::object`].
//!
//! Field meanings, defaults and limits follow the Compose Specification and Docker's service API.

mod affinity;
mod autoscale;
mod cluster;
mod container;
mod endpoint;
mod mount;
mod network;
mod placement;
mod resources;
mod rollout;
mod service;
mod storage;

pub use affinity::{Affinity, Relation, Scope, Selector, Strategy};
pub use autoscale::{
    Autoscale, Bounds, Pace, ParseTimeError, RequestTarget, TimeOfDay, Weekday, Window, default_cooldown, default_path,
    default_stabilization, default_tolerance, zone,
};
pub use cluster::{ClusterSpec, NodeSpec};
pub use container::{
    CapabilitySpec, ContainerSpec, DeviceMapping, DnsSpec, FileMount, FileSource, HealthTest, Healthcheck, HostEntry,
    LogSpec, NamespaceMode, PullPolicy, SeccompMode, Ulimit,
};
pub use endpoint::{EndpointMode, EndpointSpec, PortConfig, Protocol, PublishMode};
pub use mount::{BindMount, ImageMount, Mount, MountKind, Propagation, TmpfsMount, VolumeMount};
pub use network::{INGRESS_NETWORK, IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec};
pub use placement::{Constraint, ConstraintOp, ParseConstraintError, Placement, Platform, Preference};
pub use resources::{DeviceRequest, Limits, Requirements, Reservations};
pub use rollout::{FailureAction, Ratio, RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder};
pub use service::{DependencyCondition, DependsOn, ServiceMode, ServiceSpec, TaskSpec};
pub use storage::{ConfigSpec, SecretBytes, SecretSpec, TemplateDriver, VolumeSpec};

use std::collections::BTreeMap;

/// Labels: free text pairs that people hang on objects.
pub type Labels = BTreeMap<String, String>;
