//! Tests of copying in and out, with containers and streams that attack.
#![allow(clippy::unwrap_used)]

use super::super::pack::pack;
use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tar::{Builder, Header};

struct Bench {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

/// A "container" whose files beside it must never be touched.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
    fs::create_dir_all(root.join("data")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("host"), "host").unwrap();
    Bench { _dir: dir, root, outside }
}

impl Bench {
    fn open(&self) -> Root {
        Root::open(&self.root).unwrap()
    }

    fn assert_untouched(&self) {
        let names: Vec<_> = fs::read_dir(&self.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["host"]);
        assert_eq!(fs::read_to_string(self.outside.join("host")).unwrap(), "host");
    }
}

/// A stream with entries as given; names are written raw, as an attacker would.
fn stream(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(1000);
        header.set_gid(1001);
        header.set_mtime(5);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        let data: &[u8] = if is_link { b"" } else { content.as_bytes() };
        if is_link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn packed(root: &Root, path: &str, follow: bool) -> io::Result<Vec<(String, String)>> {
    let mut bytes = Vec::new();
    pack(root, path, follow, &mut bytes)?;
    let mut found = Vec::new();
    for entry in Archive::new(&bytes[..]).entries()? {
        let mut entry = entry?;
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let link = entry.link_name()?.map(|link| format!("-> {}", link.display())).unwrap_or_default();
        found.push((entry.path()?.display().to_string(), text + &link));
    }
    found.sort();
    Ok(found)
}

#[test]
fn files_go_in_and_come_out() {
    let bench = bench();
    let entries = [
        (EntryType::Directory, "tree/", ""),
        (EntryType::Regular, "tree/sub/file", "hello"),
        (EntryType::Symlink, "tree/link", "sub/file"),
        (EntryType::Link, "tree/hard", "tree/sub/file"),
    ];
    unpack(&bench.open(), "/data", true, &stream(&entries)[..]).unwrap();
    let file = bench.root.join("data/tree/sub/file");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.nlink(), metadata.mtime()), (1000, 1001, 2, 5));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
    let found = packed(&bench.open(), "/data/tree", false).unwrap();
    let expected = [
        ("tree/", ""),
        ("tree/hard", "hello"),
        ("tree/link", "-> sub/file"),
        ("tree/sub/", ""),
        ("tree/sub/file", "hello"),
    ];
    assert_eq!(found, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    assert_eq!(packed(&bench.open(), "/data/tree/link", true).unwrap()[0].1, "hello");
    assert_eq!(packed(&bench.open(), "/data/tree/link", false).unwrap()[0].1, "-> sub/file");
    assert_eq!(packed(&bench.open(), "/data/tree/sub/.", false).unwrap()[1].0, "file");
    unpack(&bench.open(), "/data", false, &stream(&entries[..2])[..]).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
}

#[test]
fn a_stream_cannot_write_outside_the_container() {
    let bench = bench();
    let outside = bench.outside.display().to_string();
    let through = format!("{}/evil", &outside[1..]);
    let attacks: [&[(EntryType, &str, &str)]; 6] = [
        &[(EntryType::Regular, "../../outside/evil", "x")],
        &[(EntryType::Regular, "a/../../../outside/evil", "x")],
        &[(EntryType::Symlink, "up", "../../../outside"), (EntryType::Regular, "up/evil", "x")],
        &[(EntryType::Symlink, "abs", &outside), (EntryType::Regular, "abs/evil", "x")],
        &[(EntryType::Link, "hard", "../../outside/host"), (EntryType::Regular, "hard", "x")],
        &[(EntryType::Regular, &through, "x")],
    ];
    for attack in attacks {
        // Some are refused, some end inside the container: outside nothing changes.
        let _ = unpack(&bench.open(), "/data", false, &stream(attack)[..]);
        bench.assert_untouched();
    }
    assert!(unpack(&bench.open(), "/data", false, &stream(attacks[0])[..]).is_err());
}

#[test]
fn links_of_the_container_lead_nowhere_but_inside() {
    let bench = bench();
    symlink(&bench.outside, bench.root.join("abs")).unwrap();
    symlink("../../../../../..", bench.root.join("up")).unwrap();
    symlink(bench.outside.join("host"), bench.root.join("data/file")).unwrap();
    let root = bench.open();
    let outside = bench.outside.display().to_string();
    for path in ["/abs/host", "/abs", &format!("/up{outside}/host"), "/data/file", "../outside/host"] {
        let found = packed(&root, path, true);
        assert!(found.is_err(), "{path}: {found:?}");
    }
    assert!(packed(&root, "/abs", false).unwrap()[0].1.starts_with("-> "), "a link itself is copied as a link");
    let _ = unpack(&root, "/abs", false, &stream(&[(EntryType::Regular, "evil", "x")])[..]);
    unpack(&root, "/data", false, &stream(&[(EntryType::Regular, "file", "mine")])[..]).unwrap();
    bench.assert_untouched();
    assert_eq!(
        fs::read_to_string(bench.root.join("data/file")).unwrap(),
        "mine",
        "the link was replaced, not followed"
    );
}

#[test]
fn a_fifo_or_a_device_does_not_hang_or_appear() {
    let bench = bench();
    let fifo = bench.root.join("data/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    assert_eq!(packed(&bench.open(), "/data", false).unwrap().len(), 2);
    assert!(packed(&bench.open(), "/data/pipe", true).is_err());
    let error = unpack(&bench.open(), "/data", false, &stream(&[(EntryType::Char, "null", "")])[..]).unwrap_err();
    assert!(error.to_string().contains("not copied into containers"), "{error}");
    assert!(!Path::new(&bench.root.join("data/null")).exists());
}

#[test]
fn a_target_that_is_missing_is_said_so() {
    let bench = bench();
    let error = unpack(&bench.open(), "/nothere", false, &stream(&[])[..]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
