//! Which node and which manager a data directory is. Both stay the same as long as the directory does.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use berth_proto::id::{Id, NodeId};

use crate::raft::datadir::write_whole;
use crate::raft::{DataDir, DataDirError};

/// Why it is not known who a directory is.
#[derive(Debug, thiserror::Error)]
pub enum IdsError {
    /// The file cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The directory is another node's.
    #[error("{path} is of node {found}, and this machine is node {given}: give it a --data-dir of its own", path = path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: NodeId,
        /// What was given.
        given: NodeId,
    },
}

/// The id of this node: what the directory says, what is given, or one drawn now.
///
/// # Errors
/// When the directory is another node's, or cannot be used.
pub fn node(dir: &DataDir, given: Option<NodeId>) -> Result<NodeId, IdsError> {
    let path = dir.path().join("node.id");
    match read(&path, "it should hold a node id")? {
        Some(found) => match given.filter(|given| *given != found) {
            Some(given) => Err(IdsError::OtherNode { path, found, given }),
            None => Ok(found),
        },
        None => {
            let id = given.unwrap_or_else(|| Id::from_random(rand::random()));
            write(&path, id)?;
            Ok(id)
        }
    }
}

/// The Raft id: what the directory says, 1 for who founds a cluster and for directories older than this file, otherwise one
/// drawn now. Never 0.
///
/// # Errors
/// When the directory cannot be used.
pub fn raft(dir: &DataDir, join: bool) -> Result<u64, DataDirError> {
    let path = path(dir.path());
    if let Some(id) = read(&path, "it should hold a number")? {
        return match id {
            0 => Err(DataDirError::Damaged { path, problem: "no manager has the Raft id 0" }),
            id => Ok(id),
        };
    }
    let id = if join && !dir.log().exists() { rand::random::<u64>().max(1) } else { 1 };
    write(&path, id)?;
    Ok(id)
}

/// Where the Raft id is kept.
pub fn path(dir: &Path) -> PathBuf {
    dir.join("raft.id")
}

fn read<T: FromStr>(path: &Path, problem: &'static str) -> Result<Option<T>, DataDirError> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let damaged = |_| DataDirError::Damaged { path: path.to_owned(), problem };
            text.trim().parse().map(Some).map_err(damaged)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { what: "read", path: path.to_owned(), source }),
    }
}

fn write(path: &Path, id: impl Display) -> Result<(), DataDirError> {
    write_whole(path, format!("{id}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_stays_the_node_and_the_manager_that_it_was() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::open(place.path()).unwrap();
        let given = NodeId::from_random(7);
        assert_eq!(node(&dir, Some(given)).unwrap(), given);
        assert_eq!(node(&dir, None).unwrap(), given);
        let other = node(&dir, Some(NodeId::from_random(8))).unwrap_err().to_string();
        assert!(other.contains(&given.to_string()) && other.contains("--data-dir"), "{other}");
        let drawn = raft(&dir, true).unwrap();
        assert_eq!((raft(&dir, true).unwrap(), raft(&dir, false).unwrap()), (drawn, drawn));
    }

    #[test]
    fn who_founds_a_cluster_is_manager_one() {
        let place = tempfile::tempdir().unwrap();
        let dir = DataDir::open(place.path()).unwrap();
        std::fs::write(dir.log(), "").unwrap();
        assert_eq!(raft(&dir, true).unwrap(), 1, "a log from before there was such a file");
    }
}
