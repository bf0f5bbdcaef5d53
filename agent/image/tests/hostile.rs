//! Layers that mean harm: each fails with an error that names the entry and the layer, writes nothing
//! outside its directory, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use berth_image::{Digest, EntryProblem, ImageError, StoreOptions, UnpackError, UnpackLimits};
use common::tarball::{Spec, Tarball};
use common::{Compress, Layer, TestImage, TestStore, load};
use proptest::prelude::*;
use tar::EntryType;

/// Loads an image with these layers and gives the error, after checking that nothing is left.
async fn refused(options: StoreOptions, layers: Vec<Layer>) -> ImageError {
    let test = TestStore::with(options).await;
    let canary = test.path("canary");
    std::fs::create_dir(&canary).unwrap();
    let image = TestImage::new(layers);
    let error = load(&test.store, image.oci_archive(Some("bad:1"))).await.unwrap_err();
    assert!(test.store.list().is_empty());
    assert_eq!(std::fs::read_dir(&canary).unwrap().count(), 0, "something was written outside");
    wait_for_no_temporary(&test.path("layers")).await;
    error
}

/// Threads of layers that were given up with the bad one end a moment later.
async fn wait_for_no_temporary(layers: &Path) {
    let mut left = Vec::new();
    for _ in 0..500 {
        left = std::fs::read_dir(layers)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("tmp-"))
            .collect();
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("temporary layers are left: {left:?}");
}

fn device(kind: EntryType, major: u32, minor: u32) -> Spec<'static> {
    Spec { kind, device: (major, minor), ..Spec::default() }
}

#[tokio::test]
async fn each_attack_is_named_with_entry_and_layer() {
    use EntryProblem as P;
    type Expected = fn(&EntryProblem) -> bool;
    let long = "n".repeat(300);
    let deep = "d/".repeat(2500) + "f";
    let table: Vec<(Tarball, &str, Expected)> = vec![
        (Tarball::new().file("../canary/x", b"x"), "../canary/x", |p| matches!(p, P::DotDot)),
        (Tarball::new().file("a/../../../canary/x", b"x"), "a/../../../canary/x", |p| matches!(p, P::DotDot)),
        (Tarball::new().file("/etc/berth-canary", b"x"), "/etc/berth-canary", |p| matches!(p, P::Absolute)),
        (Tarball::new().dir("..", 0o777), "..", |p| matches!(p, P::DotDot)),
        (Tarball::new().symlink("out", "/etc").file("out/berth-canary", b"x"), "out/berth-canary", |p| {
            matches!(p, P::ThroughSymlink { .. })
        }),
        (Tarball::new().symlink("out", "../../../canary").file("out/x", b"x"), "out/x", |p| {
            matches!(p, P::ThroughSymlink { .. })
        }),
        (
            Tarball::new().dir("a/", 0o755).symlink("a/b", "..").symlink("a/c", "b/../..").file("a/c/x", b"x"),
            "a/c/x",
            |p| matches!(p, P::ThroughSymlink { .. }),
        ),
        (Tarball::new().symlink("a", "b").symlink("b", "a").file("a/x", b"x"), "a/x", |p| matches!(p, P::SymlinkLoop)),
        (Tarball::new().symlink("out", "/etc").file("out/.wh.passwd", b""), "out/.wh.passwd", |p| {
            matches!(p, P::ThroughSymlink { .. })
        }),
        (Tarball::new().symlink("out", "/etc").hard_link("x", "out/passwd"), "x", |p| {
            matches!(p, P::ThroughSymlink { .. })
        }),
        (Tarball::new().hard_link("x", "../../../../../../etc/passwd"), "x", |p| matches!(p, P::LinkOutside(_))),
        (Tarball::new().hard_link("x", "/etc/passwd"), "x", |p| matches!(p, P::LinkOutside(_))),
        (Tarball::new().hard_link("x", "missing"), "x", |p| matches!(p, P::LinkMissing(_))),
        (Tarball::new().dir("d/", 0o755).hard_link("x", "d"), "x", |p| matches!(p, P::LinkToDirectory(_))),
        (Tarball::new().entry("sda", device(EntryType::Block, 8, 0)), "sda", |p| {
            matches!(p, P::Device { kind: "block", major: 8, minor: 0 })
        }),
        (Tarball::new().entry("mem", device(EntryType::Char, 1, 1)), "mem", |p| matches!(p, P::Device { .. })),
        (Tarball::new().entry("wh", device(EntryType::Char, 0, 0)), "wh", |p| matches!(p, P::Device { .. })),
        (Tarball::new().file(&long, b"x"), &long, |p| matches!(p, P::NameTooLong)),
        (Tarball::new().file(&deep, b"x"), &deep, |p| matches!(p, P::NameTooLong)),
        (Tarball::new().entry("n", Spec { pax: vec![("path", b"a\0b".to_vec())], ..Spec::default() }), "a\0b", |p| {
            matches!(p, P::Nul)
        }),
        (Tarball::new().file(".wh.", b""), ".wh.", |p| matches!(p, P::Whiteout)),
        (Tarball::new().file("a/.wh...", b""), "a/.wh...", |p| matches!(p, P::Whiteout)),
        (Tarball::new().file("f", b"x").file("f/x", b"x"), "f/x", |p| matches!(p, P::NotADirectory(_))),
        (Tarball::new().symlink(".", "/etc"), ".", |p| matches!(p, P::Root)),
        (Tarball::new().symlink("l", ""), "l", |p| matches!(p, P::SymlinkTarget)),
        (Tarball::new().entry("v", Spec { kind: EntryType::new(b'V'), ..Spec::default() }), "v", |p| {
            matches!(p, P::Type('V'))
        }),
    ];
    for (tar, name, expected) in table {
        let layer = Layer::new(tar);
        let digest = Digest::of(&layer.blob());
        let error = refused(StoreOptions::default(), vec![layer]).await;
        match &error {
            ImageError::Unpack(UnpackError::Entry { layer, entry, problem }) => {
                assert_eq!((*layer, entry.as_str()), (digest, name));
                assert!(expected(problem), "{name}: {}", error.report());
            }
            other => panic!("{name}: {}", other.report()),
        }
    }
    assert!(!Path::new("/etc/berth-canary").exists());
}

