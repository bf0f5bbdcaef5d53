//! What is done to a data directory while no manager runs on it.

use std::fs;
use std::io;
use std::path::Path;

use super::datadir::{DataDir, DataDirError, sync_parent};

/// Files of a manager's part in the Raft group; the node's identity is none of them.
const PART: [&str; 3] = ["raft.redb", "node.key", "raft.id"];

/// Removes what a manager that was let go leaves: its log, its snapshots, its Raft id. Which node it is stays.
///
/// # Errors
/// When a daemon runs on the directory, or the system refuses.
pub fn discard(path: &Path) -> Result<(), DataDirError> {
    let dir = DataDir::open(path)?;
    let snapshots = dir.snapshots();
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataDirError::Io { what: "remove", path, source }
    };
    fs::remove_dir_all(&snapshots).map_err(failed(&snapshots))?;
    for name in PART {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&file)(error)),
            Ok(()) | Err(_) => {}
        }
    }
    sync_parent(&snapshots).map_err(failed(path))
}
