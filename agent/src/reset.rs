//! Taking back all that an agent left on its machine: containers, networks, mounts, control groups, records and data.
//!
//! Owns the order: processes first, then what they used, then the directory, which is not touched while anything is still
//! mounted in it. For a machine whose daemon does not run; the caller sees to that. Doing it again finds nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_netoverlay::{Purged, purge, unmount_below};
use berth_shim::cgroup::Hierarchies;
use berth_tunnel::TunnelError;
use rustix::process::{Pid, Signal, kill_process};

use crate::agent::AgentConfig;
use crate::runtime::{Phase, Runtime, RuntimeError, ShimRuntime, ShimRuntimeOptions};
use crate::secure;

/// How long a control group may stay busy after the end of its processes.
const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

/// What is there to be taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Containers that run.
    pub running: usize,
    /// Volumes with their data.
    pub volumes: usize,
}

/// What was taken back.
#[derive(Debug, Default)]
pub struct Taken {
    /// Ids of containers, ended ones included.
    pub containers: Vec<String>,
    /// Packet filter tables, links, namespaces, mounts.
    pub network: Purged,
    /// Encrypted links.
    pub links: Vec<String>,
    /// Control groups.
    pub cgroups: Vec<PathBuf>,
    /// The agent's directory, if there was one.
    pub directory: Option<PathBuf>,
}

/// Why something stays.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// A container.
    #[error("cannot end a container")]
    Container(#[from] RuntimeError),
    /// A control group.
    #[error("cannot remove the control groups under {parent}")]
    Cgroup {
        /// Their parent.
        parent: String,
        /// Cause.
        source: io::Error,
    },
    /// Encrypted links.
    #[error("cannot take away the encrypted links")]
    Links(#[from] TunnelError),
    /// Network or mounts; the data is left alone, because something of others may still be mounted in it.
    #[error("cannot take back everything in the kernel, so the data stays: {}", .0.join("; "))]
    Kernel(Vec<String>),
    /// A file or directory.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// Verb.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// Looks at what a reset would take, for a question. Blocks on the file system briefly.
///
/// # Errors
/// [`ResetError`] when the directory cannot be read.
pub async fn survey(config: &AgentConfig) -> Result<Leftovers, ResetError> {
    let mut running = 0;
    if let Some(runtime) = runtime(config)? {
        running = runtime.list().await?.iter().filter(|state| !matches!(state.phase, Phase::Exited(_))).count();
    }
    Ok(Leftovers { running, volumes: names_in(&config.data_dir.join("volumes"))?.len() })
}

/// Takes everything back. Needs root.
///
/// # Errors
/// The first thing that cannot be taken back; what was done before stays done, and it may be tried again.
pub async fn reset(config: &AgentConfig) -> Result<Taken, ResetError> {
    let mut taken = Taken::default();
    let tasks = config.data_dir.join("tasks");
    if let Some(runtime) = runtime(config)? {
        for id in names_in(&tasks)? {
            runtime.purge(&id).await?;
            taken.containers.push(id);
        }
    }
    end_supervisors(&tasks);
    taken.cgroups = remove_cgroups(&config.cgroup_parent)?;
    taken.links = secure::remove(&config.secure, &config.network.instance)?;
    taken.network = purge(&config.network);
    unmount_below(&config.data_dir, &mut taken.network);
    if !taken.network.failures.is_empty() {
        let failures = taken.network.failures.iter().map(|failure| crate::errors::chain(failure));
        return Err(ResetError::Kernel(failures.collect()));
    }
    // The directory that the namespaces' one was in; the daemon's socket may share it.
    if let Some(parent) = config.network.netns_dir.parent() {
        let _ = fs::remove_dir(parent);
    }
    match fs::remove_dir_all(&config.data_dir) {
        Ok(()) => taken.directory = Some(config.data_dir.clone()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ResetError::Io { what: "remove", path: config.data_dir.clone(), source }),
    }
    Ok(taken)
}

/// The runtime of a directory that has tasks.
fn runtime(config: &AgentConfig) -> Result<Option<ShimRuntime>, ResetError> {
    if !config.data_dir.join("tasks").exists() {
        return Ok(None);
    }
    let under = ShimRuntimeOptions::under(&config.data_dir);
    let options = ShimRuntimeOptions { cgroup_parent: config.cgroup_parent.clone(), ..under };
    Ok(Some(ShimRuntime::new(options)?))
}

/// Ends supervisors that their own directory does not know of any more: somebody removed files by hand.
fn end_supervisors(tasks: &Path) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        let is_supervisor = words.next() == Some(b"supervise");
        let task = words.next().map(|word| Path::new(std::ffi::OsStr::from_bytes(word)));
        if is_supervisor && task.is_some_and(|task| task.starts_with(tasks)) {
            // One that has ended meanwhile is what is wanted.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Kills what is in the groups below `parent` and removes them and it.
fn remove_cgroups(parent: &str) -> Result<Vec<PathBuf>, ResetError> {
    let failed = |source| ResetError::Cgroup { parent: parent.to_owned(), source };
    let hierarchies = Hierarchies::detect().map_err(failed)?;
    let there: Vec<PathBuf> = hierarchies.dirs(parent).into_iter().filter(|dir| dir.exists()).collect();
    let directories = there.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    let groups = directories.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names: BTreeSet<String> = groups.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    for name in names {
        let group = format!("{parent}/{name}");
        hierarchies.kill(&group).map_err(failed)?;
        hierarchies.remove(&group, CGROUP_PATIENCE).map_err(failed)?;
    }
    hierarchies.kill(parent).map_err(failed)?;
    hierarchies.remove(parent, CGROUP_PATIENCE).map_err(failed)?;
    Ok(there)
}

/// Names of what is in a directory; nothing where there is none.
fn names_in(directory: &Path) -> Result<Vec<String>, ResetError> {
    let failed = |source| ResetError::Io { what: "read", path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
        Ok(entries) => {
            let entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
    }
}
