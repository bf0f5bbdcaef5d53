//! Images from other stores: good ones, dying ones, and those that mean harm.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use berth_image::{
    Authority, Digest, ImageError, ImageStore, Platform, Progress, PullFrom, PulledImage, Reference, RegistryAuth,
    RegistryError, RetryOptions, StoreOptions,
};
use common::peers::{Fault, Found, StorePeer};
use common::proxy::{self, Proxy};
use common::registry::{Registry, own_address};
use common::tarball::Tarball;
use common::{Layer, TestImage, TestStore, load};

const BIG: usize = 3_000_000;

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(byte).collect()
}

fn image(seed: u64) -> TestImage {
    let small = Layer::new(Tarball::new().file("small", format!("seed {seed}").as_bytes()));
    TestImage::new(vec![big(seed, 0), small])
}

fn big(seed: u64, number: u64) -> Layer {
    Layer::new(Tarball::new().file(&format!("big{number}"), &noise(seed + number, BIG)))
}

fn options() -> StoreOptions {
    let retry = RetryOptions {
        attempts: 2,
        first_delay: Duration::from_millis(10),
        stall_timeout: Duration::from_secs(5),
        ..RetryOptions::default()
    };
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: Some("v1".into()) };
    StoreOptions { retry, platform, ..StoreOptions::default() }
}

/// A name in a registry where nobody listens.
fn nowhere() -> Reference {
    Reference::parse(&format!("{}/app:1", own_address())).unwrap()
}

/// A store that has the image by that name.
async fn having(image: &TestImage, name: &Reference) -> TestStore {
    let test = TestStore::with(options()).await;
    load(&test.store, image.oci_archive(Some(&name.to_string()))).await.unwrap();
    test
}

async fn pull_as(
    store: &ImageStore,
    name: &Reference,
    found: &Arc<Found>,
    authority: Authority,
) -> Result<PulledImage, ImageError> {
    let from = PullFrom { auth: RegistryAuth::Anonymous, peers: Some(Arc::clone(found) as _), authority };
    store.pull_from(name, from, Progress::none()).await
}

async fn pull(store: &ImageStore, name: &Reference, found: &Arc<Found>) -> Result<PulledImage, ImageError> {
    pull_as(store, name, found, Authority::PeersFirst).await
}

async fn assert_has(store: &ImageStore, name: &Reference, seed: u64) {
    let layers = store.rootfs_layers(&name.familiar()).await.unwrap();
    assert!(std::fs::read(layers[0].join("big0")).unwrap() == noise(seed, BIG));
    assert_eq!(std::fs::read_to_string(layers.last().unwrap().join("small")).unwrap(), format!("seed {seed}"));
}

/// Nothing was named, and nothing that was wrong stays to be resumed.
fn assert_nothing(test: &TestStore, blob: &Digest) {
    assert!(test.store.list().is_empty() && !test.store.has_blob(blob));
    let part = test.path("ingest").join(format!("{}.part", blob.hex()));
    assert!(!part.exists(), "{} is left", part.display());
}

#[tokio::test]
async fn an_image_comes_whole_from_another_store_while_its_registry_is_down() {
    for authority in [Authority::PeersFirst, Authority::RegistryFirst] {
        let (image, name) = (image(1), nowhere());
        let first = having(&image, &name).await;
        let found = Found::new(&[&StorePeer::new("a", &first.store, Fault::None)]);
        let test = TestStore::with(options()).await;
        let changes = test.store.changes();
        let pulled = pull_as(&test.store, &name, &found, authority).await.unwrap();
        assert_eq!((pulled.id, pulled.changed), (image.id(), true));
        assert_has(&test.store, &name, 1).await;
        assert!(changes.has_changed().unwrap());
        let whole = test.store.whole().await.unwrap();
        assert_eq!(whole, [name.clone(), pulled.repo_digest.clone()].into());
        // It is a holder itself now, by its digest too.
        let found = Found::new(&[&StorePeer::new("b", &test.store, Fault::None)]);
        let third = TestStore::with(options()).await;
        pull(&third.store, &pulled.repo_digest, &found).await.unwrap();
        assert_has(&third.store, &pulled.repo_digest, 1).await;
    }
}

