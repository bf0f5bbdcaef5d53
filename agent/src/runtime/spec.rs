//! From [`ContainerConfig`] and what the machine offers to an OCI runtime specification.
//!
//! Pure: the same inputs give the same spec. Owns the defaults (mounts, masked paths, devices, sysctls) and what
//! is refused; the machine's facts come in as [`Host`], gathered by `host.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use berth_shim::caps;
use serde_json::{Value, json};

use super::config::{ContainerConfig, Mount, NetworkMode, Propagation, Resources};

/// What this machine and this process can give a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Host {
    /// Capabilities the daemon may hand on.
    pub bounding: u64,
    /// Whether hard limits may be raised (`CAP_SYS_RESOURCE`).
    pub may_raise_limits: bool,
    /// Hard limit of the daemon by OCI name.
    pub hard_limits: BTreeMap<&'static str, u64>,
    /// Controllers of the v2 hierarchy rule here.
    pub unified: bool,
    /// The kernel counts swap.
    pub swap_accounting: bool,
    /// Where the host's own IPC objects show: `/dev/shm`, `/dev/mqueue`, as far as they are there.
    pub ipc_dirs: Vec<&'static str>,
    /// v1 hierarchies to show inside: controller and directory of the container's group.
    pub cgroup_views: Vec<(String, PathBuf)>,
}

/// A device node as found on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceNode {
    pub path: String,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub permissions: String,
}

/// Files the runtime makes for the container and binds into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OwnFiles {
    pub hosts: PathBuf,
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
    /// The shim's binary, for `init`.
    pub init: PathBuf,
}

/// A container's spec and what was not granted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub spec: Value,
    pub capabilities: u64,
    pub oom_score_adj: Option<i32>,
    pub warnings: Vec<String>,
}

/// A field that asks for something impossible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub field: &'static str,
    pub reason: String,
}

type Result<T> = std::result::Result<T, Refusal>;

fn refuse<T>(field: &'static str, reason: impl Into<String>) -> Result<T> {
    Err(Refusal { field, reason: reason.into() })
}

const DEFAULT_SHM: u64 = 64 << 20;
const CPU_PERIOD: u64 = 100_000;
const MIN_CPU_QUOTA: u64 = 1_000;

/// Hidden from unprivileged containers, as Docker does.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Limits by their Compose name and their OCI name.
pub(super) const RLIMITS: [(&str, &str); 16] = [
    ("as", "RLIMIT_AS"),
    ("core", "RLIMIT_CORE"),
    ("cpu", "RLIMIT_CPU"),
    ("data", "RLIMIT_DATA"),
    ("fsize", "RLIMIT_FSIZE"),
    ("locks", "RLIMIT_LOCKS"),
    ("memlock", "RLIMIT_MEMLOCK"),
    ("msgqueue", "RLIMIT_MSGQUEUE"),
    ("nice", "RLIMIT_NICE"),
    ("nofile", "RLIMIT_NOFILE"),
    ("nproc", "RLIMIT_NPROC"),
    ("rss", "RLIMIT_RSS"),
    ("rtprio", "RLIMIT_RTPRIO"),
    ("rttime", "RLIMIT_RTTIME"),
    ("sigpending", "RLIMIT_SIGPENDING"),
    ("stack", "RLIMIT_STACK"),
];

