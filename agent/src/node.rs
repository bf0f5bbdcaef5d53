//! What a node says of itself: name, size, platform, abilities.
//!
//! Reads `/proc` and `/sys` once. The parsing is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use berth_proto::object::{NodeDescription, NodeResources};
use berth_proto::spec::{Labels, Platform};

/// Describes this machine. `hostname` overrides the machine's own.
pub fn describe(hostname: Option<String>, engine_labels: Labels) -> NodeDescription {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let own = || read("/proc/sys/kernel/hostname").trim().to_owned();
    let host = berth_image::Platform::host();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let is_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let version = if is_v2 { "cgroup:v2" } else { "cgroup:v1" };
    let abilities = [
        "network:bridge",
        "network:overlay",
        "network:macvlan",
        "network:host",
        "network:none",
        "volume:local",
        version,
    ];
    NodeDescription {
        hostname: hostname.unwrap_or_else(own),
        platform: Platform { os: host.os, architecture: host.architecture },
        resources: NodeResources {
            nano_cpus: u64::try_from(cpus).unwrap_or(1) * 1_000_000_000,
            memory: total_memory(&read("/proc/meminfo")),
            generic: BTreeMap::new(),
        },
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_labels,
        capabilities: abilities.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
        // They change while the agent runs; each session tells the present ones. So do images.
        routes: BTreeSet::new(),
        images: BTreeSet::new(),
        tunnel_keys: Vec::new(),
    }
}

/// Bytes of memory, from `/proc/meminfo`; 0 when it does not say.
fn total_memory(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_cpus_and_memory() {
        let found = describe(None, Labels::new());
        assert!(!found.hostname.is_empty() && found.resources.nano_cpus > 0 && found.resources.memory > 0, "{found:?}");
        assert_eq!(found.platform.os, "linux");
        assert_eq!(describe(Some("x".into()), Labels::new()).hostname, "x");
        assert_eq!(total_memory("MemTotal:       24681456 kB\nMemFree: 1 kB\n"), 24_681_456 * 1024);
        assert_eq!(total_memory("nonsense"), 0);
    }
}
