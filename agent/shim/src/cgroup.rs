//! A container's control groups, on cgroup v1, v2 or a hybrid of both.
//!
//! Owns finding the hierarchies, reading counters, killing and removing. Creating them and setting
//! limits is libcontainer's work. Must never touch a group that is not under the path it was given.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount point of the hierarchy whose controllers are in use on v2; `None` on v1 and hybrid.
    pub unified: Option<PathBuf>,
    /// v1: controllers (or `name=...`) and mount point.
    pub v1: Vec<(Vec<String>, PathBuf)>,
}

impl Hierarchies {
    /// Reads this process's mount table.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// From the text of `/proc/<pid>/mountinfo`, proc(5).
    pub fn parse(mountinfo: &str) -> Self {
        let mut v1: Vec<(Vec<String>, PathBuf)> = Vec::new();
        let mut unified = None;
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let mut left = left.split(' ');
            let (Some("/"), Some(mount_point)) = (left.nth(3), left.next()) else { continue };
            let mut right = right.split(' ');
            let kind = right.next();
            let options = right.nth(1).unwrap_or("");
            match kind {
                Some("cgroup2") if unified.is_none() => unified = Some(PathBuf::from(mount_point)),
                Some("cgroup") => {
                    let controllers: Vec<String> = options
                        .split(',')
                        .filter(|option| {
                            !matches!(*option, "rw" | "ro" | "xattr" | "clone_children" | "noprefix" | "favordynmods")
                                && !option.starts_with("release_agent")
                        })
                        .map(str::to_owned)
                        .collect();
                    if !v1.iter().any(|(known, _)| *known == controllers) {
                        v1.push((controllers, mount_point.into()));
                    }
                }
                _ => {}
            }
        }
        // With any real controller on v1 the v2 hierarchy of a hybrid has none.
        if v1.iter().any(|(controllers, _)| controllers.iter().any(|name| !name.starts_with("name="))) {
            unified = None;
        }
        Self { unified, v1 }
    }

    /// Where the group `path` (absolute, `/berth/x`) lies for a controller.
    pub fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        let mount = match &self.unified {
            Some(unified) => unified,
            None => &self.v1.iter().find(|(names, _)| names.iter().any(|name| name == controller))?.1,
        };
        Some(mount.join(path.trim_start_matches('/')))
    }

    /// The group `path` in every hierarchy, whether it exists there or not.
    pub fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        match &self.unified {
            Some(unified) => vec![unified.join(relative)],
            None => self.v1.iter().map(|(_, mount)| mount.join(relative)).collect(),
        }
    }

    /// How often the kernel killed in this group for want of memory.
    pub fn oom_kills(&self, path: &str) -> u64 {
        let file = if self.unified.is_some() { "memory.events" } else { "memory.oom_control" };
        self.dir("memory", path)
            .and_then(|dir| fs::read_to_string(dir.join(file)).ok())
            .and_then(|text| keyed(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// Kills every process in the group. Returns how many were seen; 0 means it is empty.
    pub fn kill(&self, path: &str) -> io::Result<usize> {
        let mut seen = 0;
        for dir in self.dirs(path) {
            if fs::write(dir.join("cgroup.kill"), "1").is_ok() {
                // v2 does it at once, forks included; what is left is counted below.
            }
            let pids = match fs::read_to_string(dir.join("cgroup.procs")) {
                Ok(pids) => pids,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // The group vanished between opening and reading.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(error),
            };
            for pid in pids.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0) {
                seen += 1;
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        Ok(seen)
    }

    /// Removes the group everywhere. A process that has just died keeps its group busy for a moment: waits up to
    /// `patience`. The parent stays: somebody may be making another group in it.
    pub fn remove(&self, path: &str, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        let mut result = Ok(());
        for dir in self.dirs(path) {
            if let Err(error) = remove_tree(&dir, deadline) {
                result = Err(io::Error::new(error.kind(), format!("{}: {error}", dir.display())));
            }
        }
        result
    }

    /// Removes the empty group `path` itself where it exists; one that is in use stays.
    pub fn remove_if_empty(&self, path: &str) {
        for dir in self.dirs(path) {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The number after `key` in a file of `key number` lines.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| value.trim().parse().ok())?
    })
}

/// Removes a group and those below it: a container may have made its own.
fn remove_tree(dir: &Path, deadline: Instant) -> io::Result<()> {
    loop {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                if let Ok(entries) = fs::read_dir(dir) {
                    for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                        remove_tree(&entry.path(), deadline)?;
                    }
                }
                if Instant::now() > deadline {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HYBRID: &str = "\
25 20 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:23 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
30 25 0:24 /berth/x /somewhere rw,relatime - cgroup cgroup rw,memory";

    #[test]
    fn hybrid_uses_v1_controllers_and_ignores_bind_mounts_of_groups() {
        let found = Hierarchies::parse(HYBRID);
        assert_eq!(found.unified, None);
        assert_eq!(found.v1.len(), 3);
        assert_eq!(found.dir("memory", "/berth/x"), Some("/sys/fs/cgroup/memory/berth/x".into()));
        assert_eq!(found.dir("pids", "/berth/x"), None);
        assert!(found.dirs("/berth/x").contains(&"/sys/fs/cgroup/systemd/berth/x".into()));
    }

    #[test]
    fn unified_is_one_directory_for_all() {
        let found = Hierarchies::parse("26 25 0:23 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate");
        assert_eq!(found.dir("pids", "/berth/x"), Some("/sys/fs/cgroup/berth/x".into()));
        assert_eq!(found.dirs("/berth/x").len(), 1);
    }

    #[test]
    fn counters_are_read_by_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed(text, "oom"), None);
    }
}
