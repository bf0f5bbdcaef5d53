//! How much a task may use and how much is set aside for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Limits and reservations of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct Requirements {
    /// What the kernel lets it use at most.
    pub limits: Limits,
    /// What the scheduler sets aside on the node.
    pub reservations: Reservations,
}

/// Enforced by cgroups. `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct Limits {
    /// 1_000_000_000 is one whole cpu.
    pub nano_cpus: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Memory plus swap in bytes; -1 is unlimited swap.
    pub memory_swap: Option<i64>,
    /// Processes and threads; -1 is unlimited.
    pub pids: Option<i64>,
    /// Relative share of cpu time, 1024 is the usual.
    pub cpu_shares: Option<u64>,
    /// Cpus it may run on, e.g. `0-3,8`.
    pub cpuset: Option<String>,
}

/// Set aside by the scheduler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct Reservations {
    /// 1_000_000_000 is one whole cpu.
    pub nano_cpus: u64,
    /// Bytes; also the cgroup's soft limit.
    pub memory: u64,
    /// Counts of named things that nodes offer, e.g. `ssd: 1`.
    pub generic: BTreeMap<String, u64>,
    /// Devices such as GPUs.
    pub devices: Vec<DeviceRequest>,
}

/// Compose `reservations.devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct DeviceRequest {
    /// Capabilities that the device must have, e.g. `gpu`.
    pub capabilities: Vec<String>,
    /// Driver name.
    pub driver: Option<String>,
    /// How many; `None` is all.
    pub count: Option<u64>,
    /// These very ones.
    pub device_ids: Vec<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}
