//! Reading a container's use of resources from its control groups and network namespace.
//!
//! Owns the files and units of cgroup v1 and v2. A file that is not there counts as zero: hosts differ
//! in the controllers they have.

use std::fs;
use std::path::PathBuf;

use berth_shim::cgroup::{Hierarchies, keyed};

use super::Stats;

/// Limits above this are no limits: v1 says "unlimited" by the largest number of pages.
const UNLIMITED: u64 = 1 << 62;

/// Reads everything of the group `cgroup` and the first process `pid`.
pub(super) fn read(hierarchies: &Hierarchies, cgroup: &str, pid: Option<u32>) -> Stats {
    let text = |controller: &str, file: &str| -> String {
        let path: Option<PathBuf> = hierarchies.dir(controller, cgroup).map(|dir| dir.join(file));
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    };
    let number = |controller: &str, file: &str| text(controller, file).trim().parse::<u64>().ok();
    let limit = |value: Option<u64>| value.filter(|limit| *limit < UNLIMITED);
    let net = pid.map(|pid| fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default());
    let (net_rx, net_tx) = network(&net.unwrap_or_default());
    if hierarchies.unified.is_some() {
        let cpu = text("cpu", "cpu.stat");
        let used = number("memory", "memory.current").unwrap_or(0);
        let cache = keyed(&text("memory", "memory.stat"), "inactive_file").unwrap_or(0);
        let (block_read, block_write) = io_v2(&text("io", "io.stat"));
        Stats {
            cpu_ns: keyed(&cpu, "usage_usec").unwrap_or(0) * 1_000,
            cpu_throttled_ns: keyed(&cpu, "throttled_usec").unwrap_or(0) * 1_000,
            memory: used.saturating_sub(cache),
            memory_limit: number("memory", "memory.max"),
            pids: number("pids", "pids.current").unwrap_or(0),
            pids_limit: number("pids", "pids.max"),
            block_read,
            block_write,
            net_rx,
            net_tx,
        }
    } else {
        let used = number("memory", "memory.usage_in_bytes").unwrap_or(0);
        let cache = keyed(&text("memory", "memory.stat"), "total_inactive_file").unwrap_or(0);
        let (block_read, block_write) = io_v1(&text("blkio", "blkio.throttle.io_service_bytes"));
        Stats {
            cpu_ns: number("cpuacct", "cpuacct.usage").unwrap_or(0),
            cpu_throttled_ns: keyed(&text("cpu", "cpu.stat"), "throttled_time").unwrap_or(0),
            memory: used.saturating_sub(cache),
            memory_limit: limit(number("memory", "memory.limit_in_bytes")),
            pids: number("pids", "pids.current").unwrap_or(0),
            pids_limit: number("pids", "pids.max"),
            block_read,
            block_write,
            net_rx,
            net_tx,
        }
    }
}

/// Received and sent bytes of all interfaces but the loopback, from `/proc/<pid>/net/dev`.
fn network(text: &str) -> (u64, u64) {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() != "lo")
        .map(|(_, counters)| {
            let field = |position| counters.split_whitespace().nth(position).and_then(|text| text.parse().ok());
            (field(0).unwrap_or(0), field(8).unwrap_or(0))
        })
        .fold((0, 0), |(rx, tx): (u64, u64), (more_rx, more_tx): (u64, u64)| (rx + more_rx, tx + more_tx))
}

/// `8:0 Read 4096` lines.
fn io_v1(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        text.lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                (fields.nth(1)? == kind).then(|| fields.next()?.parse::<u64>().ok())?
            })
            .sum()
    };
    (sum("Read"), sum("Write"))
}

/// `8:0 rbytes=4096 wbytes=0 ...` lines.
fn io_v2(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        text.split_whitespace()
            .filter_map(|field| field.strip_prefix(key)?.strip_prefix('=')?.parse::<u64>().ok())
            .sum()
    };
    (sum("rbytes"), sum("wbytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_devices_and_interfaces() {
        let net = "Inter-|\n face |bytes\n  lo: 9 0 0 0 0 0 0 0 9 0\neth0: 100 1 0 0 0 0 0 0 7 1\neth1: 1 0 0 0 0 0 0 0 2 0\n";
        assert_eq!(network(net), (101, 9));
        assert_eq!(io_v1("8:0 Read 5\n8:0 Write 6\n8:16 Read 1\nTotal 12\n"), (6, 6));
        assert_eq!(io_v2("8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=1 wbytes=0\n"), (6, 6));
    }
}
