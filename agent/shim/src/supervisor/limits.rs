//! Control groups on cgroup v1: made before the container, limits and membership set once it exists.
//!
//! libcgroups reads the mount table once per controller and moves a process twelve times, most of a start; and a
//! move waits for an RCU grace period when it is the first for a while. Here the groups are made first,
//! libcontainer works without any, and the waiting first process is moved at the end, when that wait (which
//! the agent has triggered) is over. Creation is then not slowed by the container's own CPU limit either.
//! On v2 libcontainer does all of this.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_shim::cgroup::Hierarchies;
use libcontainer::oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

/// What a container needs: limits, accounting, device access, and not being in its daemon's unit.
const USED: [&str; 6] = ["cpu", "cpuacct", "memory", "pids", "devices", "blkio"];

/// Devices every container may use, and making nodes of any (which does not open them).
const ALLOWED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// A file of a control group that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("control group {path}: {source}")]
pub struct LimitError {
    path: PathBuf,
    source: io::Error,
}

fn write(path: PathBuf, value: impl ToString) -> Result<(), LimitError> {
    fs::write(&path, value.to_string()).map_err(|source| LimitError { path, source })
}

/// The groups of one container on v1.
pub struct Groups {
    hierarchies: Hierarchies,
    path: String,
    resources: LinuxResources,
}

impl Groups {
    /// Makes the directories.
    pub fn make(hierarchies: &Hierarchies, path: &str, resources: LinuxResources) -> Result<Self, LimitError> {
        let groups = Self { hierarchies: hierarchies.clone(), path: path.into(), resources };
        for dir in groups.dirs() {
            fs::create_dir_all(&dir).map_err(|source| LimitError { path: dir, source })?;
        }
        if let Some(cpu) = groups.cpuset() {
            groups.prepare_cpuset(&cpu)?;
        }
        Ok(groups)
    }

    /// Sets the limits and moves the process in.
    pub fn admit(&self, pid: i32) -> Result<(), LimitError> {
        self.apply_memory()?;
        self.apply_devices()?;
        self.apply_rest()?;
        for dir in self.dirs() {
            write(dir.join("cgroup.procs"), pid)?;
        }
        Ok(())
    }

    fn dirs(&self) -> Vec<PathBuf> {
        let wants_cpuset = self.cpuset().is_some();
        let used = |name: &String| {
            USED.contains(&name.as_str()) || name.starts_with("name=") || (wants_cpuset && name == "cpuset")
        };
        let relative = self.path.trim_start_matches('/');
        let hierarchies = self.hierarchies.v1.iter().filter(|(names, _)| names.iter().any(used));
        hierarchies.map(|(_, mount)| mount.join(relative)).collect()
    }

    fn dir(&self, controller: &str) -> Result<PathBuf, LimitError> {
        self.hierarchies.dir(controller, &self.path).ok_or_else(|| LimitError {
            path: controller.into(),
            source: io::Error::new(io::ErrorKind::NotFound, "this machine has no such controller"),
        })
    }

    fn cpuset(&self) -> Option<LinuxCpu> {
        self.resources.cpu().clone().filter(|cpu| cpu.cpus().is_some() || cpu.mems().is_some())
    }

    /// A new cpuset group is empty and takes nobody: fill it from its parents, then narrow it.
    fn prepare_cpuset(&self, cpu: &LinuxCpu) -> Result<(), LimitError> {
        let dir = self.dir("cpuset")?;
        let root = self.hierarchies.dir("cpuset", "/").unwrap_or_default();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let mut from = fs::read_to_string(root.join(file)).unwrap_or_default();
            let mut here = root.clone();
            for part in dir.strip_prefix(&root).unwrap_or(Path::new("")).components() {
                here.push(part);
                let path = here.join(file);
                let value = fs::read_to_string(&path).unwrap_or_default();
                if value.trim().is_empty() {
                    write(path, from.trim())?;
                } else {
                    from = value;
                }
            }
        }
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(value) = value {
                write(dir.join(file), value)?;
            }
        }
        Ok(())
    }

    fn apply_memory(&self) -> Result<(), LimitError> {
        let Some(memory): &Option<LinuxMemory> = self.resources.memory() else { return Ok(()) };
        let dir = self.dir("memory")?;
        // Memory first: the sum with swap may never be below it.
        for (file, value) in [
            ("memory.limit_in_bytes", memory.limit()),
            ("memory.memsw.limit_in_bytes", memory.swap()),
            ("memory.soft_limit_in_bytes", memory.reservation()),
        ] {
            if let Some(value) = value {
                write(dir.join(file), value)?;
            }
        }
        Ok(())
    }

    fn apply_devices(&self) -> Result<(), LimitError> {
        let dir = self.dir("devices")?;
        let rules = self.resources.devices().iter().flatten();
        for rule in rules.clone() {
            let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
            write(dir.join(file), rule)?;
        }
        if rules.clone().next().is_some_and(|first| !first.allow()) {
            for rule in ALLOWED {
                write(dir.join("devices.allow"), rule)?;
            }
        }
        Ok(())
    }

    fn apply_rest(&self) -> Result<(), LimitError> {
        if let Some(cpu) = self.resources.cpu() {
            let dir = self.dir("cpu")?;
            for (file, value) in [
                ("cpu.shares", cpu.shares().map(|value| value.to_string())),
                ("cpu.cfs_period_us", cpu.period().map(|value| value.to_string())),
                ("cpu.cfs_quota_us", cpu.quota().map(|value| value.to_string())),
            ] {
                if let Some(value) = value {
                    write(dir.join(file), value)?;
                }
            }
        }
        if let Some(pids) = self.resources.pids() {
            write(self.dir("pids")?.join("pids.max"), pids.limit())?;
        }
        if let Some(weight) = self.resources.block_io().as_ref().and_then(|block| block.weight()) {
            let dir = self.dir("blkio")?;
            // Which scheduler the kernel has decides the name.
            write(dir.join("blkio.bfq.weight"), weight).or_else(|_| write(dir.join("blkio.weight"), weight))?;
        }
        Ok(())
    }
}
