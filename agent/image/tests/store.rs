//! Names, leases, removal, pruning, and what a store looks like after a crash.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use berth_image::{Digest, ImageError, ImageStore, PruneFilter, Reference, StoreOptions};
use common::tarball::Tarball;
use common::{Layer, TestImage, TestStore, load, reopen};

/// Two layers: one that all images share, one of its own.
fn image(name: &str) -> TestImage {
    let base = Layer::new(Tarball::new().file("base", &[1; 4000]));
    let own = Layer::new(Tarball::new().file("own", name.as_bytes()));
    TestImage::with_config(vec![base, own], serde_json::json!({"Labels": {"name": name}}), "amd64")
}

async fn loaded(names: &[&str]) -> TestStore {
    let test = TestStore::new().await;
    for name in names {
        load(&test.store, image(name).oci_archive(Some(name))).await.unwrap();
    }
    test
}

fn files(dir: impl AsRef<Path>) -> BTreeSet<String> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn reference(name: &str) -> Reference {
    Reference::parse(name).unwrap()
}

/// Blobs are those of the listed images and no others; layers likewise.
fn assert_exact(test: &TestStore, images: &[&str]) {
    let images: Vec<TestImage> = images.iter().map(|name| image(name)).collect();
    let blobs: BTreeSet<String> = images
        .iter()
        .flat_map(|image| image.blobs.iter().chain([&image.manifest]))
        .map(|blob| Digest::of(blob).hex())
        .collect();
    assert_eq!(files(test.path("blobs/sha256")), blobs);
    let layers: BTreeSet<String> =
        images.iter().flat_map(|image| &image.layers).map(|layer| Digest::of(&layer.plain).hex()).collect();
    assert_eq!(files(test.path("layers")), layers);
}

#[tokio::test]
async fn removal_takes_what_nobody_else_needs() {
    let test = loaded(&["a:1", "b:1"]).await;
    assert_exact(&test, &["a:1", "b:1"]);
    let report = test.store.remove("a:1", false).await.unwrap();
    assert_eq!(report.untagged, [reference("a:1")]);
    assert_eq!(report.deleted, [image("a:1").id()]);
    assert!(report.reclaimed > 0);
    assert_exact(&test, &["b:1"]);
    assert!(matches!(test.store.remove("a:1", false).await, Err(ImageError::NotFound { .. })));
    test.store.remove(&image("b:1").id().hex()[..8], false).await.unwrap();
    assert_exact(&test, &[]);
}

#[tokio::test]
async fn an_image_goes_with_its_last_name() {
    let test = loaded(&["a:1"]).await;
    test.store.tag("a:1", &reference("other/name:2")).await.unwrap();
    let id = image("a:1").id().to_string();
    let error = test.store.remove(&id, false).await.unwrap_err();
    assert!(matches!(&error, ImageError::ManyNames { names, .. } if names.len() == 2), "{error}");
    let report = test.store.remove("a:1", false).await.unwrap();
    assert!(report.deleted.is_empty());
    assert_eq!(test.store.list()[0].names, [reference("other/name:2")]);
    test.store.tag("other/name:2", &reference("a:1")).await.unwrap();
    assert_eq!(test.store.remove(&id, true).await.unwrap().untagged.len(), 2);
    assert!(test.store.list().is_empty());
    let pinned = reference(&format!("a@{id}"));
    assert!(matches!(test.store.tag("a:1", &pinned).await, Err(ImageError::TagWithDigest { .. })));
}

#[tokio::test]
async fn a_name_that_moves_leaves_a_dangling_image_for_prune() {
    let test = loaded(&["a:1", "b:1"]).await;
    test.store.tag("b:1", &reference("a:1")).await.unwrap();
    let dangling: Vec<_> = test.store.list().into_iter().filter(|image| image.names.is_empty()).collect();
    assert_eq!(dangling.len(), 1);
    let report = test.store.prune(false, PruneFilter::default()).await.unwrap();
    assert_eq!(report.deleted, [image("a:1").id()]);
    assert_exact(&test, &["b:1"]);
}

