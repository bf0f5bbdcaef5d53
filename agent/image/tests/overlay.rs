//! What a container sees: real overlay mounts of unpacked layers, and unpacked trees compared with
//! what they were packed from. Needs root.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_image::{Digest, ImageError, StoreOptions, UnpackError};
use common::mounted::Mounted;
use common::tarball::{Spec, Tarball};
use common::{Compress, Layer, TestImage, TestStore, describe, load};
use tar::EntryType;

async fn merged(layers: Vec<Tarball>) -> (TestStore, Mounted) {
    let test = TestStore::new().await;
    let image = TestImage::new(layers.into_iter().map(Layer::new).collect());
    load(&test.store, image.oci_archive(Some("a:1"))).await.unwrap();
    let layers = test.store.rootfs_layers("a:1").await.unwrap();
    let mounted = Mounted::overlay(&layers);
    (test, mounted)
}

fn names(dir: &Path) -> Vec<String> {
    let mut out: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    out.sort();
    out
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test]
async fn whiteouts_hide_what_is_below_and_nothing_else() {
    let base = Tarball::new()
        .dir("d/", 0o755)
        .file("d/gone", b"1")
        .file("d/kept", b"2")
        .dir("whole/", 0o755)
        .file("whole/a", b"3")
        .dir("opaque/", 0o755)
        .file("opaque/old", b"4")
        .dir("again/", 0o755)
        .file("again/old", b"5")
        .file("replaced", b"6")
        .dir("late/", 0o755)
        .file("late/old", b"7");
    let top = Tarball::new()
        .dir("d/", 0o755)
        .file("d/.wh.gone", b"")
        .file("d/.wh.never-was", b"")
        .file(".wh.whole", b"")
        .dir("opaque/", 0o755)
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"n")
        // Removed and made again as a directory, in either order.
        .file(".wh.again", b"")
        .file("again/new", b"n")
        .dir("late/", 0o755)
        .file("late/new", b"n")
        .file(".wh.late", b"")
        // A whiteout does not remove what its own layer brings.
        .file("replaced", b"new")
        .file(".wh.replaced", b"")
        .file(".wh..wh.plnk", b"");
    let (_test, root) = merged(vec![base, top]).await;
    assert_eq!(names(&root.path), ["again", "d", "late", "opaque", "replaced"]);
    assert_eq!(names(&root.join("d")), ["kept"]);
    for dir in ["opaque", "again", "late"] {
        assert_eq!(names(&root.join(dir)), ["new"], "{dir}");
    }
    assert_eq!(read(root.join("replaced")), "new");
}

#[tokio::test]
async fn implicit_parents_keep_what_they_were_below() {
    let base = Tarball::new()
        .entry("shared/", Spec { kind: EntryType::Directory, mode: 0o1777, uid: 5, gid: 6, ..Spec::default() })
        .entry("shared/deep/", Spec { kind: EntryType::Directory, mode: 0o2750, uid: 7, gid: 8, ..Spec::default() });
    let middle = Tarball::new().file("unrelated", b"x");
    let top = Tarball::new().file("shared/deep/x", b"x").file("fresh/y", b"y");
    let (test, root) = merged(vec![base, middle, top]).await;
    for (name, mode, uid, gid) in [("shared", 0o1777, 5, 6), ("shared/deep", 0o2750, 7, 8), ("fresh", 0o755, 0, 0)] {
        let meta = std::fs::metadata(root.join(name)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (mode, uid, gid), "{name}");
    }
    assert_eq!(std::fs::metadata(root.join("shared")).unwrap().mtime(), 1_600_000_000);
    // The uppermost layer holds only over these below: it is not named by its own content alone.
    let layers = test.store.rootfs_layers("a:1").await.unwrap();
    let details = test.store.inspect("a:1").await.unwrap();
    let own_name = |n: usize| layers[n].to_string_lossy().contains(&details.layers[n].diff_id.hex());
    assert!(own_name(0) && own_name(1) && !own_name(2));
}

#[tokio::test]
async fn the_same_layer_over_other_layers_is_unpacked_again_where_it_must() {
    let test = TestStore::new().await;
    let top = Layer::new(Tarball::new().file("d/x", b"x"));
    for (name, mode) in [("a:1", 0o700), ("b:1", 0o711)] {
        let base = Layer::new(Tarball::new().dir("d/", mode));
        let image = TestImage::new(vec![base, top.clone()]);
        load(&test.store, image.oci_archive(Some(name))).await.unwrap();
    }
    for (name, mode) in [("a:1", 0o700), ("b:1", 0o711)] {
        let layers = test.store.rootfs_layers(name).await.unwrap();
        let found = std::fs::metadata(layers[1].join("d")).unwrap().mode() & 0o7777;
        assert_eq!(found, mode, "{name}");
    }
}

