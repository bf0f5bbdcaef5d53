//! Everything put together into the runtime's configuration of one container.
//!
//! Owns the field-by-field mapping. Never touches the machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_proto::object::Task;
use berth_proto::spec::{ContainerSpec, NamespaceMode, Propagation, Requirements, SeccompMode, ServiceSpec, Ulimit};

use super::{ConfigError, Process, logging};
use crate::runtime::{self, ContainerConfig, Mount, NetworkMode, Resources, Rlimit, SeccompProfile};

/// Files that the network side rendered for a container, as paths of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkFiles {
    /// For `/etc/hosts`.
    pub hosts: Option<PathBuf>,
    /// For `/etc/hostname`.
    pub hostname: Option<PathBuf>,
    /// For `/etc/resolv.conf`.
    pub resolv_conf: Option<PathBuf>,
}

/// What the mapping starts from; everything that needed the machine is resolved.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its service.
    pub spec: &'a ServiceSpec,
    /// Its process.
    pub process: Process,
    /// Mounts with their sources, in the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: NetworkMode,
    /// Files of its network.
    pub files: NetworkFiles,
}

/// Maps; what cannot be honoured comes back all at once.
pub fn build(inputs: Inputs<'_>) -> Result<ContainerConfig, Vec<ConfigError>> {
    let spec = &inputs.spec.task.container;
    let mut errors = Vec::new();
    refuse_unsupported(inputs.spec, &mut errors);
    let log = logging::resolve(&inputs.spec.task.log, &mut errors);
    let mut config = ContainerConfig::new(inputs.process.args);
    config.env = inputs.process.env;
    config.cwd = inputs.process.cwd;
    config.user = inputs.process.user;
    config.hostname = inputs.process.hostname;
    config.network = inputs.network;
    config.mounts = network_mounts(inputs.files, &inputs.mounts);
    config.mounts.extend(inputs.mounts);
    config.log = log;
    config.resources = resources(&inputs.spec.task.resources);
    config.annotations = annotations(inputs.task, inputs.spec);
    isolation(spec, &mut config);
    match errors.is_empty() {
        true => Ok(config),
        false => Err(errors),
    }
}

fn isolation(spec: &ContainerSpec, config: &mut ContainerConfig) {
    config.group_add.clone_from(&spec.groups);
    config.domainname.clone_from(&spec.domainname);
    config.tty = spec.tty;
    config.stdin_open = spec.stdin_open;
    config.init = spec.init;
    config.read_only = spec.read_only;
    config.privileged = spec.privileged;
    config.cap_add.clone_from(&spec.capabilities.add);
    config.cap_drop.clone_from(&spec.capabilities.drop);
    config.no_new_privileges = spec.no_new_privileges;
    config.seccomp = match &spec.seccomp {
        SeccompMode::Default => SeccompProfile::Default,
        SeccompMode::Unconfined => SeccompProfile::Unconfined,
        SeccompMode::Custom(json) => SeccompProfile::Custom(json.clone()),
    };
    config.rlimits = spec.ulimits.iter().map(|(name, limit)| rlimit(name, *limit)).collect();
    config.sysctls.clone_from(&spec.sysctls);
    config.devices = spec.devices.iter().map(device).collect();
    config.device_cgroup_rules.clone_from(&spec.device_cgroup_rules);
    config.shm_size = spec.shm_size;
    config.oom_score_adj = spec.oom_score_adj;
    config.host_pid = spec.pid_mode == NamespaceMode::Host;
    config.host_ipc = spec.ipc_mode == NamespaceMode::Host;
}

fn refuse_unsupported(spec: &ServiceSpec, errors: &mut Vec<ConfigError>) {
    let container = &spec.task.container;
    let mut refuse = |field: &str, reason: &str| errors.push(ConfigError::new(field, reason));
    if container.uts_mode == NamespaceMode::Host {
        refuse("uts", "the host's UTS namespace is not supported; set hostname instead");
    }
    if container.cgroupns_mode == NamespaceMode::Host {
        refuse("cgroup", "the host's cgroup namespace is not supported; containers get their own");
    }
    if !spec.task.resources.reservations.devices.is_empty() {
        refuse("deploy.resources.reservations.devices", "device requests such as GPUs are not supported; use devices");
    }
}

fn rlimit(name: &str, limit: Ulimit) -> Rlimit {
    let unlimited = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    Rlimit { name: name.to_owned(), soft: unlimited(limit.soft), hard: unlimited(limit.hard) }
}

fn device(device: &berth_proto::spec::DeviceMapping) -> runtime::Device {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    runtime::Device {
        host_path: PathBuf::from(&device.source),
        container_path: or(&device.target, &device.source),
        permissions: or(&device.permissions, "rwm"),
    }
}

