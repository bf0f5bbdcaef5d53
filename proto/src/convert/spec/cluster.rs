//! Node and cluster specs.

use std::time::Duration;

use crate::convert::{ConvertError, enum_of, enums, from_map, nanos, to_map};
use crate::pb;
use crate::spec::{ClusterSpec, NodeSpec};
use crate::state::{Availability, NodeRole};

enums! {
    NodeRole = pb::NodeRole { Worker, Manager }
    Availability = pb::Availability { Active, Pause, Drain }
}

impl From<&NodeSpec> for pb::NodeSpec {
    fn from(spec: &NodeSpec) -> Self {
        Self {
            role: pb::NodeRole::from(spec.role).into(),
            availability: pb::Availability::from(spec.availability).into(),
            labels: to_map(&spec.labels),
        }
    }
}

impl TryFrom<pb::NodeSpec> for NodeSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::NodeSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            role: enum_of::<pb::NodeRole>(spec.role, "role")?.into(),
            availability: enum_of::<pb::Availability>(spec.availability, "availability")?.into(),
            labels: from_map(spec.labels),
        })
    }
}

impl From<&ClusterSpec> for pb::ClusterSpec {
    fn from(spec: &ClusterSpec) -> Self {
        Self {
            name: spec.name.clone(),
            task_history_limit: spec.task_history_limit,
            heartbeat_period: nanos(spec.heartbeat_period),
            certificate_lifetime: nanos(spec.certificate_lifetime),
            encrypt_networks: spec.encrypt_networks,
            strategy: pb::Strategy::from(spec.strategy).into(),
        }
    }
}

impl TryFrom<pb::ClusterSpec> for ClusterSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::ClusterSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: spec.name,
            task_history_limit: spec.task_history_limit,
            heartbeat_period: Duration::from_nanos(spec.heartbeat_period),
            certificate_lifetime: Duration::from_nanos(spec.certificate_lifetime),
            encrypt_networks: spec.encrypt_networks,
            strategy: enum_of::<pb::Strategy>(spec.strategy, "strategy")?.into(),
        })
    }
}
