//! Doing the kernel's wait for a control group move early, so that it is over when a container needs it.
//!
//! The first move of a process into a control group after a pause waits for an RCU grace period (6 to 14 ms
//! measured; 0.1 ms for those that follow soon), because moves and forks exclude each other by a lock that is
//! biased towards forks. A move that changes nothing starts the same wait, and one within every grace period
//! keeps it over. The mount option `favordynmods` would end it for good but changes the whole host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_shim::cgroup::Hierarchies;

/// Between two moves that change nothing: less than a grace period.
const PERIOD: Duration = Duration::from_millis(3);

/// Keeps moves cheap while containers are being created, in one blocking thread for all of them.
#[derive(Debug, Default)]
pub(super) struct WarmUp {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Containers being created.
    creating: usize,
    /// The thread runs.
    kept: bool,
}

/// Held while a container is being created.
#[derive(Debug)]
pub(super) struct Warm(Arc<WarmUp>);

impl Drop for Warm {
    fn drop(&mut self) {
        self.0.state().creating -= 1;
    }
}

impl WarmUp {
    /// Starts the wait unless it runs for another container already. Failing costs only time later.
    pub(super) fn begin(self: &Arc<Self>, hierarchies: &Hierarchies) -> Warm {
        let mut state = self.state();
        state.creating += 1;
        if !std::mem::replace(&mut state.kept, true) {
            let (this, hierarchies) = (self.clone(), hierarchies.clone());
            drop(tokio::task::spawn_blocking(move || this.keep(&hierarchies)));
        }
        drop(state);
        Warm(self.clone())
    }

    fn keep(&self, hierarchies: &Hierarchies) {
        // Without such a group there is nothing to keep, now or later.
        let Some(procs) = own_group(hierarchies) else { return };
        loop {
            stay(&procs);
            std::thread::sleep(PERIOD);
            let mut state = self.state();
            state.kept = state.creating > 0;
            if !state.kept {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves this process to where it is already. Blocks for the grace period.
fn stay(procs: &Path) {
    let _ = fs::write(procs, std::process::id().to_string());
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
        stay(&procs);
        assert_eq!(fs::read_to_string("/proc/self/cgroup").unwrap(), before);
    }
}
