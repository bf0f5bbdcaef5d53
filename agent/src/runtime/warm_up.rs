//! Starting the kernel's wait for a control group move early, so that it is over when a container needs it.
//!
//! The first move of a process into a control group after a pause waits for an RCU grace period (11 to 14 ms
//! measured; 0.1 ms for those that follow soon), because moves and forks exclude each other by a lock that is
//! biased towards forks. A move that changes nothing starts the same wait. The mount option `favordynmods`
//! would end it for good but changes the whole host.

use std::fs;
use std::path::PathBuf;

use berth_shim::cgroup::Hierarchies;

/// Moves this process to where it is already. Blocks for the grace period; failing costs only time later.
pub(super) fn begin(hierarchies: &Hierarchies) {
    if let Some(procs) = own_group(hierarchies) {
        let _ = fs::write(procs, std::process::id().to_string());
    }
}

/// `cgroup.procs` of the group this process is in, in any hierarchy that decides resources.
fn own_group(hierarchies: &Hierarchies) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = |controller: &str| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let names = fields.next()?;
            names.split(',').any(|name| name == controller).then(|| fields.next())?
        })
    };
    let controller = if hierarchies.unified.is_some() { "" } else { "pids" };
    let dir = hierarchies.dir("pids", path(controller)?)?;
    Some(dir.join("cgroup.procs")).filter(|procs| procs.exists())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_process_stays_where_it_is() {
        let hierarchies = Hierarchies::detect().unwrap();
        let before = fs::read_to_string("/proc/self/cgroup").unwrap();
        let procs = own_group(&hierarchies).unwrap();
        assert!(fs::read_to_string(&procs).unwrap().lines().any(|line| line == std::process::id().to_string()));
        begin(&hierarchies);
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), before);
    }
}