#[tokio::test]
async fn a_holder_that_dies_in_the_middle_is_followed_by_another_from_there() {
    let (image, name) = (image(2), nowhere());
    let first = having(&image, &name).await;
    let fault = Fault::Cut { after: 1_000_000, times: Arc::new(AtomicUsize::new(1)) };
    let peers = ["a", "b"].map(|peer| StorePeer::new(peer, &first.store, fault.clone()));
    let test = TestStore::with(options()).await;
    pull(&test.store, &name, &Found::new(&[&peers[0], &peers[1]])).await.unwrap();
    assert_has(&test.store, &name, 2).await;
    let big = Digest::of(&image.blobs[0]);
    let mut offsets = peers.map(|peer| peer.offsets(&big));
    offsets.sort();
    assert_eq!(offsets, [vec![0], vec![1_000_000]]);
}

#[tokio::test]
async fn a_holder_that_breaks_once_is_asked_again_when_it_is_the_only_one() {
    let (image, name) = (image(3), nowhere());
    let first = having(&image, &name).await;
    let fault = Fault::Cut { after: 1_000_000, times: Arc::new(AtomicUsize::new(1)) };
    let peer = StorePeer::new("a", &first.store, fault);
    let test = TestStore::with(options()).await;
    pull(&test.store, &name, &Found::new(&[&peer])).await.unwrap();
    assert_eq!(peer.offsets(&Digest::of(&image.blobs[0])), [0, 1_000_000]);
}

#[tokio::test]
async fn a_download_that_was_given_up_is_resumed_by_the_next_pull() {
    let (image, name) = (image(4), nowhere());
    let first = having(&image, &name).await;
    let always = Fault::Cut { after: 500_000, times: Arc::new(AtomicUsize::new(usize::MAX)) };
    let test = TestStore::with(options()).await;
    let (dying, good) = (StorePeer::new("a", &first.store, always), StorePeer::new("b", &first.store, Fault::None));
    let big = Digest::of(&image.blobs[0]);
    // What it gives is never enough to be helped by.
    let short = Fault::Cut { after: 100_000, times: Arc::new(AtomicUsize::new(usize::MAX)) };
    let short = StorePeer::new("c", &first.store, short);
    let error = pull(&test.store, &name, &Found::new(&[&short])).await.unwrap_err();
    assert!(error.report().contains("it died"), "{}", error.report());
    let given = short.offsets(&big).len() as u64 * 100_000;
    pull(&test.store, &name, &Found::new(&[&good])).await.unwrap();
    assert_eq!(good.offsets(&big), [given]);
    // One that always gives something gets there.
    let third = TestStore::with(options()).await;
    pull(&third.store, &name, &Found::new(&[&dying])).await.unwrap();
    assert_has(&third.store, &name, 4).await;
}

