//! Taking away everything that the daemon of a data directory made: what the agent has in the kernel and on disk, the manager's
//! state, the node's identity. For a directory whose lock the caller holds and on which nothing runs any more.

use std::io;
use std::path::{Path, PathBuf};

use berth_agent::AgentConfig;
use berth_agent::reset::{self, Taken};
use berth_proto::id::Id;

use super::share;
use crate::ui::{Failure, OrFail, failure};

/// The agent's settings for a data directory. The node's name means nothing to what is taken away.
pub fn agent(data: &Path) -> AgentConfig {
    let mut config = AgentConfig::new(Id::from_random(0), data.join("agent"));
    share::separate(&mut config, data);
    config
}

/// Takes everything away, and tells a line for each kind of thing. Doing it again finds nothing.
pub async fn everything(data: &Path, tell: &mut dyn FnMut(String)) -> Result<(), Failure> {
    let taken = reset::reset(&agent(data)).await;
    let taken = taken.map_err(|error| Failure::new(format!("cannot reset: {}", failure::chain(&error))))?;
    told(&taken).into_iter().for_each(&mut *tell);
    for directory in [data.join("manager"), data.join("identity")] {
        if remove(&directory)? {
            tell(format!("removed {}", directory.display()));
        }
    }
    Ok(())
}

/// The data directory itself goes when nothing of others is in it, and when it is no mount point. Says what became of it.
pub fn directory(data: &Path) -> Result<String, String> {
    // Gone already is fine too.
    let _ = std::fs::remove_file(data.join("lock"));
    match std::fs::remove_dir(data) {
        Ok(()) => Ok(format!("removed {}", data.display())),
        Err(error) => Err(format!("{} stays: {error}", data.display())),
    }
}

/// What was removed, a line for each kind.
fn told(taken: &Taken) -> Vec<String> {
    let network = &taken.network;
    let paths = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let kinds = [
        ("container", taken.containers.clone()),
        ("packet filter table", network.tables.clone()),
        ("encrypted link", taken.links.clone()),
        ("network link", network.links.clone()),
        ("network namespace", paths(&network.namespaces)),
        ("mount", paths(&network.mounts)),
        ("control group", paths(&taken.cgroups)),
    ];
    let some = kinds.into_iter().filter(|(_, names)| !names.is_empty());
    let mut lines: Vec<String> = some
        .map(|(kind, names)| match names.as_slice() {
            [one] => format!("removed {kind} {one}"),
            several => format!("removed {} {kind}s: {}", several.len(), several.join(", ")),
        })
        .collect();
    lines.extend(taken.directory.iter().map(|path| format!("removed {}", path.display())));
    lines
}

fn remove(directory: &Path) -> Result<bool, Failure> {
    match std::fs::remove_dir_all(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).or_fail(|| format!("cannot remove {}", directory.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_there_is_told() {
        let mut taken = Taken { containers: vec!["a".into(), "b".into()], ..Taken::default() };
        taken.network.tables.push("inet berth".into());
        assert_eq!(told(&taken), ["removed 2 containers: a, b", "removed packet filter table inet berth"]);
    }
}
