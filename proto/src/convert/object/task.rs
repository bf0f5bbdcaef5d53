//! Tasks.

use crate::convert::{ConvertError, enum_of, enums, list, optional, parse, parse_list, parse_opt, required};
use crate::convert::{text_opt, texts, to_list};
use crate::object::{Attachment, ContainerStatus, RestartRecord, Slot, Task, TaskStatus};
use crate::pb;
use crate::state::{DesiredState, HealthState, TaskState};
use crate::time::Timestamp;
use pb::task::Slot as PbSlot;

enums! {
    TaskState = pb::TaskState {
        New, Pending, Assigned, Accepted, Preparing, Ready, Starting, Running, Complete, Shutdown, Failed, Rejected,
        Remove, Orphaned,
    }
    DesiredState = pb::DesiredState { Running, Ready, Complete, Shutdown, Remove }
}

impl From<&Task> for pb::Task {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            meta: Some((&task.meta).into()),
            service: task.service.to_string(),
            service_name: task.service_name.to_string(),
            spec_version: task.spec_version,
            slot: Some(match task.slot {
                Slot::Replica(number) => PbSlot::Replica(number),
                Slot::Node(node) => PbSlot::SlotNode(node.to_string()),
            }),
            node: text_opt(task.node.as_ref()),
            desired: pb::DesiredState::from(task.desired).into(),
            status: Some((&task.status).into()),
            attachments: to_list(&task.attachments),
            host_ports: to_list(&task.host_ports),
            restarts: Some((&task.restarts).into()),
            job_iteration: task.job_iteration,
            nominated: text_opt(task.nominated.as_ref()),
            traced: task.traced.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Task> for Task {
    type Error = ConvertError;

    fn try_from(message: pb::Task) -> Result<Self, ConvertError> {
        let slot = match message.slot {
            Some(PbSlot::Replica(number)) => Slot::Replica(number),
            Some(PbSlot::SlotNode(node)) => Slot::Node(parse(&node, "slot_node")?),
            None => return Err(ConvertError::new("slot", "is missing")),
        };
        Ok(Self {
            id: parse(&message.id, "id")?,
            meta: required(message.meta, "meta")?,
            service: parse(&message.service, "service")?,
            service_name: parse(&message.service_name, "service_name")?,
            spec_version: message.spec_version,
            slot,
            node: parse_opt(message.node, "node")?,
            desired: enum_of::<pb::DesiredState>(message.desired, "desired")?.into(),
            status: optional(message.status, "status")?.unwrap_or_default(),
            attachments: list(message.attachments, "attachments")?,
            host_ports: list(message.host_ports, "host_ports")?,
            restarts: message.restarts.map(Into::into).unwrap_or_default(),
            job_iteration: message.job_iteration,
            nominated: parse_opt(message.nominated, "nominated")?,
            traced: optional(message.traced, "traced")?,
        })
    }
}

impl From<Option<HealthState>> for pb::HealthState {
    fn from(health: Option<HealthState>) -> Self {
        match health {
            None => Self::None,
            Some(HealthState::Starting) => Self::Starting,
            Some(HealthState::Healthy) => Self::Healthy,
            Some(HealthState::Unhealthy) => Self::Unhealthy,
        }
    }
}

impl From<pb::HealthState> for Option<HealthState> {
    fn from(health: pb::HealthState) -> Self {
        match health {
            pb::HealthState::None => None,
            pb::HealthState::Starting => Some(HealthState::Starting),
            pb::HealthState::Healthy => Some(HealthState::Healthy),
            pb::HealthState::Unhealthy => Some(HealthState::Unhealthy),
        }
    }
}

impl From<&TaskStatus> for pb::TaskStatus {
    fn from(status: &TaskStatus) -> Self {
        Self {
            state: pb::TaskState::from(status.state).into(),
            at: status.at.0,
            message: status.message.clone(),
            error: status.error.clone(),
            health: pb::HealthState::from(status.health).into(),
            container: status.container.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::TaskStatus> for TaskStatus {
    type Error = ConvertError;

    fn try_from(message: pb::TaskStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: enum_of::<pb::TaskState>(message.state, "state")?.into(),
            at: Timestamp(message.at),
            message: message.message,
            error: message.error,
            health: enum_of::<pb::HealthState>(message.health, "health")?.into(),
            container: message.container.map(Into::into),
        })
    }
}

impl From<&ContainerStatus> for pb::ContainerStatus {
    fn from(status: &ContainerStatus) -> Self {
        Self {
            pid: status.pid,
            exit_code: status.exit_code,
            oom_killed: status.oom_killed,
            started_at: status.started_at.map(|at| at.0),
            finished_at: status.finished_at.map(|at| at.0),
            image_digest: status.image_digest.clone(),
        }
    }
}

impl From<pb::ContainerStatus> for ContainerStatus {
    fn from(message: pb::ContainerStatus) -> Self {
        Self {
            pid: message.pid,
            exit_code: message.exit_code,
            oom_killed: message.oom_killed,
            started_at: message.started_at.map(Timestamp),
            finished_at: message.finished_at.map(Timestamp),
            image_digest: message.image_digest,
        }
    }
}

impl From<&Attachment> for pb::Attachment {
    fn from(attachment: &Attachment) -> Self {
        Self {
            network: attachment.network.to_string(),
            addresses: texts(&attachment.addresses),
            aliases: attachment.aliases.to_vec(),
            default_route: attachment.default_route,
            mac_address: attachment.mac_address.clone(),
        }
    }
}

impl TryFrom<pb::Attachment> for Attachment {
    type Error = ConvertError;

    fn try_from(message: pb::Attachment) -> Result<Self, ConvertError> {
        Ok(Self {
            network: parse(&message.network, "network")?,
            addresses: parse_list(&message.addresses, "addresses")?,
            aliases: message.aliases.into(),
            default_route: message.default_route,
            mac_address: message.mac_address,
        })
    }
}

impl From<&RestartRecord> for pb::RestartRecord {
    fn from(record: &RestartRecord) -> Self {
        Self {
            total: record.total,
            recent: record.recent.iter().map(|at| at.0).collect(),
            failures_in_row: record.failures_in_row,
            start_at: record.start_at.map(|at| at.0),
        }
    }
}

impl From<pb::RestartRecord> for RestartRecord {
    fn from(message: pb::RestartRecord) -> Self {
        Self {
            total: message.total,
            recent: message.recent.into_iter().map(Timestamp).collect(),
            failures_in_row: message.failures_in_row,
            start_at: message.start_at.map(Timestamp),
        }
    }
}