#[tokio::test]
async fn a_holder_that_gives_something_else_is_found_out_and_others_are_taken() {
    for fault in [Fault::Lie { after: usize::MAX }, Fault::Lie { after: 1_000_000 }, Fault::TooMuch, Fault::Silent] {
        let (image, name) = (image(5), nowhere());
        let first = having(&image, &name).await;
        let big = Digest::of(&image.blobs[0]);
        let mut hasty = options();
        hasty.retry.stall_timeout = Duration::from_millis(300);
        // Alone it gets nothing in.
        let bad = StorePeer::new("bad", &first.store, fault.clone());
        let test = TestStore::with(hasty.clone()).await;
        let error = pull(&test.store, &name, &Found::new(&[&bad])).await.unwrap_err();
        let text = error.report();
        assert!(text.contains("cannot reach registry") && text.contains("node bad"), "{text}");
        if !matches!(fault, Fault::Lie { after: 1_000_000 }) {
            assert_nothing(&test, &big);
        }
        // Beside a good one it does no harm, whoever is asked first.
        for _ in 0..4 {
            let test = TestStore::with(hasty.clone()).await;
            let bad = StorePeer::new("bad", &first.store, fault.clone());
            let good = StorePeer::new("good", &first.store, Fault::None);
            pull(&test.store, &name, &Found::new(&[&bad, &good])).await.unwrap();
            assert_has(&test.store, &name, 5).await;
        }
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_what_was_asked_for_is_refused() {
    let (image, other, name) = (image(6), image(7), nowhere());
    let first = having(&image, &name).await;
    let pinned = {
        let found = Found::new(&[&StorePeer::new("a", &first.store, Fault::None)]);
        let test = TestStore::with(options()).await;
        pull(&test.store, &name, &found).await.unwrap().repo_digest
    };
    // A digest leads to nothing else.
    let bad = StorePeer::new("bad", &first.store, Fault::Manifest(other.manifest.clone()));
    let test = TestStore::with(options()).await;
    let error = pull(&test.store, &pinned, &Found::new(&[&bad])).await.unwrap_err();
    assert!(error.report().contains("node bad gives something else"), "{}", error.report());
    assert!(test.store.list().is_empty());
    // A name means what most say.
    let good = ["b", "c"].map(|peer| StorePeer::new(peer, &first.store, Fault::None));
    pull(&test.store, &name, &Found::new(&[&bad, &good[0], &good[1]])).await.unwrap();
    assert_has(&test.store, &name, 6).await;
    // Impossible ones: no manifest; a blob of no bytes with a digest of some.
    let empty = serde_json::json!({
        "schemaVersion": 2, "mediaType": common::MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(b"x").to_string(), "size": 0},
        "layers": [],
    });
    for document in [b"<html>".to_vec(), serde_json::to_vec(&empty).unwrap()] {
        let bad = StorePeer::new("bad", &first.store, Fault::Manifest(document));
        let test = TestStore::with(options()).await;
        let error = pull(&test.store, &name, &Found::new(&[&bad])).await.unwrap_err();
        assert!(matches!(error, ImageError::Nowhere { .. }), "{}", error.report());
        assert_nothing(&test, &Digest::of(b"x"));
    }
}

#[tokio::test]
async fn a_layer_that_means_harm_is_unpacked_by_nobody() {
    let bad = TestImage::new(vec![Layer::new(Tarball::new().file("../../canary", b"x"))]);
    let first = TestStore::with(options()).await;
    // It is only shared, never unpacked, by whoever means harm.
    let harmless = image(8);
    load(&first.store, harmless.oci_archive(None)).await.unwrap();
    for blob in bad.blobs.iter().chain([&bad.manifest]) {
        std::fs::write(first.path("blobs/sha256").join(Digest::of(blob).hex()), blob).unwrap();
    }
    let test = TestStore::with(options()).await;
    let peer = StorePeer::new("bad", &first.store, Fault::Manifest(bad.manifest.clone()));
    let error = pull(&test.store, &nowhere(), &Found::new(&[&peer])).await.unwrap_err();
    assert!(error.report().contains("../../canary"), "{}", error.report());
    assert!(test.store.list().is_empty() && !test.path("canary").exists());
}

#[tokio::test]
async fn layers_come_from_several_holders_at_once_and_once_for_all_who_want_them() {
    let (image, name) = (TestImage::new(vec![big(9, 0), big(9, 1)]), nowhere());
    let first = having(&image, &name).await;
    let together = Fault::Together(Arc::new(tokio::sync::Barrier::new(2)));
    let peers = ["a", "b"].map(|peer| StorePeer::new(peer, &first.store, together.clone()));
    let found = Found::new(&[&peers[0], &peers[1]]);
    let test = TestStore::with(options()).await;
    let starts = (0..8).map(|_| pull(&test.store, &name, &found));
    for pulled in futures::future::join_all(starts).await {
        assert_eq!(pulled.unwrap().id, image.id());
    }
    assert_eq!(found.looks.load(Ordering::SeqCst), 1);
    for blob in &image.blobs {
        let asked: usize = peers.iter().map(|peer| peer.offsets(&Digest::of(blob)).len()).sum();
        assert_eq!(asked, 1, "each blob is fetched once");
    }
    for peer in &peers {
        let big = image.blobs[..2].iter().filter(|blob| !peer.offsets(&Digest::of(blob)).is_empty());
        assert_eq!(big.count(), 1, "one big layer from each");
    }
}

#[tokio::test]
async fn the_registry_says_what_a_name_means_and_others_give_the_layers() {
    let registry = Registry::start().await;
    let (new, old) = (image(10), image(11));
    registry.push("app", "1", &new).await;
    let proxy = Proxy::start(registry.address(), proxy::Fault::None).await;
    let name = Reference::parse(&format!("{}/app:1", proxy.host())).unwrap();
    // One has the image by another name, and an older one by this.
    let first = having(&old, &name).await;
    load(&first.store, new.oci_archive(Some("other:1"))).await.unwrap();
    let found = Found::new(&[&StorePeer::new("a", &first.store, Fault::None)]);
    let test = TestStore::with(options()).await;
    pull_as(&test.store, &name, &found, Authority::RegistryFirst).await.unwrap();
    assert_has(&test.store, &name, 10).await;
    assert_eq!((proxy.count(&["/manifests/1"]), proxy.count(&["/blobs/"])), (1, 0));
    // What no other has comes from the registry.
    let nobody = Found::new(&[]);
    let test = TestStore::with(options()).await;
    pull(&test.store, &name, &nobody).await.unwrap();
    assert_has(&test.store, &name, 10).await;
    let missing = Reference::parse(&format!("{}/app:2", proxy.host())).unwrap();
    let error = pull(&test.store, &missing, &nobody).await.unwrap_err();
    let text = error.report();
    assert!(text.contains("was not found in registry") && text.contains("no other node has"), "{text}");
}

#[tokio::test]
async fn whom_the_registry_refuses_gets_nothing_from_others_when_it_is_the_authority() {
    let registry = Registry::start_with_login().await;
    let image = image(12);
    registry.push("app", "1", &image).await;
    let name = Reference::parse(&format!("{}/app:1", registry.host())).unwrap();
    let first = having(&image, &name).await;
    let found = Found::new(&[&StorePeer::new("a", &first.store, Fault::None)]);
    let test = TestStore::with(options()).await;
    let error = pull_as(&test.store, &name, &found, Authority::RegistryFirst).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Unauthorized { .. })), "{}", error.report());
    pull(&test.store, &name, &found).await.unwrap();
}