/// Builds the spec. `devices` are those of the config, resolved.
pub(super) fn plan(
    config: &ContainerConfig,
    cgroup: &str,
    host: &Host,
    devices: &[DeviceNode],
    files: &OwnFiles,
) -> Result<Plan> {
    check(config)?;
    let mut warnings = Vec::new();
    let capabilities = capabilities(config, host.bounding, &mut warnings)?;
    let oom_score_adj = oom_score_adj(config, host, &mut warnings)?;
    let rlimits = rlimits(config, host, &mut warnings)?;
    let mut args = config.args.clone();
    if config.init {
        args.splice(0..0, ["/dev/init", "init", "--"].map(str::to_owned));
    }
    let mut environment = config.env.clone();
    if config.tty {
        environment.insert(0, "TERM=xterm".into());
    }
    if !config.hostname.is_empty() {
        environment.insert(0, format!("HOSTNAME={}", config.hostname));
    }
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": config.tty,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": environment,
            "cwd": if config.cwd.is_empty() { "/" } else { &config.cwd },
            "rlimits": rlimits,
            "noNewPrivileges": config.no_new_privileges,
        },
        "root": { "path": "rootfs", "readonly": config.read_only },
        "hostname": config.hostname,
        "mounts": mounts(config, host, files),
        "annotations": config.annotations,
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": namespaces(config),
            "resources": resources(config, host, devices, &mut warnings)?,
            "devices": devices.iter().map(device).collect::<Vec<_>>(),
            "sysctl": sysctls(config)?,
            "rootfsPropagation": rootfs_propagation(config),
        },
    });
    if let Some(name) = &config.domainname {
        spec["domainname"] = json!(name);
    }
    if !config.privileged {
        spec["linux"]["maskedPaths"] = json!(MASKED);
        // The directory over the v1 groups is a tmpfs that has to be writable while they are mounted.
        let cgroups = (!host.unified).then_some("/sys/fs/cgroup");
        spec["linux"]["readonlyPaths"] = READ_ONLY.into_iter().chain(cgroups).collect();
    }
    Ok(Plan { spec, capabilities, oom_score_adj, warnings })
}

fn check(config: &ContainerConfig) -> Result<()> {
    if config.args.first().is_none_or(String::is_empty) {
        return refuse("args", "no command specified");
    }
    if !config.cwd.is_empty() && !config.cwd.starts_with('/') {
        return refuse("cwd", format!("{} is not an absolute path", config.cwd));
    }
    if let Some(entry) = config.env.iter().find(|entry| !entry.contains('=') || entry.starts_with('=')) {
        return refuse("env", format!("{entry:?} is not KEY=VALUE"));
    }
    let texts = config.args.iter().chain(&config.env).chain([&config.cwd, &config.user, &config.hostname]);
    if let Some(text) = texts.into_iter().find(|text| text.contains('\0')) {
        return refuse("args", format!("{text:?} has a NUL byte inside"));
    }
    for mount in &config.mounts {
        let target = mount.target();
        if !target.starts_with('/') || target.split('/').any(|part| part == "..") {
            return refuse("mounts", format!("target {target:?} must be absolute, without .."));
        }
        if target.trim_end_matches('/').is_empty() {
            return refuse("mounts", "nothing can be mounted over the root itself");
        }
    }
    Ok(())
}

/// Docker's arithmetic: `ALL` on either side first, then names, then what this daemon has to give.
fn capabilities(config: &ContainerConfig, bounding: u64, warnings: &mut Vec<String>) -> Result<u64> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL");
    let bits = |field, names: &[String]| -> Result<u64> {
        let named = names.iter().filter(|name| !is_all(name)).map(String::as_str);
        caps::bits(named).or_else(|name| refuse(field, format!("there is no capability {name}")))
    };
    let add = bits("cap_add", &config.cap_add)?;
    let drop = bits("cap_drop", &config.cap_drop)?;
    let default = caps::bits(caps::DEFAULT).or_else(|name| refuse("cap_add", name))?;
    let add_all = config.cap_add.iter().any(is_all) || config.privileged;
    let drop_all = config.cap_drop.iter().any(is_all);
    let wanted = match (add_all, drop_all) {
        (true, _) => caps::ALL & !drop,
        (false, true) => add,
        (false, false) => (default & !drop) | add,
    };
    let missing: Vec<_> = caps::names(wanted & !bounding).collect();
    if !missing.is_empty() {
        warnings.push(format!("capabilities the daemon itself lacks are not granted: {}", missing.join(", ")));
    }
    Ok(wanted & bounding)
}

fn oom_score_adj(config: &ContainerConfig, host: &Host, warnings: &mut Vec<String>) -> Result<Option<i32>> {
    match config.oom_score_adj {
        Some(value) if !(-1000..=1000).contains(&value) => {
            refuse("oom_score_adj", format!("{value} is not within -1000..=1000"))
        }
        Some(value) if value < 0 && !host.may_raise_limits => {
            warnings.push(format!("oom_score_adj {value}: lowering it needs CAP_SYS_RESOURCE, which the daemon lacks"));
            Ok(None)
        }
        other => Ok(other),
    }
}

