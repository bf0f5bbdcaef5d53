//! The container part of a task: image, process, isolation, files.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Labels, Mount};
use crate::content::ContentDigest;
use crate::schema::{DurationText, IpAddress};
use crate::time::duration;

/// What runs in a task's container. `None` and empty mean "as the image says" where the image can say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ContainerSpec {
    /// Image reference as written, e.g. `nginx:1.25` or `host:5000/app@sha256:…`.
    pub image: String,
    /// When the image is fetched.
    pub pull_policy: PullPolicy,
    /// Replaces the image's entrypoint; an empty list clears it (Compose `entrypoint`).
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command; an empty list clears it (Compose `command`).
    pub command: Option<Vec<String>>,
    /// Environment, on top of the image's.
    pub env: BTreeMap<String, String>,
    /// Host name; the default is made from the task's id.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`, names looked up in the image.
    pub user: Option<String>,
    /// Supplementary groups, by name or number (Compose `group_add`).
    pub groups: Vec<String>,
    /// Absolute working directory.
    pub workdir: Option<String>,
    /// Labels of the container.
    pub labels: Labels,
    /// Volumes, bind mounts, tmpfs.
    pub mounts: Vec<Mount>,
    /// Configs shown as files.
    pub configs: Vec<FileMount>,
    /// Secrets shown as files.
    pub secrets: Vec<FileMount>,
    /// Health check; `None` uses the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Name or number of the signal that asks it to stop; default the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// Time between the stop signal and SIGKILL. Default 10 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub stop_grace_period: Duration,
    /// Run a small init as pid 1 that forwards signals and reaps zombies.
    pub init: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open.
    pub stdin_open: bool,
    /// Mount its root filesystem read-only.
    pub read_only: bool,
    /// Capabilities on top of, and taken from, the default set.
    pub capabilities: CapabilitySpec,
    /// All capabilities and devices, no seccomp.
    pub privileged: bool,
    /// Forbid gaining privileges through setuid files.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompMode,
    /// Resource limits of the process by their names, e.g. `nofile`.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Host devices it may use.
    pub devices: Vec<DeviceMapping>,
    /// More device rules in the kernel's form, e.g. `c 1:3 mr`.
    pub device_cgroup_rules: Vec<String>,
    /// Lines for /etc/hosts.
    pub extra_hosts: Vec<HostEntry>,
    /// Name resolution.
    pub dns: DnsSpec,
    /// Size of /dev/shm in bytes; default 64 MiB.
    pub shm_size: Option<u64>,
    /// -1000..=1000, who goes first when memory is short.
    pub oom_score_adj: Option<i32>,
    /// Process ids: its own, or the host's.
    pub pid_mode: NamespaceMode,
    /// IPC objects: its own, or the host's.
    pub ipc_mode: NamespaceMode,
    /// Host name namespace: its own, or the host's.
    pub uts_mode: NamespaceMode,
    /// Cgroup namespace: its own, or the host's.
    pub cgroupns_mode: NamespaceMode,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            image: String::new(),
            pull_policy: PullPolicy::default(),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            hostname: None,
            domainname: None,
            user: None,
            groups: Vec::new(),
            workdir: None,
            labels: Labels::new(),
            mounts: Vec::new(),
            configs: Vec::new(),
            secrets: Vec::new(),
            healthcheck: None,
            stop_signal: None,
            stop_grace_period: Duration::from_secs(10),
            init: false,
            tty: false,
            stdin_open: false,
            read_only: false,
            capabilities: CapabilitySpec::default(),
            privileged: false,
            no_new_privileges: false,
            seccomp: SeccompMode::default(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            extra_hosts: Vec::new(),
            dns: DnsSpec::default(),
            shm_size: None,
            oom_score_adj: None,
            pid_mode: NamespaceMode::default(),
            ipc_mode: NamespaceMode::default(),
            uts_mode: NamespaceMode::default(),
            cgroupns_mode: NamespaceMode::default(),
        }
    }
}

/// Compose `pull_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Ask the registry each time a task is prepared.
    Always,
    /// Use what the node has, or refuse.
    Never,
    /// Fetch what the node lacks.
    #[default]
    IfNotPresent,
}

/// Names such as `NET_ADMIN`, without `CAP_`, upper case; `ALL` means every one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct CapabilitySpec {
    /// Added to the default set.
    pub add: Vec<String>,
    /// Taken from it.
    pub drop: Vec<String>,
}

/// System call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeccompMode {
    /// Berth's default allow-list.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON form, given whole.
    Custom(String),
}

/// Soft and hard value of one resource limit; -1 means unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ulimit {
    /// What is in force.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}

/// A device of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceMapping {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Some of `r`, `w`, `m`.
    pub permissions: String,
}

/// A line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostEntry {
    /// The name.
    pub host: String,
    /// An address, or `host-gateway`.
    pub address: String,
}

/// Name resolution of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct DnsSpec {
    /// Servers that unknown names are asked of; empty means the node's.
    #[schema(value_type = Vec<IpAddress>)]
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// resolv.conf options, e.g. `ndots:2`.
    pub options: Vec<String>,
}

/// A config or secret shown as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileMount {
    /// Name of the config or secret object.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Owner, by number or name.
    pub uid: String,
    /// Group, by number or name.
    pub gid: String,
    /// Permission bits, e.g. `0o444`.
    pub mode: u32,
    /// Which content of the object is shown. People leave it out: it stands for the newest one, and a manager fills it in
    /// when it takes the spec up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ContentDigest>,
}

/// Where the content of a config or secret came from; used in messages only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSource {
    /// A file.
    File(String),
    /// An environment variable.
    Environment(String),
    /// Written in the YAML.
    Content,
    /// Made before by somebody else.
    External,
}

/// Probe that says whether a task is healthy (Compose `healthcheck`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Healthcheck {
    /// What to run; `None` inherits the image's test.
    pub test: Option<HealthTest>,
    /// Between two probes. Default 30 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub interval: Duration,
    /// A probe that takes longer has failed. Default 30 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub timeout: Duration,
    /// Failures in a row that make it unhealthy. Default 3.
    pub retries: u32,
    /// Failures in this time after the start do not count. Default 0.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub start_period: Duration,
    /// Between two probes in the start period. Default 5 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub start_interval: Duration,
}

impl Default for Healthcheck {
    fn default() -> Self {
        Self {
            test: None,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// What a health check runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// No health check, also not the image's.
    None,
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A line for the container's `/bin/sh -c`.
    Shell(String),
}

/// Whose namespace a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// Its own.
    #[default]
    Private,
    /// The node's.
    Host,
}

/// Where the output of a task goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct LogSpec {
    /// `json-file`, `local` (both: Berth's own files) or `none`.
    pub driver: String,
    /// `max-size` (bytes, e.g. `10m`) and `max-file`.
    pub options: BTreeMap<String, String>,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { driver: "local".to_owned(), options: BTreeMap::new() }
    }
}
