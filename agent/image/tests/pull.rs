//! Pulling from Debian's docker-registry, over good and bad connections.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use berth_image::{
    Digest, ImageError, LayerState, Platform, Progress, ProgressEvent, Reference, RegistryAuth, RegistryError,
    RetryOptions, StoreOptions,
};
use common::proxy::{Fault, Proxy};
use common::registry::Registry;
use common::tarball::Tarball;
use common::{Compress, Layer, TestImage, TestStore};

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect()
}

fn image(seed: u64) -> TestImage {
    let base = Layer::new(Tarball::new().dir("a/", 0o755).file("a/big", &noise(seed, 3_000_000)));
    let mut top = Layer::new(Tarball::new().file("small", format!("seed {seed}").as_bytes()));
    top.compress = Compress::Zstd;
    TestImage::new(vec![base, top])
}

fn options() -> StoreOptions {
    let retry = RetryOptions { first_delay: Duration::from_millis(10), ..RetryOptions::default() };
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: Some("v1".into()) };
    StoreOptions { retry, platform, ..StoreOptions::default() }
}

fn reference(host: &str, rest: &str) -> Reference {
    Reference::parse(&format!("{host}/{rest}")).unwrap()
}

async fn pull(test: &TestStore, reference: &Reference) -> Result<berth_image::PulledImage, ImageError> {
    test.store.pull(reference, RegistryAuth::Anonymous, Progress::none()).await
}

#[tokio::test]
async fn a_pulled_image_is_complete_named_and_told_about() {
    let registry = Registry::start().await;
    let image = image(1);
    registry.push("me/app", "1", &image).await;
    let test = TestStore::with(options()).await;
    let name = reference(&registry.host(), "me/app:1");
    let (progress, mut events) = Progress::channel(10_000);
    let pulled = test.store.pull(&name, RegistryAuth::Anonymous, progress).await.unwrap();
    assert_eq!((pulled.id, pulled.changed), (image.id(), true));
    assert_eq!(pulled.repo_digest.digest(), Some(Digest::of(&image.manifest)));
    let layers = test.store.rootfs_layers(&name.familiar()).await.unwrap();
    assert_eq!(std::fs::read(layers[0].join("a/big")).unwrap(), noise(1, 3_000_000));
    assert_eq!(std::fs::read(layers[1].join("small")).unwrap(), b"seed 1");
    // By digest as well.
    assert_eq!(test.store.resolve(&pulled.repo_digest.to_string()).unwrap(), image.id());
    assert!(!pull(&test, &name).await.unwrap().changed);

    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    let big = Digest::of(&image.blobs[0]);
    let states: Vec<&LayerState> = seen
        .iter()
        .filter_map(|event| match event {
            ProgressEvent::Layer { layer, state } if *layer == big => Some(state),
            _ => None,
        })
        .collect();
    let size = image.blobs[0].len() as u64;
    assert_eq!(states.first(), Some(&&LayerState::Waiting));
    assert!(states.contains(&&LayerState::Downloading { done: size, total: size }), "{states:?}");
    assert!(states.contains(&&LayerState::Verifying), "{states:?}");
    assert_eq!(states.last(), Some(&&LayerState::Done));
    assert!(matches!(seen.last(), Some(ProgressEvent::Done { id, .. }) if *id == image.id()));
}

#[tokio::test]
async fn the_right_platform_is_taken_and_others_are_listed_when_there_is_none() {
    let registry = Registry::start().await;
    let (amd, arm) = (image(2), TestImage::with_config(vec![], serde_json::json!({}), "arm64"));
    let index = registry.push_index("multi", "1", &[("linux/arm64", &arm), ("linux/amd64", &amd)]).await;
    let name = reference(&registry.host(), "multi:1");
    let test = TestStore::with(options()).await;
    let pulled = pull(&test, &name).await.unwrap();
    assert_eq!(pulled.id, amd.id());
    assert_eq!(pulled.repo_digest.digest(), Some(index));

    let mut other = options();
    other.platform.architecture = "s390x".into();
    let test = TestStore::with(other).await;
    let error = pull(&test, &name).await.unwrap_err();
    let text = error.report();
    assert!(text.contains("linux/s390x") && text.contains("linux/arm64, linux/amd64"), "{text}");
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_was() {
    let registry = Registry::start().await;
    let image = image(3);
    registry.push("app", "1", &image).await;
    let blob = format!("/blobs/{}", Digest::of(&image.blobs[0]));
    let fault = Fault::Cut { path: blob.clone(), after: 1_000_000, times: 2 };
    let proxy = Proxy::start(registry.address(), fault).await;
    let test = TestStore::with(options()).await;
    pull(&test, &reference(&proxy.host(), "app:1")).await.unwrap();
    assert_eq!(proxy.count(&[&blob]), 3);
    assert_eq!(proxy.count(&[&blob, "range: bytes="]), 2, "later requests ask for the rest only");
}

#[tokio::test]
async fn a_given_up_download_is_resumed_by_another_process() {
    let registry = Registry::start().await;
    let image = image(4);
    registry.push("app", "1", &image).await;
    let blob = format!("/blobs/{}", Digest::of(&image.blobs[0]));
    let fault = Fault::Cut { path: blob.clone(), after: 1_000_000, times: usize::MAX };
    let proxy = Proxy::start(registry.address(), fault.clone()).await;
    let mut hasty = options();
    hasty.retry.attempts = 1;
    let test = TestStore::with(hasty).await;
    let name = reference(&proxy.host(), "app:1");
    let error = pull(&test, &name).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Broken { .. })), "{}", error.report());
    assert!(test.store.list().is_empty());
    let TestStore { store, dir } = test;
    drop(store);
    proxy.set(Fault::None);
    let store = common::reopen(dir.path(), options()).await;
    store.pull(&name, RegistryAuth::Anonymous, Progress::none()).await.unwrap();
    assert_eq!(proxy.count(&[&blob, "range: bytes="]), 1);
}

