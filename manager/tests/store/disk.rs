//! What is on disk: it comes back whole after a restart, and damage is told with the file's path, never skipped.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_manager::raft::{DataDir, DataDirError, ProposeError, RaftNode, RaftSettings};
use berth_manager::store::Conflict;
use futures::future::join_all;

use crate::store_support::{config, id, open, small_log, tx};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn put(node: &RaftNode, number: u128, size: usize) {
    let mut tx = tx(1);
    tx.create(config(number, &format!("c{number}"), vec![7; size]));
    node.proposer().propose(tx).await.unwrap();
}

/// The error with all its causes, and that it is one.
async fn refusal(dir: &Path) -> String {
    let Err(error) = open(dir, small_log()).await else { panic!("it opened") };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn snapshot_file(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir.join("snapshots")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "one snapshot and nothing else: {files:?}");
    files[0].clone()
}

/// A stopped data directory with a snapshot, a cut log and entries after it.
async fn filled() -> tempfile::TempDir {
    let dir = directory();
    let node = open(dir.path(), small_log()).await.unwrap();
    for number in 1..=90 {
        put(&node, number, 100).await;
    }
    wait(&node, |node| node.snapshot_index() > 50, "a snapshot").await;
    node.stop().await;
    dir
}

async fn wait(node: &RaftNode, done: impl Fn(&RaftNode) -> bool, what: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done(node) {
        let state = format!("snapshot at {}, {} bytes of log", node.snapshot_index(), node.log_bytes());
        assert!(Instant::now() < end, "no {what} after 20 s: {state}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_brings_back_snapshot_and_log() {
    let dir = filled().await;
    for round in 1..=3_u128 {
        let node = open(dir.path(), small_log()).await.unwrap();
        let state = node.hub().snapshot();
        assert_eq!(state.configs().count() as u128, 90 + (round - 1) * 10);
        assert_eq!(state.config(id(1)).unwrap().spec.data.len(), 100);
        assert!(node.snapshot_index() > 0);
        for number in 0..10 {
            put(&node, 1000 * round + number, 10).await;
        }
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_cut_by_its_size_too() {
    let dir = directory();
    let settings = RaftSettings { snapshot_bytes: 256 << 10, snapshot_entries: 1_000_000, ..RaftSettings::default() };
    let node = open(dir.path(), settings.clone()).await.unwrap();
    for number in 1..=40 {
        put(&node, number, 20 << 10).await;
    }
    wait(&node, |node| node.log_bytes() < 256 << 10, "shorter log").await;
    node.stop().await;
    let node = open(dir.path(), settings).await.unwrap();
    assert_eq!(node.hub().snapshot().configs().count(), 40);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_conflict_does_not_fail_its_neighbours() {
    let dir = directory();
    let node = open(dir.path(), RaftSettings::default()).await.unwrap();
    // Everybody wants the same name, and something of their own.
    let writes = (0..50_u128).map(|number| {
        let proposer = node.proposer().clone();
        async move {
            let mut own = tx(1);
            own.create(config(1000 + number, &format!("own{number}"), "x"));
            let mut same = tx(1);
            same.create(config(number, "same", "x"));
            let (own, same) = tokio::join!(proposer.propose(own), proposer.propose(same));
            own.unwrap();
            match same {
                Ok(_) => 1,
                Err(ProposeError::Conflict(Conflict::NameTaken { .. })) => 0,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let winners: u32 = join_all(writes).await.into_iter().sum();
    assert_eq!(winners, 1);
    let state = node.hub().snapshot();
    assert_eq!(state.configs().count(), 51);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_too_large_is_refused_and_the_next_one_taken() {
    let dir = directory();
    let node = open(dir.path(), RaftSettings::default()).await.unwrap();
    let mut large = tx(1);
    for number in 0..5 {
        large.create(config(number, &format!("c{number}"), vec![0; 1_000_000]));
    }
    let error = node.proposer().propose(large).await.unwrap_err();
    assert!(matches!(error, ProposeError::TooLarge { .. }), "{error}");
    put(&node, 1, 1_000_000).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stop_writes_are_refused() {
    let dir = directory();
    let node = open(dir.path(), RaftSettings::default()).await.unwrap();
    let proposer = node.proposer().clone();
    node.stop().await;
    let mut late = tx(1);
    late.create(config(1, "late", "x"));
    assert!(matches!(proposer.propose(late).await, Err(ProposeError::Stopped)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_told_who_has_the_directory() {
    let dir = directory();
    let first = DataDir::open(dir.path()).unwrap();
    let error = DataDir::open(dir.path()).unwrap_err();
    let DataDirError::InUse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, std::process::id().to_string());
    assert!(error.to_string().contains("in use by another daemon"), "{error}");
    drop(first);
    DataDir::open(dir.path()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_a_newer_version_is_left_alone() {
    let dir = filled().await;
    fs::write(dir.path().join("format"), "2\n").unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("data format 2") && text.contains("up to 1"), "{text}");
    fs::write(dir.path().join("format"), "1\n").unwrap();
    open(dir.path(), small_log()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_snapshot_is_told() {
    let dir = filled().await;
    let path = snapshot_file(dir.path());
    let whole = fs::read(&path).unwrap();
    let shown = path.display().to_string();
    for length in [0, 5, 20, 30, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let text = refusal(dir.path()).await;
        assert!(text.contains(&shown), "cut to {length}: {text}");
    }
    for at in [0, 10, 26, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let text = refusal(dir.path()).await;
        assert!(text.contains(&shown), "bit flipped at {at}: {text}");
    }
    fs::remove_file(&path).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains(&shown) && text.contains("No such file"), "{text}");
    fs::write(&path, whole).unwrap();
    open(dir.path(), small_log()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_written_is_removed() {
    let dir = filled().await;
    let path = snapshot_file(dir.path());
    let whole = fs::read(&path).unwrap();
    // Died while it wrote a newer snapshot, and after it renamed one but before the log knew.
    fs::write(dir.path().join("snapshots/0123456789abcdef.tmp"), &whole[..whole.len() / 2]).unwrap();
    fs::write(dir.path().join("snapshots/99999999999999999999-0000000000000000.snap"), &whole).unwrap();
    let node = open(dir.path(), small_log()).await.unwrap();
    assert_eq!(node.hub().snapshot().configs().count(), 90);
    assert_eq!(snapshot_file(dir.path()), path);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_or_another_key_is_told() {
    let dir = filled().await;
    let key = dir.path().join("node.key");
    let right = fs::read(&key).unwrap();
    fs::write(&key, [1; 32]).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("raft.redb") && text.contains("another node key"), "{text}");
    fs::write(&key, [1; 3]).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("node.key") && text.contains("32 bytes"), "{text}");
    fs::remove_file(&key).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("node.key is missing"), "{text}");
    assert!(!key.exists(), "no new key is made where one was lost");
    fs::write(&key, right).unwrap();

    let log = dir.path().join("raft.redb");
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() / 3]).unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("raft.redb"), "{text}");
    fs::write(&log, &whole).unwrap();
    open(dir.path(), small_log()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_on_disk_shows_a_content() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    let node = open(dir.path(), small_log()).await.unwrap();
    for number in 0..60 {
        let mut tx = tx(1);
        tx.create(config(number, &format!("plainname{number}"), "plaincontent"));
        node.proposer().propose(tx).await.unwrap();
    }
    wait(&node, |node| node.snapshot_index() > 30, "a snapshot").await;
    node.stop().await;
    let files = [dir.path().join("raft.redb"), snapshot_file(dir.path())];
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for needle in ["plainname", "plaincontent"] {
            assert!(
                !bytes.windows(needle.len()).any(|window| window == needle.as_bytes()),
                "{needle} in {}",
                file.display()
            );
        }
    }
    let mode = fs::metadata(dir.path().join("node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
