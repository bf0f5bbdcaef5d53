//! From what a person asked for to what the runtime is given: a pure mapping.
//!
//! | file | what |
//! |---|---|
//! | `template.rs` | what placeholders such as `{{.Task.Slot}}` stand for |
//! | `process.rs` | command, environment, host name, stop signal |
//! | `mounts.rs` | which mounts a container gets, before their sources exist |
//! | `build.rs` | everything put together into a [`crate::runtime::ContainerConfig`] |
//!
//! Never touches the machine: facts and resolved paths are arguments. What cannot be honoured is an error with the field's
//! name, never dropped.

mod build;
mod logging;
mod mounts;
mod process;
mod template;

use std::collections::BTreeMap;

use berth_proto::id::NodeId;
use berth_proto::spec::{Healthcheck, Platform};

pub(crate) use build::propagation;
pub use build::{Inputs, NetworkFiles, build};
pub use mounts::{PlannedMount, Source, VolumeRequest, plan as plan_mounts};
pub use process::{Process, parse_signal, resolve as resolve_process, resolve_hostname};
pub use template::{FileValues, Values};

/// What a mapping needs to know of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Id.
    pub id: NodeId,
    /// Host name.
    pub hostname: String,
    /// Operating system and architecture.
    pub platform: Platform,
}

/// What an image says about how it is to be run (OCI image configuration, `config`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Command.
    pub command: Vec<String>,
    /// User.
    pub user: String,
    /// Working directory.
    pub workdir: String,
    /// Paths that are to be volumes.
    pub volumes: Vec<String>,
    /// Stop signal.
    pub stop_signal: Option<String>,
    /// Health check.
    pub healthcheck: Option<Healthcheck>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Digest of the image, `sha256:…`.
    pub digest: String,
}

/// One thing that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConfigError {
    /// Field of the spec, in Compose's words.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl ConfigError {
    /// An error at `field`.
    pub fn new(field: impl Into<String>, reason: impl ToString) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }
}

/// Joins errors into the one text that a rejected task shows.
pub fn explain(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(crate) mod testing {
    //! Values that the tests of this crate share.
    use super::*;
    use berth_proto::id::{ServiceId, TaskId};
    use berth_proto::object::{Meta, RestartRecord, Slot, Task, TaskStatus};
    use berth_proto::spec::{ContainerSpec, ServiceSpec};
    use berth_proto::state::DesiredState;

    pub(crate) fn task() -> Task {
        task_with(7)
    }

    pub(crate) fn task_with(id: u128) -> Task {
        Task {
            id: TaskId::from_random(id),
            meta: Meta::default(),
            service: ServiceId::from_random(9),
            service_name: "shop_web".parse().expect("a name"),
            spec_version: 1,
            slot: Slot::Replica(3),
            node: None,
            desired: DesiredState::Running,
            status: TaskStatus::default(),
            attachments: Vec::new(),
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        }
    }

    pub(crate) fn service() -> ServiceSpec {
        let container = ContainerSpec { image: "busybox".into(), ..ContainerSpec::default() };
        let name = "shop_web".parse().expect("a name");
        let stack = Some("shop".parse().expect("a name"));
        ServiceSpec { stack, ..ServiceSpec::new(name, container) }
    }

    pub(crate) fn node() -> NodeFacts {
        NodeFacts {
            id: NodeId::from_random(4),
            hostname: "alpha".into(),
            platform: Platform { os: "linux".into(), architecture: "amd64".into() },
        }
    }
}
