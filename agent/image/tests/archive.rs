//! Loading and saving archives, and what the store says about what it loaded.
#![allow(clippy::unwrap_used)]

mod common;

use berth_image::{ImageError, Reference};
use common::tarball::Tarball;
use common::{Compress, Layer, TestImage, TestStore, compress, describe, load};

fn two_layers() -> TestImage {
    let base = Tarball::new().dir("etc/", 0o755).file("etc/a", b"one").file("etc/b", b"two");
    let top = Tarball::new().dir("etc/", 0o755).file("etc/.wh.a", b"").file("etc/c", b"three");
    let config = serde_json::json!({
        "User": "www-data", "Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w",
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT",
        "Labels": {"l": "v"}, "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1_000_000_000},
    });
    TestImage::with_config(vec![Layer::new(base), Layer::new(top)], config, "amd64")
}

#[tokio::test]
async fn every_archive_form_and_compression_loads_to_the_same_image() {
    let image = two_layers();
    let forms =
        [("oci", image.oci_archive(Some("docker.io/me/app:1"))), ("docker", image.docker_archive(&["me/app:1"]))];
    for (form, archive) in forms {
        for how in [Compress::No, Compress::Gzip, Compress::Zstd] {
            let test = TestStore::new().await;
            let loaded = load(&test.store, compress(&archive, how)).await.unwrap();
            assert_eq!(loaded.len(), 1, "{form} {how:?}");
            assert_eq!(loaded[0].id, image.id(), "{form} {how:?}");
            assert_eq!(loaded[0].names, [Reference::parse("me/app:1").unwrap()]);
            let layers = test.store.rootfs_layers("me/app:1").await.unwrap();
            assert_eq!(layers.len(), 2);
            assert_eq!(std::fs::read(layers[0].join("etc/a")).unwrap(), b"one");
            assert_eq!(std::fs::read(layers[1].join("etc/c")).unwrap(), b"three");
            let listed = test.store.list();
            assert_eq!((listed.len(), listed[0].id, listed[0].size), (1, image.id(), 11));
        }
    }
}

#[tokio::test]
async fn the_configuration_is_typed() {
    let test = TestStore::new().await;
    load(&test.store, two_layers().docker_archive(&["me/app:1"])).await.unwrap();
    let config = test.store.config("me/app:1").await.unwrap().config;
    assert_eq!(config.user, "www-data");
    assert_eq!(config.entrypoint, ["/e"]);
    assert_eq!(config.stop_signal.as_deref(), Some("SIGQUIT"));
    assert!(config.volumes.contains("/data") && config.exposed_ports.contains("80/tcp"));
    assert_eq!(config.healthcheck.unwrap().interval, Some(std::time::Duration::from_secs(1)));
    let details = test.store.inspect("me/app:1").await.unwrap();
    assert_eq!(details.platform, "linux/amd64");
    assert_eq!(details.layers.len(), 2);
    let history = test.store.history("me/app:1").await.unwrap();
    let steps: Vec<_> = history.iter().map(|h| (h.created_by.as_str(), h.size)).collect();
    assert_eq!(steps, [("step 1", 5), ("step 0", 6)]);
    assert_eq!(history[0].id, Some(details.summary.id));
}

#[tokio::test]
async fn what_is_saved_loads_elsewhere_unchanged() {
    let image = two_layers();
    for archive in [image.oci_archive(Some("me/app:1")), image.docker_archive(&["me/app:1"])] {
        let first = TestStore::new().await;
        load(&first.store, archive).await.unwrap();
        first.store.tag("me/app:1", &Reference::parse("other:2").unwrap()).await.unwrap();
        let path = first.path("saved.tar");
        let file = tokio::fs::File::create(&path).await.unwrap();
        let names = ["me/app:1".to_string(), "other:2".to_string()];
        first.store.save(&names, file).await.unwrap();
        let second = TestStore::new().await;
        let loaded = load(&second.store, std::fs::read(&path).unwrap()).await.unwrap();
        assert_eq!(loaded[0].id, image.id());
        assert_eq!(second.store.list()[0].names.len(), 2);
        let (one, two) =
            (first.store.rootfs_layers("other:2").await.unwrap(), second.store.rootfs_layers("other:2").await.unwrap());
        for (one, two) in one.iter().zip(&two) {
            assert_eq!(describe(one), describe(two));
        }
    }
}

#[tokio::test]
async fn a_repeated_layer_in_an_old_archive_is_a_link() {
    let layer = Layer::new(Tarball::new().file("a", b"x"));
    let image = TestImage::new(vec![layer.clone(), layer]);
    let test = TestStore::new().await;
    load(&test.store, image.docker_archive(&["a:1"])).await.unwrap();
    let layers = test.store.rootfs_layers("a:1").await.unwrap();
    assert_eq!(layers[0], layers[1]);
}

#[tokio::test]
async fn unreadable_archives_are_refused_with_the_reason_and_leave_nothing() {
    let good = two_layers().docker_archive(&["me/app:1"]);
    let table: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "it is empty"),
        ("text", b"this is not a tar archive at all".repeat(40), "not a tar archive"),
        ("cut", good[..good.len() / 2].to_vec(), "truncated"),
        (
            "cut gzip",
            {
                let z = compress(&good, Compress::Gzip);
                z[..z.len() / 2].to_vec()
            },
            "truncated",
        ),
        ("xz", b"\xfd7zXZ\0rest".to_vec(), "xz"),
        ("stranger", Tarball::new().file("a", b"x").finish(), "neither"),
        ("escape", Tarball::new().file("../a", b"x").finish(), "outside"),
    ];
    for (what, archive, words) in table {
        let test = TestStore::new().await;
        let error = load(&test.store, archive).await.unwrap_err();
        assert!(error.report().contains(words), "{what}: {}", error.report());
        assert!(test.store.list().is_empty());
        assert_eq!(std::fs::read_dir(test.path("ingest")).unwrap().count(), 0, "{what}");
    }
}

#[tokio::test]
async fn a_manifest_that_contradicts_its_blobs_is_refused() {
    let image = two_layers();
    let mut tar = Tarball::new();
    // The layer under the wrong name: index.json finds no blob of that digest.
    for blob in [&image.config, &image.manifest] {
        tar = tar.file(&format!("blobs/sha256/{}", berth_image::Digest::of(blob).hex()), blob);
    }
    let lie = berth_image::Digest::of(&image.blobs[0]).hex();
    let index =
        serde_json::json!({"schemaVersion": 2, "manifests": [common::descriptor(common::MANIFEST, &image.manifest)]});
    let archive = tar
        .file(&format!("blobs/sha256/{lie}"), b"something else")
        .file("index.json", &serde_json::to_vec(&index).unwrap())
        .finish();
    let test = TestStore::new().await;
    let error = load(&test.store, archive).await.unwrap_err();
    assert!(matches!(error, ImageError::Archive { .. }), "{}", error.report());
    assert!(error.report().contains(&lie), "{}", error.report());
}
