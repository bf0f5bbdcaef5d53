//! Services.

use std::sync::Arc;

use crate::convert::{ConvertError, enum_of, enums, list, optional, parse, required, to_list};
use crate::object::{Autoscaled, Endpoint, JobStatus, Service, SpecRevision, UpdateProgress, UpdateStatus, VirtualIp};
use crate::pb;
use crate::time::Timestamp;

enums! {
    UpdateProgress = pb::update_status::Progress {
        Updating, Paused, Completed, RollbackStarted, RollbackPaused, RollbackCompleted,
    }
}

impl From<&Service> for pb::Service {
    fn from(service: &Service) -> Self {
        Self {
            id: service.id.to_string(),
            meta: Some((&service.meta).into()),
            spec: Some((&*service.spec).into()),
            spec_version: service.spec_version,
            previous: service.previous.as_ref().map(Into::into),
            history: to_list(&service.history),
            endpoint: service.endpoint.as_ref().map(Into::into),
            update: service.update.as_ref().map(Into::into),
            job: service
                .job
                .map(|job| pb::JobStatus { iteration: job.iteration, last_execution: job.last_execution.0 }),
            pending_delete: service.pending_delete,
            autoscaled: service.autoscaled.as_ref().map(Into::into),
            traced: service.traced.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Service> for Service {
    type Error = ConvertError;

    fn try_from(message: pb::Service) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse(&message.id, "id")?,
            meta: required(message.meta, "meta")?,
            spec: Arc::new(required(message.spec, "spec")?),
            spec_version: message.spec_version,
            previous: optional(message.previous, "previous")?,
            history: list(message.history, "history")?,
            endpoint: optional(message.endpoint, "endpoint")?,
            update: optional(message.update, "update")?,
            job: message
                .job
                .map(|job| JobStatus { iteration: job.iteration, last_execution: Timestamp(job.last_execution) }),
            pending_delete: message.pending_delete,
            autoscaled: message.autoscaled.map(Into::into),
            traced: optional(message.traced, "traced")?,
        })
    }
}

impl From<&Autoscaled> for pb::Autoscaled {
    fn from(decided: &Autoscaled) -> Self {
        Self { replicas: decided.replicas, since: decided.since.0, reason: decided.reason.clone() }
    }
}

impl From<pb::Autoscaled> for Autoscaled {
    fn from(message: pb::Autoscaled) -> Self {
        Self { replicas: message.replicas, since: Timestamp(message.since), reason: message.reason }
    }
}

impl From<&SpecRevision> for pb::SpecRevision {
    fn from(revision: &SpecRevision) -> Self {
        Self { version: revision.version, spec: Some((&*revision.spec).into()) }
    }
}

impl TryFrom<pb::SpecRevision> for SpecRevision {
    type Error = ConvertError;

    fn try_from(message: pb::SpecRevision) -> Result<Self, ConvertError> {
        Ok(Self { version: message.version, spec: Arc::new(required(message.spec, "spec")?) })
    }
}

impl From<&Endpoint> for pb::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self { ports: to_list(&endpoint.ports), virtual_ips: to_list(&endpoint.virtual_ips) }
    }
}

impl TryFrom<pb::Endpoint> for Endpoint {
    type Error = ConvertError;

    fn try_from(message: pb::Endpoint) -> Result<Self, ConvertError> {
        Ok(Self { ports: list(message.ports, "ports")?, virtual_ips: list(message.virtual_ips, "virtual_ips")? })
    }
}

impl From<&VirtualIp> for pb::VirtualIp {
    fn from(vip: &VirtualIp) -> Self {
        Self { network: vip.network.to_string(), address: vip.address.to_string() }
    }
}

impl TryFrom<pb::VirtualIp> for VirtualIp {
    type Error = ConvertError;

    fn try_from(message: pb::VirtualIp) -> Result<Self, ConvertError> {
        Ok(Self { network: parse(&message.network, "network")?, address: parse(&message.address, "address")? })
    }
}

impl From<&UpdateStatus> for pb::UpdateStatus {
    fn from(status: &UpdateStatus) -> Self {
        Self {
            progress: pb::update_status::Progress::from(status.progress).into(),
            started_at: status.started_at.0,
            completed_at: status.completed_at.map(|at| at.0),
            message: status.message.clone(),
            target: status.target,
        }
    }
}

impl TryFrom<pb::UpdateStatus> for UpdateStatus {
    type Error = ConvertError;

    fn try_from(message: pb::UpdateStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            progress: enum_of::<pb::update_status::Progress>(message.progress, "progress")?.into(),
            started_at: Timestamp(message.started_at),
            completed_at: message.completed_at.map(Timestamp),
            message: message.message,
            target: message.target,
        })
    }
}
