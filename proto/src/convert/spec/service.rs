//! Services, task templates, modes, dependencies.

use crate::convert::{ConvertError, enum_of, enums, list, optional, parse, parse_opt, required, text_opt, to_list};
use crate::convert::{from_map, to_map};
use crate::name::ServiceName;
use crate::pb;
use crate::spec::{DependencyCondition, DependsOn, ServiceMode, ServiceSpec, TaskSpec};
use pb::service_mode::{Global, GlobalJob, Mode, Replicated, ReplicatedJob};

enums! {
    DependencyCondition = pb::depends_on::Condition { ServiceStarted, ServiceHealthy, ServiceCompletedSuccessfully }
}

impl From<&ServiceSpec> for pb::ServiceSpec {
    fn from(spec: &ServiceSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            stack: text_opt(spec.stack.as_ref()),
            labels: to_map(&spec.labels),
            task: Some((&spec.task).into()),
            mode: Some(spec.mode.into()),
            update: Some((&spec.update).into()),
            rollback: Some((&spec.rollback).into()),
            endpoint: Some((&spec.endpoint).into()),
            priority: spec.priority,
            autoscale: spec.autoscale.as_ref().map(Into::into),
            depends_on: spec.depends_on.iter().map(depends_on).collect(),
        }
    }
}

impl TryFrom<pb::ServiceSpec> for ServiceSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::ServiceSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse(&spec.name, "name")?,
            stack: parse_opt(spec.stack, "stack")?,
            labels: from_map(spec.labels),
            task: required(spec.task, "task")?,
            mode: optional(spec.mode, "mode")?.unwrap_or_default(),
            update: optional(spec.update, "update")?.unwrap_or_default(),
            rollback: optional(spec.rollback, "rollback")?.unwrap_or_default(),
            endpoint: optional(spec.endpoint, "endpoint")?.unwrap_or_default(),
            priority: spec.priority,
            autoscale: optional(spec.autoscale, "autoscale")?,
            depends_on: spec.depends_on.into_iter().map(dependency).collect::<Result<_, _>>()?,
        })
    }
}

fn depends_on((service, dependency): (&ServiceName, &DependsOn)) -> pb::DependsOn {
    pb::DependsOn {
        service: service.to_string(),
        condition: pb::depends_on::Condition::from(dependency.condition).into(),
        restart: dependency.restart,
        required: dependency.required,
    }
}

fn dependency(message: pb::DependsOn) -> Result<(ServiceName, DependsOn), ConvertError> {
    let service = parse(&message.service, "depends_on.service")?;
    let condition = enum_of::<pb::depends_on::Condition>(message.condition, "depends_on.condition")?.into();
    Ok((service, DependsOn { condition, restart: message.restart, required: message.required }))
}

impl From<&TaskSpec> for pb::TaskSpec {
    fn from(spec: &TaskSpec) -> Self {
        Self {
            container: Some((&spec.container).into()),
            resources: Some((&spec.resources).into()),
            restart: Some((&spec.restart).into()),
            placement: Some((&spec.placement).into()),
            networks: to_list(&spec.networks),
            log: Some((&spec.log).into()),
            force_update: spec.force_update,
        }
    }
}

impl TryFrom<pb::TaskSpec> for TaskSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::TaskSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            container: required(spec.container, "container")?,
            resources: optional(spec.resources, "resources")?.unwrap_or_default(),
            restart: optional(spec.restart, "restart")?.unwrap_or_default(),
            placement: optional(spec.placement, "placement")?.unwrap_or_default(),
            networks: list(spec.networks, "networks")?,
            log: spec.log.map(Into::into).unwrap_or_default(),
            force_update: spec.force_update,
        })
    }
}

impl From<ServiceMode> for pb::ServiceMode {
    fn from(mode: ServiceMode) -> Self {
        let mode = match mode {
            ServiceMode::Replicated { replicas } => Mode::Replicated(Replicated { replicas }),
            ServiceMode::Global => Mode::Global(Global {}),
            ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
                Mode::ReplicatedJob(ReplicatedJob { max_concurrent, total_completions })
            }
            ServiceMode::GlobalJob => Mode::GlobalJob(GlobalJob {}),
        };
        Self { mode: Some(mode) }
    }
}

impl TryFrom<pb::ServiceMode> for ServiceMode {
    type Error = ConvertError;

    fn try_from(message: pb::ServiceMode) -> Result<Self, ConvertError> {
        match message.mode {
            Some(Mode::Replicated(Replicated { replicas })) => Ok(Self::Replicated { replicas }),
            Some(Mode::Global(_)) => Ok(Self::Global),
            Some(Mode::ReplicatedJob(ReplicatedJob { max_concurrent, total_completions })) => {
                Ok(Self::ReplicatedJob { max_concurrent, total_completions })
            }
            Some(Mode::GlobalJob(_)) => Ok(Self::GlobalJob),
            None => Err(ConvertError::new("mode", "is missing or newer than this version")),
        }
    }
}