#[tokio::test]
async fn a_torn_partial_file_is_thrown_away_once() {
    let registry = Registry::start().await;
    let image = image(5);
    registry.push("app", "1", &image).await;
    let test = TestStore::with(options()).await;
    let part = test.path("ingest").join(format!("{}.part", Digest::of(&image.blobs[0]).hex()));
    std::fs::write(&part, vec![0; 100_000]).unwrap();
    pull(&test, &reference(&registry.host(), "app:1")).await.unwrap();
    assert!(!part.exists());
}

#[tokio::test]
async fn a_flipped_bit_is_a_digest_mismatch_and_nothing_stays() {
    let registry = Registry::start().await;
    let image = image(6);
    registry.push("app", "1", &image).await;
    let blob = Digest::of(&image.blobs[0]);
    let fault = Fault::Flip { path: format!("/blobs/{blob}"), at: 500_000 };
    let proxy = Proxy::start(registry.address(), fault).await;
    let test = TestStore::with(options()).await;
    let error = pull(&test, &reference(&proxy.host(), "app:1")).await.unwrap_err();
    assert!(matches!(error, ImageError::DigestMismatch { expected, .. } if expected == blob), "{}", error.report());
    assert!(test.store.list().is_empty() && !test.store.has_blob(&blob));
    assert!(!test.path("ingest").join(format!("{}.part", blob.hex())).exists());
}

#[tokio::test]
async fn a_manifest_that_is_not_what_the_digest_says_is_refused() {
    let registry = Registry::start().await;
    let image = image(7);
    registry.push("app", "1", &image).await;
    let digest = Digest::of(&image.manifest);
    let fault = Fault::Flip { path: format!("/manifests/{digest}"), at: 900 };
    let proxy = Proxy::start(registry.address(), fault).await;
    let test = TestStore::with(options()).await;
    let error = pull(&test, &reference(&proxy.host(), &format!("app@{digest}"))).await.unwrap_err();
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{}", error.report());
}

#[tokio::test]
async fn two_pulls_at_once_share_one_download() {
    let registry = Registry::start().await;
    let image = image(8);
    registry.push("app", "1", &image).await;
    registry.push("app", "2", &image).await;
    let blob = format!("/blobs/{}", Digest::of(&image.blobs[0]));
    let proxy = Proxy::start(registry.address(), Fault::Hold { path: blob.clone() }).await;
    let test = TestStore::with(options()).await;
    let (same, other) = (reference(&proxy.host(), "app:1"), reference(&proxy.host(), "app:2"));
    let pulls = async { futures::join!(pull(&test, &same), pull(&test, &same), pull(&test, &other)) };
    let release = async {
        proxy.wait_held(1).await;
        // The pull of the other tag has read its manifest, and must not ask for the blob too.
        for _ in 0..1000 {
            if proxy.count(&["/manifests/2"]) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        proxy.release();
    };
    let ((a, b, c), ()) = futures::join!(pulls, release);
    assert_eq!(a.unwrap().id, image.id());
    assert_eq!(b.unwrap().id, image.id());
    assert_eq!(c.unwrap().id, image.id());
    assert_eq!(proxy.count(&["/manifests/1"]), 1);
    assert_eq!(proxy.count(&[&blob]), 1);
}

#[tokio::test]
async fn a_dropped_pull_stops_and_leaves_the_store_usable() {
    let registry = Registry::start().await;
    let image = image(9);
    registry.push("app", "1", &image).await;
    let blob = format!("/blobs/{}", Digest::of(&image.blobs[0]));
    let proxy = Proxy::start(registry.address(), Fault::Hold { path: blob.clone() }).await;
    let test = TestStore::with(options()).await;
    let name = reference(&proxy.host(), "app:1");
    tokio::select! {
        biased;
        () = proxy.wait_held(1) => {}
        result = pull(&test, &name) => panic!("the pull ended: {result:?}"),
    }
    assert!(test.store.list().is_empty());
    proxy.set(Fault::None);
    assert_eq!(pull(&test, &name).await.unwrap().id, image.id());
}

#[tokio::test]
async fn a_registry_with_a_login_wants_the_right_one() {
    let registry = Registry::start_with_login().await;
    let image = image(10);
    registry.push("app", "1", &image).await;
    let name = reference(&registry.host(), "app:1");
    let test = TestStore::with(options()).await;
    let auth = |password: &str| RegistryAuth::Basic { username: "me".into(), password: password.into() };
    let error = pull(&test, &name).await.unwrap_err();
    assert!(error.report().contains("without credentials"), "{}", error.report());
    let error = test.store.pull(&name, auth("wrong"), Progress::none()).await.unwrap_err();
    assert!(error.report().contains("check user name and password"), "{}", error.report());
    test.store.pull(&name, auth("secret"), Progress::none()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_said_clearly() {
    let registry = Registry::start().await;
    let test = TestStore::with(options()).await;
    let error = pull(&test, &reference(&registry.host(), "no/such:1")).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::NotFound { .. })), "{}", error.report());
    assert!(error.report().contains("no/such:1 was not found"), "{}", error.report());
    let host = registry.host();
    drop(registry);
    let mut hasty = options();
    hasty.retry.attempts = 2;
    let test = TestStore::with(hasty).await;
    let error = pull(&test, &reference(&host, "app:1")).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Unreachable { .. })), "{}", error.report());
}
