//! The agent's records on a full disk. Needs root for a small file system of its own.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use berth_agent::db::{Change, Db, DbError};

/// A small file system in memory; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        run(&["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs"], dir.path());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(&["umount", "--lazy"], self.0.path());
    }
}

fn run(command: &[&str], path: &Path) {
    let output = Command::new(command[0]).args(&command[1..]).arg(path).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn put(name: &str) -> Change {
    // Not an assignment that can be read: these are left out when the records are, and are of no concern here.
    Change::Put(name.to_owned(), vec![0xff; 100_000])
}

/// Once a write had failed, nothing was written any more until the daemon was started again.
#[test]
fn records_are_written_again_when_a_full_disk_has_room() {
    let disk = SmallDisk::mount();
    let db = Db::open(&disk.0.path().join("state.redb")).unwrap();
    let refused = (0..1_000).find_map(|number| db.commit(&[put(&format!("task/{number}"))]).err());
    assert!(matches!(refused, Some(DbError::Failed { .. })), "{refused:?}");
    assert!(db.commit(&[put("task/another")]).is_err(), "as long as there is no room");
    run(&["mount", "-o", "remount,size=32m"], disk.0.path());
    db.commit(&[put("task/last"), Change::ReplaceAssigned(Vec::new())]).unwrap();
    assert!(db.read().unwrap().assigned.is_empty());
}