fn resources(wanted: &Requirements) -> Resources {
    let limits = &wanted.limits;
    Resources {
        memory: limits.memory,
        memory_reservation: Some(wanted.reservations.memory).filter(|bytes| *bytes > 0),
        memory_swap: limits.memory_swap,
        nano_cpus: limits.nano_cpus,
        cpu_shares: limits.cpu_shares,
        cpuset_cpus: limits.cpuset.clone().filter(|cpus| !cpus.is_empty()),
        cpuset_mems: None,
        pids_limit: limits.pids,
        blkio_weight: None,
    }
}

fn annotations(task: &Task, spec: &ServiceSpec) -> BTreeMap<String, String> {
    let mut labels = spec.task.container.labels.clone();
    labels.insert("berth.task".to_owned(), task.name());
    labels.insert("berth.service".to_owned(), task.service_name.to_string());
    labels
}

/// The rendered files, read-write as in Docker, except where the person mounts something there.
fn network_mounts(files: NetworkFiles, mounts: &[Mount]) -> Vec<Mount> {
    let rendered =
        [("/etc/hosts", files.hosts), ("/etc/hostname", files.hostname), ("/etc/resolv.conf", files.resolv_conf)];
    let taken = |target: &str| mounts.iter().any(|mount| mount.target() == target);
    let wanted = rendered.into_iter().filter_map(|(target, source)| Some((target, source?)));
    wanted.filter(|(target, _)| !taken(target)).map(|(target, source)| Mount::bind(source, target)).collect()
}

/// mount(2) propagation in the runtime's words.
pub(crate) fn propagation(wanted: Propagation) -> runtime::Propagation {
    match wanted {
        Propagation::Private => runtime::Propagation::Private,
        Propagation::Rprivate => runtime::Propagation::Rprivate,
        Propagation::Shared => runtime::Propagation::Shared,
        Propagation::Rshared => runtime::Propagation::Rshared,
        Propagation::Slave => runtime::Propagation::Slave,
        Propagation::Rslave => runtime::Propagation::Rslave,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;

    fn inputs<'a>(task: &'a Task, spec: &'a ServiceSpec) -> Inputs<'a> {
        let process = Process {
            args: vec!["sh".into()],
            env: vec!["A=1".into()],
            cwd: "/".into(),
            user: "1000".into(),
            hostname: "h".into(),
            stop_signal: 15,
        };
        let files = NetworkFiles { hosts: Some("/n/hosts".into()), ..NetworkFiles::default() };
        Inputs { task, spec, process, mounts: Vec::new(), network: NetworkMode::None, files }
    }

    #[test]
    fn limits_ulimits_and_namespaces_arrive() {
        let (task, mut spec) = (testing::task(), testing::service());
        spec.task.resources.limits.memory = Some(64 << 20);
        spec.task.resources.limits.pids = Some(32);
        spec.task.resources.reservations.memory = 16 << 20;
        spec.task.container.ulimits.insert("nofile".into(), Ulimit { soft: 10, hard: -1 });
        spec.task.container.pid_mode = NamespaceMode::Host;
        let config = build(inputs(&task, &spec)).unwrap();
        assert_eq!(config.resources.memory, Some(64 << 20));
        assert_eq!(config.resources.memory_reservation, Some(16 << 20));
        assert_eq!((config.resources.pids_limit, config.host_pid, config.host_ipc), (Some(32), true, false));
        assert_eq!(config.rlimits, [Rlimit { name: "nofile".into(), soft: 10, hard: u64::MAX }]);
        assert_eq!(config.annotations["berth.task"], task.name());
        assert_eq!(config.mounts, [Mount::bind("/n/hosts", "/etc/hosts")]);
    }

    #[test]
    fn a_persons_mount_wins_over_a_rendered_file() {
        let (task, spec) = (testing::task(), testing::service());
        let mut inputs = inputs(&task, &spec);
        inputs.mounts = vec![Mount::bind("/mine", "/etc/hosts")];
        assert_eq!(build(inputs).unwrap().mounts, [Mount::bind("/mine", "/etc/hosts")]);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let (task, mut spec) = (testing::task(), testing::service());
        spec.task.container.uts_mode = NamespaceMode::Host;
        spec.task.container.cgroupns_mode = NamespaceMode::Host;
        spec.task.resources.reservations.devices.push(Default::default());
        spec.task.log.driver = "syslog".into();
        let errors = build(inputs(&task, &spec)).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["uts", "cgroup", "deploy.resources.reservations.devices", "logging.driver"]);
        assert!(super::super::explain(&errors).contains("; cgroup: "));
    }
}