#[tokio::test]
async fn a_lowest_layer_that_lacks_parents_is_not_reused_over_others() {
    let test = TestStore::new().await;
    let layer = Layer::new(Tarball::new().file("d/x", b"x").file(".wh.gone", b""));
    load(&test.store, TestImage::new(vec![layer.clone()]).oci_archive(Some("alone:1"))).await.unwrap();
    let base = Layer::new(Tarball::new().dir("d/", 0o711).file("gone", b"1"));
    load(&test.store, TestImage::new(vec![base, layer]).oci_archive(Some("over:1"))).await.unwrap();
    let alone = Mounted::overlay(&test.store.rootfs_layers("alone:1").await.unwrap());
    let over = Mounted::overlay(&test.store.rootfs_layers("over:1").await.unwrap());
    for (root, mode) in [(&alone, 0o755), (&over, 0o711)] {
        assert_eq!(names(&root.path), ["d"]);
        assert_eq!(std::fs::metadata(root.join("d")).unwrap().mode() & 0o7777, mode);
        assert_eq!(read(root.join("d/x")), "x");
    }
}

#[tokio::test]
async fn a_whiteout_of_nothing_leaves_nothing_to_stumble_over() {
    let base = Tarball::new().file("file", b"x").dir("dir/", 0o755).file("dir/a", b"a");
    let top = Tarball::new()
        .dir("new/", 0o755)
        .file("new/.wh.nothing", b"")
        .file("file/.wh.below-a-file", b"")
        .dir("dir/", 0o755)
        .file("dir/.wh..wh..opq", b"")
        .file("dir/.wh.a", b"")
        .file("dir/kept", b"k");
    let (_test, root) = merged(vec![base, top]).await;
    let listing = describe(&root.path);
    let paths: Vec<&str> = listing.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(paths, [".", "./dir", "./dir/kept", "./file", "./new"]);
}

#[tokio::test]
async fn writing_through_a_lower_link_keeps_the_link() {
    let base = Tarball::new()
        .dir("usr/", 0o755)
        .dir("usr/lib/", 0o755)
        .file("usr/lib/old", b"old")
        .symlink("lib", "usr/lib")
        .dir("run/", 0o755)
        .dir("var/", 0o755)
        .symlink("var/run", "/run")
        .symlink("var/up", "../../..");
    let top = Tarball::new()
        .file("lib/new", b"new")
        .file("var/run/pid", b"1")
        // Clamped at the root, as inside a container.
        .file("var/up/at-root", b"r")
        .file("lib/.wh.old", b"");
    let (_test, root) = merged(vec![base, top]).await;
    assert!(root.join("lib").is_symlink() && root.join("var/run").is_symlink());
    assert_eq!(names(&root.join("usr/lib")), ["new"]);
    assert_eq!(read(root.join("run/pid")), "1");
    assert_eq!(read(root.join("at-root")), "r");
}

#[tokio::test]
async fn an_explicit_directory_replaces_a_lower_link() {
    let base = Tarball::new().dir("real/", 0o755).file("real/a", b"a").symlink("d", "real");
    let top = Tarball::new().file("d/through", b"1").dir("d/", 0o755).file("d/own", b"2");
    let (_test, root) = merged(vec![base, top]).await;
    assert!(!root.join("d").is_symlink());
    assert_eq!(names(&root.join("d")), ["own"]);
    assert_eq!(names(&root.join("real")), ["a", "through"]);
}

#[tokio::test]
async fn a_hard_link_to_a_lower_file_becomes_a_copy() {
    let spec = Spec { mode: 0o4711, uid: 9, data: b"content", ..Spec::default() };
    let base = Tarball::new().dir("d/", 0o755).entry("d/file", spec);
    let top = Tarball::new().hard_link("copy", "d/file");
    let (_test, root) = merged(vec![base, top]).await;
    assert_eq!(read(root.join("copy")), "content");
    let meta = std::fs::metadata(root.join("copy")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime()), (0o4711, 9, 1_600_000_000));
}

