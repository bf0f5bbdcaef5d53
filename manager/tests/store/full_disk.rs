//! A full disk: writes are refused, the reason is told, and nothing that was acknowledged is lost. Needs root for a small
//! file system of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use berth_manager::raft::RaftSettings;

use crate::store_support::{config, id, open, tx};

/// A small file system in memory; unmounted when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(megabytes: u32) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        run(&["mount", "-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"], dir.path());
        Self { dir }
    }

    fn grow(&self, megabytes: u32) {
        run(&["mount", "-o", &format!("remount,size={megabytes}m")], self.dir.path());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(&["umount", "--lazy"], self.dir.path());
    }
}

fn run(command: &[&str], path: &Path) {
    let output = Command::new(command[0]).args(&command[1..]).arg(path).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let disk = SmallDisk::mount(12);
    let dir = disk.dir.path().join("manager");
    let node = open(&dir, RaftSettings::default()).await.unwrap();
    let mut written = 0;
    let error = loop {
        let mut tx = tx(1);
        tx.create(config(written, &format!("c{written}"), vec![7; 100_000]));
        match node.proposer().propose(tx).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "12 MiB do not hold this");
    };
    assert!(written > 10, "only {written} writes before {error}");
    let reason = tokio::time::timeout(Duration::from_secs(20), node.failed()).await.expect("Raft says that it failed");
    assert!(reason.contains("append entries") && reason.contains("No space left"), "{reason}");
    node.stop().await;

    disk.grow(64);
    let node = open(&dir, RaftSettings::default()).await.unwrap();
    let state = node.hub().snapshot();
    for number in 0..written {
        assert!(state.config(id(number)).is_some(), "write {number} of {written} was acknowledged and is lost");
    }
    let mut tx = tx(1);
    tx.create(config(10_000, "after", "x"));
    node.proposer().propose(tx).await.unwrap();
    node.stop().await;
}
