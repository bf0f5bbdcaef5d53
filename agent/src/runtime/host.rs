//! What this machine and this process can give a container: gathered once, handed to `spec.rs`.
//!
//! Owns the looking. Decides nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use berth_shim::caps;
use berth_shim::cgroup::Hierarchies;
use berth_shim::config::{TaskDir, VIEWS};
use rustix::process::{Resource, getrlimit};

use super::config::{ContainerConfig, Device};
use super::spec::{DeviceNode, Host};

const LIMITS: [(&str, Resource); 16] = [
    ("RLIMIT_AS", Resource::As),
    ("RLIMIT_CORE", Resource::Core),
    ("RLIMIT_CPU", Resource::Cpu),
    ("RLIMIT_DATA", Resource::Data),
    ("RLIMIT_FSIZE", Resource::Fsize),
    ("RLIMIT_LOCKS", Resource::Locks),
    (MEMLOCK, Resource::Memlock),
    ("RLIMIT_MSGQUEUE", Resource::Msgqueue),
    ("RLIMIT_NICE", Resource::Nice),
    ("RLIMIT_NOFILE", Resource::Nofile),
    ("RLIMIT_NPROC", Resource::Nproc),
    ("RLIMIT_RSS", Resource::Rss),
    ("RLIMIT_RTPRIO", Resource::Rtprio),
    ("RLIMIT_RTTIME", Resource::Rttime),
    ("RLIMIT_SIGPENDING", Resource::Sigpending),
    ("RLIMIT_STACK", Resource::Stack),
];

/// Loading the device filter of v2, libcgroups sets the limit of locked memory to this, up or down, for good.
const FILTER_MEMLOCK: u64 = 128 << 20;
const MEMLOCK: &str = "RLIMIT_MEMLOCK";

/// Why no container can be created on this machine by this process, if so.
pub(super) fn obstacle(hierarchies: &Hierarchies) -> Option<String> {
    let memlock = getrlimit(Resource::Memlock).maximum.unwrap_or(u64::MAX);
    hierarchies.unified.as_ref().and_then(|_| filter_obstacle(may_raise_limits(caps::own_bounding()), memlock))
}

fn filter_obstacle(may_raise_limits: bool, memlock: u64) -> Option<String> {
    (!may_raise_limits && memlock < FILTER_MEMLOCK).then(|| {
        format!(
            "the device filter of cgroup v2 needs {FILTER_MEMLOCK} bytes of locked memory and the daemon may have {memlock}: \
             give it CAP_SYS_RESOURCE, or start it with LimitMEMLOCK=128M (ulimit -l 131072)"
        )
    })
}

fn may_raise_limits(bounding: u64) -> bool {
    bounding & caps::bit("SYS_RESOURCE").unwrap_or(0) != 0
}

/// Facts for a container whose control group is `cgroup`.
pub(super) fn look(hierarchies: &Hierarchies, cgroup: &str, task: &TaskDir) -> Host {
    let bounding = caps::own_bounding();
    let mut hard_limits: BTreeMap<_, _> =
        LIMITS.iter().map(|(name, resource)| (*name, getrlimit(*resource).maximum.unwrap_or(u64::MAX))).collect();
    let unified = hierarchies.unified.is_some();
    let may_raise_limits = may_raise_limits(bounding);
    if unified && !may_raise_limits {
        hard_limits.entry(MEMLOCK).and_modify(|limit| *limit = FILTER_MEMLOCK.min(*limit));
    }
    let swap_accounting = match &hierarchies.unified {
        Some(_) => Path::new("/proc/swaps").exists(),
        None => hierarchies.dir("memory", "/").is_some_and(|dir| dir.join("memory.memsw.limit_in_bytes").exists()),
    };
    let view = |name: &&str| hierarchies.dir(name, cgroup).map(|_| ((*name).to_owned(), task.cgroup_view(name)));
    Host {
        bounding,
        may_raise_limits,
        hard_limits,
        unified,
        swap_accounting,
        ipc_dirs: ["/dev/shm", "/dev/mqueue"].into_iter().filter(|dir| Path::new(dir).is_dir()).collect(),
        cgroup_views: if unified { Vec::new() } else { VIEWS.iter().filter_map(view).collect() },
    }
}

/// The device nodes a config asks for; all of the host's for a privileged one.
pub(super) fn devices(config: &ContainerConfig) -> io::Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    if config.privileged {
        let all = Device { host_path: "/dev".into(), container_path: "/dev".into(), permissions: "rwm".into() };
        expand(&all, &mut nodes)?;
        // The container has its own.
        nodes.retain(|node| !["/dev/ptmx", "/dev/console", "/dev/tty"].contains(&node.path.as_str()));
    }
    for device in &config.devices {
        let before = nodes.len();
        expand(device, &mut nodes).map_err(|error| named(&device.host_path, &error))?;
        if nodes.len() == before {
            let missing = io::Error::new(io::ErrorKind::InvalidInput, "not a device and holds none");
            return Err(named(&device.host_path, &missing));
        }
    }
    Ok(nodes)
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn expand(device: &Device, nodes: &mut Vec<DeviceNode>) -> io::Result<()> {
    let metadata = fs::metadata(&device.host_path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(&device.host_path)? {
            let entry = entry?;
            let name = entry.file_name();
            let skipped = ["pts", "shm", "fd", "mqueue", "hugepages"].iter().any(|other| name == *other);
            if skipped || entry.file_type()?.is_symlink() {
                continue;
            }
            let below = Device {
                host_path: entry.path(),
                container_path: format!("{}/{}", device.container_path.trim_end_matches('/'), name.to_string_lossy()),
                permissions: device.permissions.clone(),
            };
            expand(&below, nodes)?;
        }
        return Ok(());
    }
    let kind = metadata.file_type();
    if kind.is_block_device() || kind.is_char_device() {
        let number = metadata.rdev();
        nodes.push(DeviceNode {
            path: device.container_path.clone(),
            block: kind.is_block_device(),
            major: libc::major(number),
            minor: libc::minor(number),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            permissions: device.permissions.clone(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn devices_are_found_by_path_and_missing_ones_named() {
        let mut config = ContainerConfig::new(["x"]);
        config.devices =
            vec![Device { host_path: "/dev/null".into(), container_path: "/dev/nil".into(), permissions: "r".into() }];
        let found = devices(&config).unwrap();
        assert_eq!((found[0].major, found[0].minor, found[0].block), (1, 3, false));
        config.devices[0].host_path = "/dev/no-such-device".into();
        assert!(devices(&config).unwrap_err().to_string().contains("/dev/no-such-device"));
        config.devices[0].host_path = "/etc/hostname".into();
        assert!(devices(&config).is_err());
    }

    #[test]
    fn only_who_can_neither_raise_limits_nor_has_enough_is_stopped() {
        assert_eq!(filter_obstacle(true, 8 << 20), None);
        assert_eq!(filter_obstacle(false, u64::MAX), None);
        assert_eq!(filter_obstacle(false, FILTER_MEMLOCK), None);
        let reason = filter_obstacle(false, 8 << 20).unwrap();
        assert!(reason.contains("LimitMEMLOCK=128M"), "{reason}");
    }
}
