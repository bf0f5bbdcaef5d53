//! `berth reset`: makes the machine as it was before the daemon of a data directory ran on it.

use std::path::Path;

use berth_agent::reset::{self, Leftovers};
use berth_manager::raft::DataDirError;
use berth_manager::raft::datadir::take_lock;
use clap::Args;

use crate::daemon::{leave, share, take_back};
use crate::flags::common::{DataDirFlag, ForceFlag};
use crate::ui::{Failure, Outcome, failure, prompt, terminal};

/// Ends every container of a data directory whose daemon does not run, and removes its networks, mounts, control groups and
/// data. Nothing can be brought back.
#[derive(Debug, Args)]
pub struct ResetArgs {
    #[command(flatten)]
    data: DataDirFlag,
    #[command(flatten)]
    force: ForceFlag,
}

/// Removes everything.
pub async fn run(args: ResetArgs) -> Outcome {
    if !nix::unistd::geteuid().is_root() {
        return Err(
            Failure::new("cannot reset: only root may end containers and remove networks").hint("run it with sudo")
        );
    }
    let data = share::absolute(&args.data.data_dir);
    let (manager, agent) = (data.join("manager"), data.join("agent"));
    let was_there =
        leave::has_left(&data) || is_ours(&manager, &agent).map_err(|found| somebody_elses(&data, found))?;
    // Held to the end: no daemon can start in between.
    let _lock = match was_there {
        true => Some(take_lock(&data).map_err(|error| refused(&data, &error))?),
        false => None,
    };
    let surveyed = reset::survey(&take_back::agent(&data)).await;
    let leftovers = surveyed.map_err(|error| Failure::new(format!("cannot reset: {}", failure::chain(&error))))?;
    prompt::confirm(&question(&data, &leftovers), args.force.yes)?;
    let mut lines = Vec::new();
    let taken = take_back::everything(&data, &mut |line| lines.push(line)).await;
    lines.iter().try_for_each(terminal::print_line)?;
    taken?;
    leave::forget(&data)?;
    if !was_there {
        terminal::say(format!("there is no data of Berth in {}", data.display()));
        return Ok(0);
    }
    match take_back::directory(&data) {
        Ok(removed) => terminal::print_line(removed)?,
        Err(stays) => terminal::say(stays),
    }
    Ok(0)
}

/// Whether there is something of a daemon's; an error names a directory that merely has one of our names. What a reset that
/// failed half-way left is ours.
fn is_ours<'d>(manager: &'d Path, agent: &'d Path) -> Result<bool, &'d Path> {
    let has_witness = manager.join("lock").exists() || agent.join("state.redb").exists();
    match [manager, agent].into_iter().find(|directory| directory.exists()) {
        Some(directory) if !has_witness => Err(directory),
        found => Ok(found.is_some()),
    }
}

fn somebody_elses(data: &Path, directory: &Path) -> Failure {
    Failure::new(format!("{} is not a data directory of Berth: no daemon made {}", data.display(), directory.display()))
        .hint("name the directory that the daemon was started with (--data-dir)")
}

fn refused(data: &Path, error: &DataDirError) -> Failure {
    match error {
        DataDirError::InUse { pid, .. } => Failure::new(format!("a daemon runs on {} (pid {pid})", data.display()))
            .hint("stop it first: its containers run on until the reset ends them"),
        error => Failure::new(format!("cannot reset {}: {}", data.display(), failure::chain(error))),
    }
}

fn question(data: &Path, leftovers: &Leftovers) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    format!(
        "End {} and remove everything in {}: services, images, logs, secrets and the data of {}?",
        count(leftovers.running, "running container"),
        data.display(),
        count(leftovers.volumes, "volume"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_says_what_is_lost() {
        let asked = question(Path::new("/d"), &Leftovers { running: 1, volumes: 2 });
        assert_eq!(
            asked,
            "End 1 running container and remove everything in /d: services, images, logs, secrets and the data of 2 volumes?"
        );
    }

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let (manager, agent) = (dir.path().join("manager"), dir.path().join("agent"));
        assert_eq!(is_ours(&manager, &agent), Ok(false));
        std::fs::create_dir(&agent).expect("made");
        assert_eq!(is_ours(&manager, &agent), Err(&*agent));
        std::fs::create_dir(&manager).expect("made");
        std::fs::write(manager.join("lock"), "1").expect("written");
        assert_eq!(is_ours(&manager, &agent), Ok(true));
    }
}