fn rlimits(config: &ContainerConfig, host: &Host, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    let mut limits = Vec::new();
    for wanted in &config.rlimits {
        let name = wanted.name.to_ascii_lowercase();
        let Some((_, oci)) = RLIMITS.iter().find(|(known, _)| *known == name) else {
            return refuse("rlimits", format!("there is no limit {:?}", wanted.name));
        };
        if wanted.soft > wanted.hard {
            return refuse("rlimits", format!("{name}: soft {} is over hard {}", wanted.soft, wanted.hard));
        }
        let own = host.hard_limits.get(oci).copied().unwrap_or(u64::MAX);
        let hard = if host.may_raise_limits { wanted.hard } else { wanted.hard.min(own) };
        if hard < wanted.hard {
            warnings.push(format!("ulimit {name}: the daemon's own hard limit of {own} is used"));
        }
        limits.push(json!({ "type": oci, "soft": wanted.soft.min(hard), "hard": hard }));
    }
    // Loading the device filter of v2, libcgroups lifts this one, and the container would inherit that.
    const MEMLOCK: &str = "RLIMIT_MEMLOCK";
    if host.unified && !limits.iter().any(|limit| limit["type"] == MEMLOCK) {
        let own = host.hard_limits.get(MEMLOCK).copied().unwrap_or(8 << 20);
        limits.push(json!({ "type": MEMLOCK, "soft": own, "hard": own }));
    }
    Ok(limits)
}

fn namespaces(config: &ContainerConfig) -> Vec<Value> {
    let mut list = vec![json!({ "type": "mount" }), json!({ "type": "uts" }), json!({ "type": "cgroup" })];
    if !config.host_pid {
        list.push(json!({ "type": "pid" }));
    }
    if !config.host_ipc {
        list.push(json!({ "type": "ipc" }));
    }
    match &config.network {
        NetworkMode::None => list.push(json!({ "type": "network" })),
        NetworkMode::Path(path) => list.push(json!({ "type": "network", "path": path })),
        NetworkMode::Host => {}
    }
    list
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

fn mounts(config: &ContainerConfig, host: &Host, files: &OwnFiles) -> Vec<Value> {
    let shm = format!("size={}", config.shm_size.unwrap_or(DEFAULT_SHM));
    let read_only = if config.privileged { "rw" } else { "ro" };
    let mut list = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", read_only]),
    ];
    if config.host_ipc {
        list.extend(host.ipc_dirs.iter().map(|dir| mount(dir, "bind", dir, &["rbind", "rprivate"])));
    } else {
        list.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &shm]));
        list.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    list.extend(cgroup_mounts(host, read_only));
    let access = if config.read_only { "ro" } else { "rw" };
    for (target, source) in
        [("/etc/hosts", &files.hosts), ("/etc/hostname", &files.hostname), ("/etc/resolv.conf", &files.resolv_conf)]
    {
        list.push(mount(target, "bind", &source.display().to_string(), &["bind", "rprivate", access]));
    }
    let taken: Vec<&str> = config.mounts.iter().map(|mount| mount.target().trim_end_matches('/')).collect();
    list.retain(|entry| !taken.iter().any(|target| entry["destination"] == *target));
    if config.init {
        let init = files.init.display().to_string();
        list.push(mount("/dev/init", "bind", &init, &["bind", "rprivate", "ro", "nosuid", "nodev"]));
    }
    // What lies deeper comes later, or it would be covered; otherwise as given.
    let mut own: Vec<&Mount> = config.mounts.iter().collect();
    own.sort_by_key(|mount| mount.target().trim_end_matches('/').matches('/').count());
    list.extend(own.into_iter().map(own_mount));
    list
}

/// On v1 the groups are bound one by one and read-only: libcontainer's own `cgroup` mount leaves them writable,
/// and root inside could lift its limits.
fn cgroup_mounts(host: &Host, read_only: &str) -> Vec<Value> {
    let flags = ["nosuid", "noexec", "nodev"];
    if host.unified {
        return vec![mount("/sys/fs/cgroup", "cgroup", "cgroup", &[&flags[..], &["relatime", read_only]].concat())];
    }
    let mut list = vec![mount("/sys/fs/cgroup", "tmpfs", "tmpfs", &[&flags[..], &["mode=755", "size=64k"]].concat())];
    for (controller, dir) in &host.cgroup_views {
        let target = format!("/sys/fs/cgroup/{controller}");
        let options = [&flags[..], &["bind", "rprivate", read_only]].concat();
        list.push(mount(&target, "bind", &dir.display().to_string(), &options));
    }
    list
}