#[tokio::test]
async fn leases_keep_images_over_restart_force_and_prune() {
    let test = loaded(&["a:1", "b:1"]).await;
    test.store.lease("a:1", "task-1").await.unwrap();
    test.store.lease("a:1", "task-1").await.unwrap();
    let error = test.store.remove("a:1", false).await.unwrap_err();
    assert!(matches!(&error, ImageError::InUse { owners, .. } if owners == &["task-1"]), "{error}");
    let TestStore { store, dir } = test;
    drop(store);
    let store = reopen(dir.path(), StoreOptions::default()).await;
    let test = TestStore { store, dir };
    assert_eq!(test.store.list().iter().filter(|image| image.in_use_by == ["task-1"]).count(), 1);
    test.store.prune(true, PruneFilter::default()).await.unwrap();
    assert_exact(&test, &["a:1"]);
    let report = test.store.remove("a:1", true).await.unwrap();
    assert_eq!((report.untagged.len(), report.deleted.len()), (1, 0));
    assert_exact(&test, &["a:1"]);
    test.store.rootfs_layers(&image("a:1").id().to_string()).await.unwrap();
    test.store.release("task-1").await.unwrap();
    test.store.release("task-1").await.unwrap();
    test.store.prune(false, PruneFilter::default()).await.unwrap();
    assert_exact(&test, &[]);
    for bad in ["", "../x", "a/b", ".hidden", "tmp-x"] {
        assert!(test.store.release(bad).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn prune_takes_only_what_every_filter_allows() {
    let test = loaded(&["a:1", "b:1"]).await;
    let label = |value: Option<&str>| vec![("name".to_string(), value.map(str::to_string))];
    let never = [
        PruneFilter { added_before: Some(1), ..PruneFilter::default() },
        PruneFilter { labels: label(Some("c:1")), ..PruneFilter::default() },
        PruneFilter { not_labels: label(None), ..PruneFilter::default() },
    ];
    for filter in never {
        assert!(test.store.prune(true, filter.clone()).await.unwrap().deleted.is_empty(), "{filter:?}");
    }
    let only_a = PruneFilter { added_before: Some(i64::MAX), labels: label(Some("a:1")), ..PruneFilter::default() };
    assert_eq!(test.store.prune(true, only_a).await.unwrap().deleted, [image("a:1").id()]);
    std::fs::write(test.path("ingest").join(format!("{}.part", "0".repeat(64))), [0; 9000]).unwrap();
    assert!(test.store.prune(false, PruneFilter::default()).await.unwrap().reclaimed >= 9000);
    assert_exact(&test, &["b:1"]);
}

#[tokio::test]
async fn a_lost_layer_is_unpacked_again_and_a_lost_blob_is_said() {
    let test = loaded(&["a:1"]).await;
    let layers = test.store.rootfs_layers("a:1").await.unwrap();
    std::fs::remove_dir_all(layers[1].parent().unwrap()).unwrap();
    assert_eq!(test.store.rootfs_layers("a:1").await.unwrap(), layers);
    assert_eq!(std::fs::read(layers[1].join("own")).unwrap(), b"a:1");
    std::fs::remove_dir_all(layers[1].parent().unwrap()).unwrap();
    let blob = Digest::of(&image("a:1").blobs[1]);
    std::fs::remove_file(test.path("blobs/sha256").join(blob.hex())).unwrap();
    let error = test.store.rootfs_layers("a:1").await.unwrap_err();
    assert!(matches!(error, ImageError::BlobMissing { digest, .. } if digest == blob), "{}", error.report());
}

#[tokio::test]
async fn a_second_opener_and_a_newer_format_are_refused() {
    let test = loaded(&["a:1"]).await;
    let result = ImageStore::open(test.dir.path(), StoreOptions::default()).await;
    assert!(matches!(result.err(), Some(ImageError::Locked { .. })));
    let TestStore { store, dir } = test;
    drop(store);
    drop(reopen(dir.path(), StoreOptions::default()).await);
    std::fs::write(dir.path().join("version"), "99\n").unwrap();
    let result = ImageStore::open(dir.path(), StoreOptions::default()).await;
    assert!(matches!(result.err(), Some(ImageError::NewerFormat { found: 99, .. })));
    std::fs::write(dir.path().join("version"), "1\n").unwrap();
    std::fs::write(dir.path().join("images.json"), "{").unwrap();
    let result = ImageStore::open(dir.path(), StoreOptions::default()).await;
    assert!(matches!(result.err(), Some(ImageError::Damaged { .. })));
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept_and_downloads_kept() {
    let test = loaded(&["a:1"]).await;
    let TestStore { store, dir } = test;
    drop(store);
    let part = format!("{}.part", "1".repeat(64));
    std::fs::create_dir_all(dir.path().join("layers/tmp-x/fs/deep")).unwrap();
    std::fs::create_dir_all(dir.path().join("layers/trash-y/fs")).unwrap();
    std::os::unix::fs::symlink(dir.path(), dir.path().join("layers/tmp-link")).unwrap();
    std::fs::write(dir.path().join("ingest/tmp-z"), "x").unwrap();
    std::fs::write(dir.path().join("ingest").join(&part), "x").unwrap();
    std::fs::write(dir.path().join("leases/tmp-l"), "x").unwrap();
    std::fs::write(dir.path().join("leases/torn"), "").unwrap();
    let store = reopen(dir.path(), StoreOptions::default()).await;
    let test = TestStore { store, dir };
    assert_exact(&test, &["a:1"]);
    assert_eq!(files(test.path("ingest")), BTreeSet::from([part]));
    assert!(files(test.path("leases")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn loading_removing_and_pruning_at_once_never_breaks_an_image() {
    let test = TestStore::new().await;
    let worker = |number: usize| {
        let store = test.store.clone();
        tokio::spawn(async move {
            let name = format!("w{number}:1");
            for round in 0..12 {
                load(&store, image(&name).oci_archive(Some(&name))).await.unwrap();
                let owner = format!("owner-{number}");
                store.lease(&name, &owner).await.unwrap();
                for path in store.rootfs_layers(&name).await.unwrap() {
                    assert!(path.join("base").exists() || path.join("own").exists(), "{}", path.display());
                }
                store.save(std::slice::from_ref(&name), tokio::io::sink()).await.unwrap();
                store.release(&owner).await.unwrap();
                match (number + round) % 3 {
                    0 => drop(store.remove(&name, false).await),
                    1 => drop(store.prune(false, PruneFilter::default()).await.unwrap()),
                    _ => {}
                }
            }
        })
    };
    let workers: Vec<_> = (0..4).map(worker).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let names: Vec<String> = test.store.list().iter().flat_map(|i| &i.names).map(Reference::familiar).collect();
    test.store.prune(false, PruneFilter::default()).await.unwrap();
    assert_exact(&test, &names.iter().map(String::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn very_many_layers_get_short_names_that_fit_into_one_mount() {
    let layers: Vec<Layer> =
        (0..90).map(|n| Layer::new(Tarball::new().file(&format!("f{n}"), format!("{n}").as_bytes()))).collect();
    let test = TestStore::new().await;
    load(&test.store, TestImage::new(layers).oci_archive(Some("many:1"))).await.unwrap();
    let paths = test.store.rootfs_layers("many:1").await.unwrap();
    assert_eq!(paths, test.store.rootfs_layers("many:1").await.unwrap());
    let root = common::mounted::Mounted::overlay(&paths);
    assert_eq!(files(&root.path).len(), 90);
    drop(root);
    test.store.remove("many:1", false).await.unwrap();
    assert!(files(test.path("l")).is_empty());
}

const CHILD: &str = "BERTH_IMAGE_TEST_STORE";
const DONE: &str = "one thing done";

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
async fn child_that_loads_and_removes_until_killed() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let store = ImageStore::open(&root, StoreOptions::default()).await.unwrap();
    // One line for each thing done: the parent counts them.
    let done = || println!("{DONE}");
    done();
    loop {
        for name in ["a:1", "b:1", "c:1"] {
            load(&store, image(name).oci_archive(Some(name))).await.unwrap();
            done();
            store.lease(name, name.split(':').next().unwrap()).await.unwrap();
        }
        for name in ["b:1", "a:1", "c:1"] {
            store.release(name.split(':').next().unwrap()).await.unwrap();
            store.remove(name, false).await.unwrap();
            done();
        }
    }
}

#[tokio::test]
async fn a_store_killed_at_any_moment_opens_whole() {
    let dir = tempfile::Builder::new().prefix("berth-image-kill-").tempdir().unwrap();
    let mut seen_images = 0;
    for round in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_loads_and_removes_until_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The number of things done moves through the child's cycle; the moment of the kill is
        // somewhere in the next one.
        // The pipe stays open to the end: the child must die of the kill and of nothing else.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let done = lines.by_ref().map(Result::unwrap).filter(|line| line.contains(DONE));
        let counted = done.take(1 + round % 7).count();
        assert_eq!(counted, 1 + round % 7, "the child ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(round as u64 * 7 % 31));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = ImageStore::open(dir.path(), StoreOptions::default()).await.unwrap();
        for listed in store.list() {
            seen_images += 1;
            let name = listed.id.to_string();
            for path in store.rootfs_layers(&name).await.unwrap() {
                assert!(path.join("base").exists() || path.join("own").exists(), "{}", path.display());
            }
            let sink = tokio::io::sink();
            store.save(&[name], sink).await.unwrap();
        }
        for entry in files(dir.path().join("layers")).iter().chain(&files(dir.path().join("ingest"))) {
            assert!(Digest::from_hex(entry).is_ok(), "{entry} was left");
        }
    }
    assert!(seen_images > 0, "the child never got anything done");
}
