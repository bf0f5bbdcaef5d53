//! Everything a shim needs on disk before it is started, and what is removed when it is gone.
//!
//! Blocking: callers run it off the async threads. Owns the task directory's contents except the log and
//! the exit record, which are the shim's.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_shim::cgroup::Hierarchies;
use berth_shim::config::{CopyUp, LogSettings, ShimConfig, TaskDir};

use super::config::{ContainerConfig, Mount, NetworkMode, SeccompProfile};
use super::seccomp::Filters;
use super::spec::{self, OwnFiles};
use super::{Layers, RuntimeError, connection, host};

/// Where everything common to all containers lies.
#[derive(Debug, Clone)]
pub(super) struct Common {
    pub shim: PathBuf,
    pub seccomp_dir: PathBuf,
    pub cgroup_parent: String,
    pub hierarchies: Hierarchies,
    /// Filters that are compiled already.
    pub filters: Arc<Filters>,
}

/// A bundle that is ready for its shim.
pub(super) struct Prepared {
    pub listener: UnixListener,
    pub log: fs::File,
    pub warnings: Vec<String>,
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> RuntimeError + use<> {
    let path = path.to_owned();
    move |source| RuntimeError::Io { path: path.clone(), source }
}

/// Writes the bundle and binds the shim's socket.
pub(super) fn prepare(
    common: &Common,
    task: &TaskDir,
    id: &str,
    config: &ContainerConfig,
    layers: &Layers,
) -> Result<Prepared, RuntimeError> {
    let invalid = |field: &'static str, reason: String| RuntimeError::Invalid { id: id.into(), field, reason };
    if layers.lower.is_empty() {
        return Err(invalid("layers", "an image has at least one layer".into()));
    }
    if let Some(source) = missing_source(config) {
        return Err(invalid("mounts", format!("bind source path does not exist: {}", source.display())));
    }
    if let NetworkMode::Path(path) = &config.network
        && !path.exists()
    {
        return Err(invalid("network", format!("network namespace {} does not exist", path.display())));
    }
    let devices = host::devices(config).map_err(|error| invalid("devices", error.to_string()))?;
    let cgroup = format!("{}/{id}", common.cgroup_parent);
    let facts = host::look(&common.hierarchies, &cgroup, task);
    let files = OwnFiles {
        hosts: task.etc("hosts"),
        hostname: task.etc("hostname"),
        resolv_conf: task.etc("resolv.conf"),
        init: common.shim.clone(),
    };
    let mut config = config.clone();
    if config.hostname.is_empty() {
        config.hostname = id.chars().take(12).collect();
    }
    let plan = spec::plan(&config, &cgroup, &facts, &devices, &files)
        .map_err(|refusal| invalid(refusal.field, refusal.reason))?;
    let profile = if config.privileged { &SeccompProfile::Unconfined } else { &config.seccomp };
    let seccomp = common
        .filters
        .get(profile, plan.capabilities, &common.seccomp_dir, &common.shim)
        .map_err(|error| invalid("seccomp", error.to_string()))?;

    if task.config().exists() {
        return Err(RuntimeError::Exists(id.into()));
    }
    let mut private = fs::DirBuilder::new();
    private.recursive(true).mode(0o700);
    for dir in [task.path().to_owned(), task.bundle(), task.path().join("etc")] {
        private.create(&dir).map_err(io_error(&dir))?;
    }
    write_etc(&config, &files)?;
    let shim = ShimConfig {
        id: id.into(),
        lower: layers.lower.clone(),
        cgroup,
        user: config.user.clone(),
        group_add: config.group_add.clone(),
        tty: config.tty,
        stdin: config.stdin_open,
        capabilities: plan.capabilities,
        seccomp,
        oom_score_adj: plan.oom_score_adj,
        log: (!config.log.disabled)
            .then_some(LogSettings { max_size: config.log.max_size, max_file: config.log.max_file }),
        copy_up: copy_ups(&config),
        spec: plan.spec,
    };
    let text = serde_json::to_vec(&shim).map_err(|error| io_error(&task.config())(error.into()))?;
    let _ = fs::remove_file(task.socket());
    let _ = fs::remove_file(task.exit());
    let log = fs::File::create(task.shim_log()).map_err(io_error(&task.shim_log()))?;
    let listener = connection::listen(&task.socket()).map_err(io_error(&task.socket()))?;
    // Last: a directory with this file is a container.
    fs::write(task.config(), text).map_err(io_error(&task.config()))?;
    Ok(Prepared { listener, log, warnings: plan.warnings })
}

/// The first bind mount's source that is not there.
fn missing_source(config: &ContainerConfig) -> Option<&Path> {
    config.mounts.iter().find_map(|mount| match mount {
        Mount::Bind { source, .. } if !source.exists() => Some(source.as_path()),
        _ => None,
    })
}

fn copy_ups(config: &ContainerConfig) -> Vec<CopyUp> {
    config
        .mounts
        .iter()
        .filter_map(|mount| match mount {
            Mount::Bind { source, target, copy_up: true, .. } => {
                Some(CopyUp { image_path: target.clone(), volume: source.clone() })
            }
            _ => None,
        })
        .collect()
}

fn write_etc(config: &ContainerConfig, files: &OwnFiles) -> Result<(), RuntimeError> {
    let write = |path: &Path, text: String| fs::write(path, text).map_err(io_error(path));
    write(&files.hosts, hosts(config))?;
    write(&files.hostname, format!("{}\n", config.hostname))?;
    write(&files.resolv_conf, resolv_conf(config))
}

/// `/etc/hosts`: the loopback names, then the given ones.
fn hosts(config: &ContainerConfig) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in &config.hosts {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}\t{}", entry.ip, entry.names.join(" "));
    }
    text
}

fn resolv_conf(config: &ContainerConfig) -> String {
    let Some(dns) = &config.dns else {
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    };
    let mut text = String::new();
    let join = |list: &[String]| list.join(" ");
    for server in &dns.nameservers {
        let _ = writeln!(text, "nameserver {}", IpAddr::to_string(server));
    }
    if !dns.search.is_empty() {
        let _ = writeln!(text, "search {}", join(&dns.search));
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", join(&dns.options));
    }
    text
}

/// Removes what only a living container needs; log and exit record stay. May be repeated.
pub(super) fn clean(common: &Common, task: &TaskDir, id: &str) -> Result<(), RuntimeError> {
    let cgroup = format!("{}/{id}", common.cgroup_parent);
    let patience = std::time::Duration::from_secs(5);
    common.hierarchies.remove(&cgroup, patience).map_err(io_error(Path::new(&cgroup)))?;
    for dir in [task.bundle(), task.rw(), task.path().join("etc")] {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&dir)(error)),
            _ => {}
        }
    }
    let shim_log = task.shim_log();
    let mut files = vec![task.socket(), task.config()];
    if fs::metadata(&shim_log).is_ok_and(|metadata| metadata.len() == 0) {
        files.insert(0, shim_log);
    }
    for file in files {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&file)(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::config::{DnsConfig, HostEntry};
    use super::*;

    #[test]
    fn hosts_and_resolver_files_hold_what_was_given() {
        let mut config = ContainerConfig::new(["x"]);
        config.hosts = vec![HostEntry { ip: "10.0.0.2".parse().unwrap(), names: vec!["db".into(), "db1".into()] }];
        assert!(hosts(&config).ends_with("10.0.0.2\tdb db1\n"));
        config.dns = Some(DnsConfig {
            nameservers: vec!["127.0.0.11".parse().unwrap()],
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:0".into()],
        });
        assert_eq!(resolv_conf(&config), "nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n");
    }
}
