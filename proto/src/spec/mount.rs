//! Files from outside that a container sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Labels;
use crate::name::VolumeName;

/// One mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Mount {
    /// Absolute path in the container.
    pub target: String,
    /// No writes through it.
    #[serde(default)]
    pub read_only: bool,
    /// What is mounted.
    pub kind: MountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A path of the host.
    Bind(BindMount),
    /// A named or anonymous volume.
    Volume(VolumeMount),
    /// Memory.
    Tmpfs(TmpfsMount),
    /// The files of an image, read-only.
    Image(ImageMount),
}

/// A path of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BindMount {
    /// Absolute path on the host.
    pub source: String,
    /// Make a missing source an empty directory.
    #[serde(default)]
    pub create_host_path: bool,
    /// How mounts made later pass through.
    #[serde(default)]
    pub propagation: Propagation,
    /// Leave out the mounts below the source.
    #[serde(default)]
    pub non_recursive: bool,
}

/// mount(2) propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Not at all, with what is below.
    #[default]
    Rprivate,
    /// Not at all.
    Private,
    /// Both ways, with what is below.
    Rshared,
    /// Both ways.
    Shared,
    /// From the host only, with what is below.
    Rslave,
    /// From the host only.
    Slave,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeMount {
    /// Name of the volume; `None`, and no `name_template`, is an anonymous one that goes with its task.
    pub name: Option<VolumeName>,
    /// A name with placeholders such as `data-{{.Task.Slot}}`, filled in on the node for each task; then `name` is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_template: Option<String>,
    /// Do not copy the image's files into a new volume.
    #[serde(default)]
    pub no_copy: bool,
    /// Path inside the volume, relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
    /// Driver for a volume that the node makes on first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Options of that driver.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
    /// Labels of a volume that the node makes on first use.
    #[serde(default)]
    pub labels: Labels,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct TmpfsMount {
    /// Bytes; `None` is half the memory, as the kernel has it.
    pub size: Option<u64>,
    /// Permission bits; default `0o1777`.
    pub mode: Option<u32>,
    /// More mount options, e.g. `noexec`, `uid=1000`.
    pub options: Vec<String>,
}

/// The files of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageMount {
    /// Image reference.
    pub source: String,
    /// Path inside the image, relative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
}