#[tokio::test]
async fn attributes_of_the_overlay_itself_are_not_taken_from_archives() {
    let pax = vec![
        ("SCHILY.xattr.trusted.overlay.opaque", b"y".to_vec()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".to_vec()),
        ("SCHILY.xattr.user.kept", b"a\nb\0c".to_vec()),
    ];
    let base = Tarball::new().dir("d/", 0o755).file("d/below", b"x");
    let top = Tarball::new().entry("d/", Spec { kind: EntryType::Directory, mode: 0o755, pax, ..Spec::default() });
    let (_test, root) = merged(vec![base, top]).await;
    assert_eq!(names(&root.join("d")), ["below"]);
    let mut value = [0; 16];
    let n = rustix::fs::getxattr(root.join("d"), "user.kept", &mut value).unwrap();
    assert_eq!(&value[..n], b"a\nb\0c");
}

/// Every extended attribute below a directory: path, name, value.
fn attributes(root: &Path) -> BTreeSet<(PathBuf, Vec<u8>, Vec<u8>)> {
    let mut out = BTreeSet::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(path) = pending.pop() {
        let mut names = vec![0; 4096];
        let n = rustix::fs::llistxattr(&path, &mut names).unwrap();
        for name in names[..n].split(|b| *b == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; 4096];
            let n = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
            out.insert((path.strip_prefix(root).unwrap().to_path_buf(), name.to_vec(), value[..n].to_vec()));
        }
        if path.symlink_metadata().unwrap().is_dir() {
            pending.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    out
}

/// Runs a command, which must succeed.
fn run(command: &str, dir: &Path) -> Vec<u8> {
    let output = Command::new("sh").args(["-ec", command]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn a_tree_of_debian_files_comes_out_as_it_went_in() {
    let dir = tempfile::Builder::new().prefix("berth-image-tree-").tempdir().unwrap();
    // Hard links (perl), setuid and setgid (passwd, su, chage), many links (zoneinfo).
    run(
        "mkdir tree tree/tmp tree/dev; cp -a /usr/bin/perl* /usr/bin/passwd /usr/bin/su /usr/bin/chage tree/
         cp -a /usr/share/zoneinfo tree/; cp -a /etc/alternatives tree/
         ln tree/passwd tree/passwd-again; ln -s /nowhere tree/dangling; ln tree/dangling tree/dangling-again
         chmod 1777 tree/tmp; chown 1234:5678 tree/chage; chmod 2755 tree/chage; mkfifo -m 640 tree/dev/fifo
         mknod -m 666 tree/dev/null c 1 3; mkdir -m 000 tree/closed; echo x > tree/closed/x; chmod 0 tree/closed/x
         touch -d '2001-02-03 04:05:06.789' tree/zoneinfo tree/passwd; touch -h -d 1999-01-01 tree/dangling
         printf 'name with\\nnewline' > \"$(printf 'tree/a\\nb')\"; : > \"$(printf 'tree/\\377\\376')\"",
        dir.path(),
    );
    // A capability whose bytes include a newline: cap_dac_override and cap_fowner are 0x0a.
    let capability = [1, 0, 0, 2, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let none = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.path().join("tree/perl"), "security.capability", &capability, none).unwrap();
    rustix::fs::setxattr(dir.path().join("tree/zoneinfo"), "user.note", b"on a directory", none).unwrap();
    rustix::fs::lsetxattr(dir.path().join("tree/dangling"), "trusted.note", b"on a link", none).unwrap();
    let tar = "tar --format=posix --xattrs --xattrs-include='*' --numeric-owner -C tree -cf - .";
    let layer = Layer { plain: run(tar, dir.path()), compress: Compress::Gzip };

    let test = TestStore::new().await;
    load(&test.store, TestImage::new(vec![layer]).oci_archive(Some("tree:1"))).await.unwrap();
    let root = test.store.rootfs_layers("tree:1").await.unwrap().remove(0);
    let (want, got) = (describe(&dir.path().join("tree")), describe(&root));
    for (want, got) in want.lines().zip(got.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(got.lines().count(), want.lines().count());
    assert!(got.lines().count() > 1000);
    let (want, got) = (attributes(&dir.path().join("tree")), attributes(&root));
    assert!(want.len() >= 3, "{want:?}");
    assert_eq!(got, want);
    run(
        "diff -r --no-dereference --exclude=fifo --exclude=null tree \"$0\""
            .replace("$0", root.to_str().unwrap())
            .as_str(),
        dir.path(),
    );
    assert_eq!(std::fs::metadata(root.join("dev/null")).unwrap().rdev(), 0x103);
    assert_eq!(
        std::fs::metadata(root.join("passwd")).unwrap().ino(),
        std::fs::metadata(root.join("passwd-again")).unwrap().ino()
    );
    std::fs::set_permissions(dir.path().join("tree/closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn a_full_disk_is_said_and_the_store_goes_on() {
    let disk = Mounted::tmpfs(6 << 20);
    let store = berth_image::ImageStore::open(disk.join("store"), StoreOptions::default()).await.unwrap();
    let big = TestImage::new(vec![Layer::new(Tarball::new().file("a", b"small").file("big", &vec![7; 8 << 20]))]);
    let digest = Digest::of(&big.blobs[0]);
    let error = load(&store, big.oci_archive(Some("big:1"))).await.unwrap_err();
    assert!(
        matches!(&error, ImageError::Unpack(UnpackError::DiskFull { layer, entry }) if *layer == digest && entry == "big"),
        "{}",
        error.report()
    );
    assert!(error.report().starts_with(&format!("disk full while unpacking layer {digest}")), "{}", error.report());
    assert_eq!(names(&disk.join("store/layers")), [""; 0]);
    // The archive itself does not fit: said as such, too.
    let noisy: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut layer = Layer::new(Tarball::new().file("noise", &noisy));
    layer.compress = Compress::No;
    let error = load(&store, TestImage::new(vec![layer]).oci_archive(Some("noise:1"))).await.unwrap_err();
    assert!(error.report().starts_with("disk full while writing a blob"), "{}", error.report());
    assert_eq!(names(&disk.join("store/ingest")), [""; 0]);
    let small = TestImage::new(vec![Layer::new(Tarball::new().file("a", b"small"))]);
    load(&store, small.oci_archive(Some("small:1"))).await.unwrap();
    assert_eq!(store.list().len(), 1);
}