fn own_mount(wanted: &Mount) -> Value {
    match wanted {
        Mount::Bind { source, target, read_only, propagation, recursive, .. } => {
            let mut options = vec![if *recursive { "rbind" } else { "bind" }, propagation_name(*propagation)];
            match (read_only, recursive) {
                (true, true) => options.extend(["ro", "rro"]),
                (true, false) => options.push("ro"),
                (false, _) => options.push("rw"),
            }
            mount(target, "bind", &source.display().to_string(), &options)
        }
        Mount::Tmpfs { target, size, mode, options } => {
            let mut list: Vec<String> = ["noexec", "nosuid", "nodev"]
                .into_iter()
                .filter(|flag| !options.iter().any(|option| Some(option.as_str()) == flag.strip_prefix("no")))
                .map(str::to_owned)
                .collect();
            list.extend(size.map(|size| format!("size={size}")));
            list.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
            list.extend(options.iter().filter(|option| !list.contains(option)).cloned().collect::<Vec<_>>());
            json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": list })
        }
    }
}

fn propagation_name(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Rprivate => "rprivate",
        Propagation::Shared => "shared",
        Propagation::Rshared => "rshared",
        Propagation::Slave => "slave",
        Propagation::Rslave => "rslave",
    }
}

/// Mounts can travel only as far as the root lets them.
fn rootfs_propagation(config: &ContainerConfig) -> &'static str {
    let has = |kinds: [Propagation; 2]| {
        config
            .mounts
            .iter()
            .any(|mount| matches!(mount, Mount::Bind { propagation, .. } if kinds.contains(propagation)))
    };
    if has([Propagation::Shared, Propagation::Rshared]) {
        "shared"
    } else if has([Propagation::Slave, Propagation::Rslave]) {
        "slave"
    } else {
        "private"
    }
}

fn device(node: &DeviceNode) -> Value {
    json!({
        "path": node.path,
        "type": if node.block { "b" } else { "c" },
        "major": node.major,
        "minor": node.minor,
        "fileMode": node.mode & 0o7777,
        "uid": node.uid,
        "gid": node.gid,
    })
}

fn device_rules(config: &ContainerConfig, devices: &[DeviceNode]) -> Result<Vec<Value>> {
    if config.privileged {
        return Ok(vec![json!({ "allow": true, "access": "rwm" })]);
    }
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    for node in devices {
        if node.permissions.is_empty() || node.permissions.chars().any(|access| !"rwm".contains(access)) {
            return refuse("devices", format!("{}: permissions {:?} are not of r, w, m", node.path, node.permissions));
        }
        let kind = if node.block { "b" } else { "c" };
        rules.push(json!({
            "allow": true, "type": kind, "major": node.major, "minor": node.minor, "access": node.permissions,
        }));
    }
    for rule in &config.device_cgroup_rules {
        match parse_device_rule(rule) {
            Some(value) => rules.push(value),
            None => return refuse("device_cgroup_rules", format!("{rule:?} is not like \"c 1:3 rwm\"")),
        }
    }
    Ok(rules)
}

fn parse_device_rule(rule: &str) -> Option<Value> {
    let mut parts = rule.split_whitespace();
    let (kind, numbers, access) = (parts.next()?, parts.next()?, parts.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let valid = ["a", "b", "c"].contains(&kind) && access.chars().all(|flag| "rwm".contains(flag));
    let mut value = json!({ "allow": true, "type": kind, "access": access });
    for (key, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            value[key] = json!(number.parse::<i64>().ok()?);
        }
    }
    (valid && parts.next().is_none()).then_some(value)
}