#[tokio::test]
async fn bombs_and_endless_layers_are_stopped() {
    let zeros = || Tarball::new().file("zeros", &vec![0; 8 << 20]);
    let many = || (0..50).fold(Tarball::new(), |tar, n| tar.file(&format!("f{n}"), b""));
    let with = |limits: UnpackLimits| StoreOptions { limits, ..StoreOptions::default() };
    for compress in [Compress::Gzip, Compress::Zstd] {
        let limits = UnpackLimits { ratio_floor: 1 << 20, max_ratio: 100, ..UnpackLimits::default() };
        let layer = Layer { compress, ..Layer::new(zeros()) };
        let error = refused(with(limits), vec![layer]).await;
        assert!(matches!(error, ImageError::Unpack(UnpackError::Bomb { .. })), "{}", error.report());
        assert!(error.report().contains("decompression bomb"), "{}", error.report());
    }
    let limits = UnpackLimits { max_bytes: 1 << 20, ..UnpackLimits::default() };
    let error = refused(with(limits), vec![Layer::new(zeros())]).await;
    assert!(matches!(error, ImageError::Unpack(UnpackError::TooLarge { .. })), "{}", error.report());
    let limits = UnpackLimits { max_entries: 49, ..UnpackLimits::default() };
    let error = refused(with(limits), vec![Layer::new(many())]).await;
    assert!(matches!(error, ImageError::Unpack(UnpackError::TooManyEntries { .. })), "{}", error.report());
}

#[tokio::test]
async fn damaged_streams_and_wrong_contents_are_told_apart() {
    let good = Layer::new(Tarball::new().file("a", &[7; 5000]));
    // The configuration promises another content.
    let lying = Layer { plain: Tarball::new().file("b", b"").finish(), ..good.clone() };
    let mut image = TestImage::new(vec![good.clone()]);
    let promised = TestImage::new(vec![lying]);
    image.config = promised.config.clone();
    *image.blobs.last_mut().unwrap() = promised.config;
    image.manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2,
        "config": common::descriptor("application/vnd.oci.image.config.v1+json", &image.config),
        "layers": [common::descriptor(good.media_type(), &image.blobs[0])],
    }))
    .unwrap();
    let test = TestStore::new().await;
    let error = load(&test.store, image.oci_archive(None)).await.unwrap_err();
    assert!(matches!(error, ImageError::Unpack(UnpackError::DiffId { .. })), "{}", error.report());

    let mut cut = Layer { compress: Compress::No, ..good };
    cut.plain.truncate(2000);
    let error = refused(StoreOptions::default(), vec![cut]).await;
    assert!(error.report().contains("truncated"), "{}", error.report());
}

#[tokio::test]
async fn a_broken_lower_layer_does_not_hang_the_one_that_waits_for_it() {
    let bottom = Layer::new(Tarball::new().file("../x", b"x"));
    // An implicit parent: it has to look below.
    let top = Layer::new(Tarball::new().file("dir/x", b"x"));
    let options = StoreOptions { max_unpacks: 1, ..StoreOptions::default() };
    let error = refused(options, vec![bottom, top]).await;
    assert!(matches!(error, ImageError::Unpack(UnpackError::Entry { .. })), "{}", error.report());
}

