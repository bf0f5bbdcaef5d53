//! What a container is to be, fully resolved: the one input of [`super::Runtime::create`].
//!
//! Owns the plain types. Must never look at the machine: turning them into an OCI spec is
//! `spec.rs`, carrying it out is `shim_runtime.rs`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

/// One container, with every default of image and service already applied by the caller.
///
/// `ContainerConfig::new(args)` gives Docker's defaults for the rest.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerConfig {
    /// Entrypoint and command in one; the first is looked up in `PATH` of `env` when it has no slash.
    pub args: Vec<String>,
    /// `KEY=VALUE`, in order; a later one wins. `PATH` and `HOME` are added when missing.
    pub env: Vec<String>,
    /// Absolute; made (root, 0755) when the image lacks it.
    pub cwd: String,
    /// `""`, `uid`, `name`, `uid:gid`, `name:group`: names are looked up in the image's own files.
    pub user: String,
    /// Supplementary groups by name or number, added to those of `/etc/group`.
    pub group_add: Vec<String>,
    /// Host name of the container's own UTS namespace.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// Give it a pseudo terminal.
    pub tty: bool,
    /// Keep standard input open for `attach`; `/dev/null` otherwise.
    pub stdin_open: bool,
    /// Run our init as pid 1: it forwards signals and reaps.
    pub init: bool,
    /// Root filesystem read-only.
    pub read_only: bool,
    /// All capabilities, all devices, no seccomp, nothing masked.
    pub privileged: bool,
    /// `NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// As `cap_add`; dropping wins over adding unless `ALL` is dropped.
    pub cap_drop: Vec<String>,
    /// `no_new_privs`: setuid binaries gain nothing.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: SeccompProfile,
    /// `nofile`, `nproc`, ... with soft and hard limit.
    pub rlimits: Vec<Rlimit>,
    /// `net.core.somaxconn` -> `1024`; only namespaced ones are accepted.
    pub sysctls: BTreeMap<String, String>,
    /// Host devices made visible inside.
    pub devices: Vec<Device>,
    /// Extra device cgroup rules: `c 1:3 mr`.
    pub device_cgroup_rules: Vec<String>,
    /// Volumes, bind mounts, tmpfs, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Bytes of `/dev/shm`; 64 MiB when `None`.
    pub shm_size: Option<u64>,
    /// Which network namespace it gets.
    pub network: NetworkMode,
    /// Share the host's pid namespace.
    pub host_pid: bool,
    /// Share the host's IPC namespace.
    pub host_ipc: bool,
    /// Lines of `/etc/hosts` after the loopback ones.
    pub hosts: Vec<HostEntry>,
    /// `/etc/resolv.conf`; the host's own is used when `None`.
    pub dns: Option<DnsConfig>,
    /// Limits of the container's control group.
    pub resources: Resources,
    /// -1000..=1000.
    pub oom_score_adj: Option<i32>,
    /// Where its output goes.
    pub log: LogConfig,
    /// Kept in the bundle for whoever looks; the runtime does not read them.
    pub annotations: BTreeMap<String, String>,
}

impl ContainerConfig {
    /// Docker's defaults around the command `args`.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: "/".into(),
            user: String::new(),
            group_add: Vec::new(),
            hostname: String::new(),
            domainname: None,
            tty: false,
            stdin_open: false,
            init: false,
            read_only: false,
            privileged: false,
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            no_new_privileges: false,
            seccomp: SeccompProfile::Default,
            rlimits: Vec::new(),
            sysctls: BTreeMap::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            mounts: Vec::new(),
            shm_size: None,
            network: NetworkMode::None,
            host_pid: false,
            host_ipc: false,
            hosts: Vec::new(),
            dns: None,
            resources: Resources::default(),
            oom_score_adj: None,
            log: LogConfig::default(),
            annotations: BTreeMap::new(),
        }
    }
}

/// Which system calls are allowed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SeccompProfile {
    /// Berth's own allow-list, adjusted to the capabilities.
    Default,
    /// No filter.
    Unconfined,
    /// A profile in Docker's or OCI's JSON format.
    Custom(String),
}

/// One resource limit of `setrlimit(2)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Lower case without prefix, as in Compose: `nofile`.
    pub name: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit; cut to the daemon's own, with a warning, when that is lower.
    pub hard: u64,
}

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Device node, or a directory of them.
    pub host_path: PathBuf,
    /// Path inside.
    pub container_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Something mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// A directory or file of the host: bind mounts, volumes, secrets, configs.
    Bind {
        /// Absolute path on the host; must exist.
        source: PathBuf,
        /// Absolute path inside; made when missing.
        target: String,
        /// Mount it read-only, submounts too.
        read_only: bool,
        /// How later mounts travel.
        propagation: Propagation,
        /// Take submounts along.
        recursive: bool,
        /// Fill an empty `source` with what the image has at `target` first (named volumes).
        copy_up: bool,
    },
    /// Memory.
    Tmpfs {
        /// Absolute path inside.
        target: String,
        /// Bytes; half of the memory when `None`.
        size: Option<u64>,
        /// Octal bits, 1777 when `None`.
        mode: Option<u32>,
        /// Further options as given to `mount -o`: `exec`, `uid=1000`.
        options: Vec<String>,
    },
}

impl Mount {
    /// A plain read-write bind mount of `source` at `target`.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<String>) -> Self {
        Self::Bind {
            source: source.into(),
            target: target.into(),
            read_only: false,
            propagation: Propagation::Rprivate,
            recursive: true,
            copy_up: false,
        }
    }

    /// The path inside.
    pub fn target(&self) -> &str {
        match self {
            Self::Bind { target, .. } | Self::Tmpfs { target, .. } => target,
        }
    }
}

/// Mount propagation, `mount(8)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// `private`
    Private,
    /// `rprivate`
    #[default]
    Rprivate,
    /// `shared`
    Shared,
    /// `rshared`
    Rshared,
    /// `slave`
    Slave,
    /// `rslave`
    Rslave,
}

/// Where the container's network comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// A new namespace with nothing but a loopback.
    None,
    /// The host's.
    Host,
    /// A prepared one, by the path of its handle: `/run/netns/x`.
    Path(PathBuf),
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Address.
    pub ip: IpAddr,
    /// At least one name.
    pub names: Vec<String>,
}

/// What goes into `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// In order.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// `ndots:0`
    pub options: Vec<String>,
}

/// Limits of the control group; `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Hard limit in bytes.
    pub memory: Option<u64>,
    /// Soft limit in bytes, for when memory is short.
    pub memory_reservation: Option<u64>,
    /// Memory plus swap in bytes, as Docker counts; equal to `memory` is no swap, -1 unlimited.
    pub memory_swap: Option<i64>,
    /// Billionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// Relative weight, 1024 is normal (cgroup v1 scale).
    pub cpu_shares: Option<u64>,
    /// `0-2,7`
    pub cpuset_cpus: Option<String>,
    /// `0-1`
    pub cpuset_mems: Option<String>,
    /// Processes and threads; `None` or below 1 is unlimited.
    pub pids_limit: Option<i64>,
    /// Block IO weight 10..=1000.
    pub blkio_weight: Option<u16>,
}

/// Where output goes, and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Throw it away (attach still sees it).
    pub disabled: bool,
    /// Bytes after which a file is rotated.
    pub max_size: u64,
    /// Files kept, the current one included; at least 1.
    pub max_file: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { disabled: false, max_size: 20 << 20, max_file: 5 }
    }
}