fn resources(
    config: &ContainerConfig,
    host: &Host,
    devices: &[DeviceNode],
    warnings: &mut Vec<String>,
) -> Result<Value> {
    let wanted = &config.resources;
    let mut value = json!({ "devices": device_rules(config, devices)? });
    let (memory, unified) = memory(wanted, host, warnings)?;
    if let Some(memory) = memory {
        value["memory"] = memory;
    }
    if let Some(unified) = unified {
        value["unified"] = unified;
    }
    let mut cpu = serde_json::Map::new();
    if let Some(nano) = wanted.nano_cpus {
        let quota = nano.saturating_mul(CPU_PERIOD) / 1_000_000_000;
        if quota < MIN_CPU_QUOTA {
            return refuse("resources.nano_cpus", "the smallest CPU limit is 0.01");
        }
        cpu.insert("period".into(), json!(CPU_PERIOD));
        cpu.insert("quota".into(), json!(quota));
    }
    if let Some(shares) = wanted.cpu_shares {
        cpu.insert("shares".into(), json!(shares.clamp(2, 262_144)));
    }
    if let Some(cpus) = &wanted.cpuset_cpus {
        cpu.insert("cpus".into(), json!(cpus));
    }
    if let Some(mems) = &wanted.cpuset_mems {
        cpu.insert("mems".into(), json!(mems));
    }
    if !cpu.is_empty() {
        value["cpu"] = cpu.into();
    }
    if let Some(limit) = wanted.pids_limit.filter(|limit| *limit > 0) {
        value["pids"] = json!({ "limit": limit });
    }
    if let Some(weight) = wanted.blkio_weight {
        if !(10..=1000).contains(&weight) {
            return refuse("resources.blkio_weight", format!("{weight} is not within 10..=1000"));
        }
        value["blockIO"] = json!({ "weight": weight });
    }
    Ok(value)
}

/// Memory in OCI's terms, and the v2 files that libcontainer cannot express.
fn memory(wanted: &Resources, host: &Host, warnings: &mut Vec<String>) -> Result<(Option<Value>, Option<Value>)> {
    const SMALLEST: u64 = 6 << 20;
    let mut memory = serde_json::Map::new();
    let mut unified = None;
    if let Some(limit) = wanted.memory {
        if limit < SMALLEST {
            return refuse("resources.memory", "the smallest memory limit is 6 MiB");
        }
        memory.insert("limit".into(), json!(limit));
    }
    if let Some(reservation) = wanted.memory_reservation {
        if wanted.memory.is_some_and(|limit| reservation > limit) {
            return refuse("resources.memory_reservation", "is over the limit");
        }
        memory.insert("reservation".into(), json!(reservation));
    }
    // Docker's default with a limit is as much swap again.
    let swap = wanted.memory_swap.or(wanted.memory.map(|limit| i64::try_from(limit.saturating_mul(2)).unwrap_or(-1)));
    if let (Some(swap), Some(limit)) = (swap, wanted.memory) {
        if swap >= 0 && (swap as u64) < limit {
            return refuse("resources.memory_swap", "memory and swap together are less than memory");
        }
        if !host.swap_accounting {
            if wanted.memory_swap.is_some() {
                warnings.push("memory_swap: this kernel does not count swap; the limit is not set".into());
            }
        } else if host.unified && swap >= 0 && swap as u64 == limit {
            unified = Some(json!({ "memory.swap.max": "0" }));
        } else {
            memory.insert("swap".into(), json!(swap));
        }
    } else if wanted.memory_swap.is_some_and(|swap| swap >= 0) {
        return refuse("resources.memory_swap", "needs a memory limit too");
    }
    Ok(((!memory.is_empty()).then(|| memory.into()), unified))
}

/// Only what belongs to a namespace the container owns; and Docker's two defaults.
fn sysctls(config: &ContainerConfig) -> Result<BTreeMap<String, String>> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm_next_id",
    ];
    let own_network = config.network != NetworkMode::Host;
    let mut all = BTreeMap::new();
    if own_network {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    for (name, value) in &config.sysctls {
        let allowed = if name.starts_with("net.") {
            own_network
        } else {
            !config.host_ipc && (IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue."))
        };
        if !allowed || name.contains('/') || name.contains("..") {
            return refuse("sysctls", format!("{name} does not belong to a namespace of the container's own"));
        }
        all.insert(name.clone(), value.clone());
    }
    Ok(all)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