#[tokio::test]
async fn the_index_goes_along_so_that_its_digest_can_be_checked() {
    let registry = Registry::start().await;
    let (amd, arm) = (image(13), TestImage::with_config(vec![], serde_json::json!({}), "arm64"));
    let index = registry.push_index("multi", "1", &[("linux/arm64", &arm), ("linux/amd64", &amd)]).await;
    let name = Reference::parse(&format!("{}/multi:1", registry.host())).unwrap();
    let first = TestStore::with(options()).await;
    let pulled = first.store.pull(&name, RegistryAuth::Anonymous, Progress::none()).await.unwrap();
    assert_eq!(pulled.repo_digest.digest(), Some(index));
    // The sweep leaves it.
    first.store.prune(true, Default::default()).await.unwrap();
    let pulled = first.store.pull(&name, RegistryAuth::Anonymous, Progress::none()).await.unwrap();
    load(&first.store, image(14).oci_archive(None)).await.unwrap();
    first.store.prune(false, Default::default()).await.unwrap();
    drop(registry);
    let found = Found::new(&[&StorePeer::new("a", &first.store, Fault::None)]);
    let test = TestStore::with(options()).await;
    let again = pull(&test.store, &pulled.repo_digest, &found).await.unwrap();
    assert_eq!((again.id, again.repo_digest), (amd.id(), pulled.repo_digest.clone()));
    // A machine of another kind gets nothing from this one.
    let mut other = options();
    other.platform.architecture = "arm64".into();
    let test = TestStore::with(other).await;
    let error = pull(&test.store, &name, &found).await.unwrap_err();
    assert!(error.report().contains("node a does not have"), "{}", error.report());
}