#[tokio::test]
async fn later_entries_replace_earlier_ones_of_any_kind() {
    let tar = Tarball::new()
        .file("file-to-dir", b"x")
        .dir("file-to-dir/", 0o755)
        .file("file-to-dir/in", b"1")
        .dir("dir-to-file/sub/", 0o755)
        .file("dir-to-file/sub/in", b"2")
        .file("dir-to-file", b"3")
        .symlink("link-to-file", "/etc/passwd")
        .file("link-to-file", b"4")
        .file("twice", b"first")
        .file("twice", b"second")
        .symlink("link-to-dir", "file-to-dir")
        .dir("link-to-dir/", 0o700)
        .file("link-to-dir/in", b"5")
        .hard_link("twice", "twice");
    let passwd = std::fs::read("/etc/passwd").unwrap();
    let test = TestStore::new().await;
    let image = TestImage::new(vec![Layer::new(tar)]);
    load(&test.store, image.oci_archive(Some("a:1"))).await.unwrap();
    let root = test.store.rootfs_layers("a:1").await.unwrap().remove(0);
    for (name, content) in [
        ("file-to-dir/in", "1"),
        ("dir-to-file", "3"),
        ("link-to-file", "4"),
        ("twice", "second"),
        ("link-to-dir/in", "5"),
    ] {
        assert_eq!(std::fs::read_to_string(root.join(name)).unwrap(), content, "{name}");
    }
    assert!(!root.join("link-to-file").is_symlink() && !root.join("link-to-dir").is_symlink());
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), passwd);
}

#[tokio::test]
async fn a_relative_link_within_the_layer_may_be_written_through() {
    let tar = Tarball::new().dir("usr/lib/", 0o755).symlink("lib", "usr/lib").file("lib/so", b"x");
    let test = TestStore::new().await;
    let image = TestImage::new(vec![Layer::new(tar)]);
    load(&test.store, image.oci_archive(Some("a:1"))).await.unwrap();
    let root = test.store.rootfs_layers("a:1").await.unwrap().remove(0);
    assert!(root.join("lib").is_symlink());
    assert_eq!(std::fs::read(root.join("usr/lib/so")).unwrap(), b"x");
}

/// One entry out of few names, so that entries meet each other.
#[derive(Debug, Clone)]
struct Any {
    kind: EntryType,
    name: String,
    link: String,
}

/// Mostly harmless names: a layer ends at its first refused entry.
fn any_path(outside: &'static [&'static str], weight: u32) -> impl Strategy<Value = String> {
    let component = prop::sample::select(&["a", "b", "c", "d", "e", ".wh.a", ".wh.b"][..]);
    let inside = prop::collection::vec(component, 1..3).prop_map(|parts| parts.join("/"));
    prop_oneof![20 => inside, weight => prop::sample::select(outside).prop_map(str::to_string)]
}

fn any_entry() -> impl Strategy<Value = Any> {
    let kind = prop_oneof![
        4 => Just(EntryType::Regular),
        4 => Just(EntryType::Directory),
        4 => Just(EntryType::Symlink),
        1 => Just(EntryType::Link),
        1 => Just(EntryType::Fifo),
    ];
    let names = &["/CANARY/new", "../../../canary/new", "a/../../x", "..", "a/.wh..wh..opq", ".wh.."];
    let links = &["/CANARY", "/CANARY/file", "../../../canary", "../a", "b/../../..", "/a", "..", "/"];
    (kind, any_path(names, 1), any_path(links, 20)).prop_map(|(kind, name, link)| Any { kind, name, link })
}

fn any_layer() -> impl Strategy<Value = Vec<Any>> {
    prop::collection::vec(any_entry(), 1..7)
}

fn packed(entries: &[Any], canary: &Path) -> Layer {
    let real = |path: &str| path.replace("/CANARY", canary.to_str().unwrap());
    let tar = entries.iter().fold(Tarball::new(), |tar, entry| {
        let (name, link) = (real(&entry.name), real(&entry.link));
        let data: &[u8] = if entry.kind == EntryType::Regular { b"written" } else { b"" };
        tar.entry(&name, Spec { kind: entry.kind, link: &link, data, mode: 0o777, uid: 1, ..Spec::default() })
    });
    Layer { compress: Compress::No, ..Layer::new(tar) }
}

/// How many inputs are tried: `PROPTEST_CASES`, or 100.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever two layers say, nothing outside changes, and what is accepted can be mounted and walked.
    #[test]
    fn no_layers_at_all_reach_outside(bottom in any_layer(), top in any_layer()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let test = TestStore::new().await;
            let canary = test.path("canary");
            std::fs::create_dir_all(canary.join("dir")).unwrap();
            std::fs::write(canary.join("file"), "untouched").unwrap();
            let before = common::describe(&canary);
            let image = TestImage::new(vec![packed(&bottom, &canary), packed(&top, &canary)]);
            let result = load(&test.store, image.oci_archive(Some("any:1"))).await;
            assert_eq!(common::describe(&canary), before, "{bottom:?} {top:?}: {result:?}");
            assert_eq!(std::fs::read(canary.join("file")).unwrap(), b"untouched");
            match result {
                Ok(_) => {
                    let layers = test.store.rootfs_layers("any:1").await.unwrap();
                    let root = common::mounted::Mounted::overlay(&layers);
                    common::describe(&root.path);
                }
                Err(ImageError::Unpack(UnpackError::Entry { .. })) => {}
                Err(other) => panic!("{bottom:?} {top:?}: {}", other.report()),
            }
        });
    }
}
