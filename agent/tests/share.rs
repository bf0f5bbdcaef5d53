//! Images between nodes over the wire: stores in one process, each behind its own server on loopback.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_agent::executor::{Acquired, Images, NodeImages};
use berth_agent::reach::{ManagerAddress, Reach};
use berth_agent::session::Link;
use berth_agent::share::{NodePeers, ShareService, Told};
use berth_agent::task::Progress;
use berth_image::{Digest, ImageStore, Reference, RetryOptions, StoreOptions};
use berth_proto::id::{NodeId, TaskId};
use berth_proto::pb;
use berth_proto::pb::dispatcher_server::{Dispatcher, DispatcherServer};
use berth_proto::pb::image_share_client::ImageShareClient;
use berth_proto::pb::image_share_server::{ImageShare, ImageShareServer};
use berth_proto::spec::PullPolicy;
use futures::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of the layer; more than any buffer on the way.
const BIG: usize = 4_000_000;

/// A store in a directory of its own.
struct Store {
    images: ImageStore,
    _dir: tempfile::TempDir,
}

impl Store {
    async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("berth-share-test").tempdir().unwrap();
        let retry = RetryOptions { attempts: 2, first_delay: Duration::from_millis(10), ..RetryOptions::default() };
        let options = StoreOptions { retry, ..StoreOptions::default() };
        Self { images: ImageStore::open(dir.path(), options).await.unwrap(), _dir: dir }
    }

    /// One that has an image of one layer by that name.
    async fn having(name: &str) -> Self {
        let store = Self::new().await;
        store.load(name).await;
        store
    }

    async fn load(&self, name: &str) {
        let archive = std::io::Cursor::new(archive(name));
        self.images.load(archive, berth_image::Progress::none()).await.unwrap();
    }
}

/// A docker-archive with a layer that holds one big file.
fn archive(name: &str) -> Vec<u8> {
    let layer = tar(&[("big", &noise())]);
    let config = serde_json::to_vec(&serde_json::json!({
        "architecture": berth_image::Platform::host().architecture, "os": "linux",
        "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] },
    }));
    let config = config.unwrap();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    tar(&[("config.json", &config), ("layer.tar", &layer), ("manifest.json", &manifest)])
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        archive.append_data(&mut header, name, *data).unwrap();
    }
    archive.into_inner().unwrap()
}

fn noise() -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..BIG).map(|_| next()).collect()
}

/// A service whose first streams break.
#[derive(Clone)]
struct Dying {
    inner: ShareService,
    breaks: Arc<AtomicUsize>,
    offsets: Arc<Mutex<Vec<u64>>>,
}

#[tonic::async_trait]
impl ImageShare for Dying {
    async fn resolve(
        &self,
        request: Request<pb::ShareResolveRequest>,
    ) -> Result<Response<pb::ShareResolveResponse>, Status> {
        self.inner.resolve(request).await
    }

    type BlobStream = Pin<Box<dyn Stream<Item = Result<pb::CopyChunk, Status>> + Send>>;

    async fn blob(&self, request: Request<pb::ShareBlobRequest>) -> Result<Response<Self::BlobStream>, Status> {
        let offset = request.get_ref().offset;
        let chunks = self.inner.blob(request).await?.into_inner();
        // Documents are shorter than a message.
        let mut chunks = chunks.peekable();
        let first = Pin::new(&mut chunks).peek().await.map_or(0, |chunk| chunk.as_ref().unwrap().data.len());
        if first < 64 << 10 {
            return Ok(Response::new(Box::pin(chunks)));
        }
        self.offsets.lock().unwrap().push(offset);
        if self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            return Ok(Response::new(Box::pin(chunks)));
        }
        let broken = futures::stream::iter([Err(Status::unavailable("it died"))]);
        Ok(Response::new(Box::pin(chunks.take(8).chain(broken))))
    }
}

/// A manager that knows who has what, and the ways to those.
#[derive(Clone, Default)]
struct World {
    nodes: Arc<Mutex<BTreeMap<NodeId, SocketAddr>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// Serves a node's images on loopback.
    async fn serve(&self, node: u128, service: impl ImageShare) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        self.nodes.lock().unwrap().insert(NodeId::from_random(node), listener.local_addr().unwrap());
        let server = Server::builder().add_service(ImageShareServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }

    async fn share(&self, node: u128, store: &Store) {
        self.serve(node, ShareService::new(store.images.clone(), CancellationToken::new())).await;
    }

    /// The images of a node that has a session with the manager, or none.
    fn images(&self, node: u128, store: &Store, session: bool) -> NodeImages {
        let channel = memory(Server::builder().add_service(DispatcherServer::new(self.clone())));
        let manager = ManagerAddress { node: None, address: "m".into() };
        let link = watch::Sender::new(session.then_some(Link { manager, channel }));
        let peers = NodePeers::new(NodeId::from_random(node), link.subscribe(), Arc::new(self.clone()));
        NodeImages::new(store.images.clone(), Arc::new(peers))
    }
}

impl Reach for World {
    fn manager(&self, _: &ManagerAddress) -> Result<Channel, String> {
        Err("the session has its channel".into())
    }

    fn node(&self, node: NodeId, address: &str) -> Result<Channel, String> {
        assert_eq!(self.nodes.lock().unwrap()[&node].to_string(), address);
        Ok(Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy())
    }
}

#[tonic::async_trait]
impl Dispatcher for World {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::ManagerMessage, Status>> + Send>>;

    async fn session(&self, _: Request<Streaming<pb::AgentMessage>>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn find_image(
        &self,
        request: Request<pb::FindImageRequest>,
    ) -> Result<Response<pb::FindImageResponse>, Status> {
        self.asked.lock().unwrap().push(request.into_inner().reference);
        let nodes = self.nodes.lock().unwrap();
        let holder = |(node, address): (&NodeId, &SocketAddr)| pb::find_image_response::Holder {
            node_id: node.to_string(),
            address: address.to_string(),
        };
        Ok(Response::new(pb::FindImageResponse { holders: nodes.iter().map(holder).collect() }))
    }

    async fn check_node(
        &self,
        _request: Request<pb::CheckNodeRequest>,
    ) -> Result<Response<pb::CheckNodeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn leave(&self, _: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A name in a registry where nobody listens.
fn nowhere() -> String {
    let closed = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    format!("{closed}/app:1")
}

async fn acquire(images: &NodeImages, name: &str, policy: PullPolicy) -> Result<Acquired, String> {
    images.acquire(name, policy, TaskId::from_random(1), &Progress::default()).await
}

fn assert_whole(acquired: &Acquired) {
    assert!(std::fs::read(acquired.layers[0].join("big")).unwrap() == noise());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_loaded_runs_on_another_while_the_registry_is_down() {
    let (name, world) = (nowhere(), World::default());
    let (first, second, third) = (Store::having(&name).await, Store::new().await, Store::new().await);
    world.share(1, &first).await;
    // A node is never its own source.
    world.share(2, &second).await;
    assert_whole(&acquire(&world.images(2, &second, true), &name, PullPolicy::IfNotPresent).await.unwrap());
    assert_eq!(*world.asked.lock().unwrap(), [name.as_str()]);
    assert_whole(&acquire(&world.images(3, &third, true), &name, PullPolicy::Always).await.unwrap());
    // What is here is here, whoever else is gone.
    assert_whole(&acquire(&World::default().images(3, &third, false), &name, PullPolicy::Always).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_breaks_goes_on_at_another_node() {
    let (name, world) = (nowhere(), World::default());
    let (first, second) = (Store::having(&name).await, Store::new().await);
    let inner = ShareService::new(first.images.clone(), CancellationToken::new());
    let dying = Dying { inner, breaks: Arc::new(AtomicUsize::new(1)), offsets: Arc::default() };
    world.serve(1, dying.clone()).await;
    world.serve(2, dying.clone()).await;
    assert_whole(&acquire(&world.images(3, &second, true), &name, PullPolicy::IfNotPresent).await.unwrap());
    let offsets = dying.offsets.lock().unwrap().clone();
    assert_eq!(offsets, [0, 8 * (128 << 10)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_start_together_fetch_a_layer_once() {
    let (name, world) = (nowhere(), World::default());
    let (first, second) = (Store::having(&name).await, Store::new().await);
    let inner = ShareService::new(first.images.clone(), CancellationToken::new());
    let counting = Dying { inner, breaks: Arc::default(), offsets: Arc::default() };
    world.serve(1, counting.clone()).await;
    let images = world.images(2, &second, true);
    let starts = (0..10).map(|task| {
        let (images, name) = (&images, &name);
        async move {
            let progress = Progress::default();
            images.acquire(name, PullPolicy::IfNotPresent, TaskId::from_random(task), &progress).await
        }
    });
    for acquired in futures::future::join_all(starts).await {
        assert_whole(&acquired.unwrap());
    }
    assert_eq!(*counting.offsets.lock().unwrap(), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_has_is_said_of_registry_and_nodes() {
    let (name, world) = (nowhere(), World::default());
    let (other, store) = (Store::having("other:1").await, Store::new().await);
    let policy = PullPolicy::IfNotPresent;
    let error = acquire(&world.images(2, &store, true), &name, policy).await.unwrap_err();
    assert!(error.contains("cannot reach registry") && error.contains("no other node has"), "{error}");
    world.share(1, &other).await;
    let error = acquire(&world.images(2, &store, true), &name, policy).await.unwrap_err();
    assert!(error.contains("cannot reach registry") && error.contains("does not have"), "{error}");
    let error = acquire(&world.images(2, &store, false), &name, policy).await.unwrap_err();
    assert!(error.contains("there is no session with a manager"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_gives_only_what_is_there() {
    let store = Store::having("app:1").await;
    let service = ShareService::new(store.images.clone(), CancellationToken::new());
    let mut client = ImageShareClient::new(memory(Server::builder().add_service(service.into_server())));
    let platform = Some(pb::Platform { os: "linux".into(), ..pb::Platform::default() });
    let resolve = |reference: &str| pb::ShareResolveRequest { reference: reference.into(), platform: platform.clone() };
    let found = client.resolve(resolve("app:1")).await.unwrap().into_inner();
    assert_eq!(found.digest, Digest::of(&found.manifest).to_string());
    let manifest: serde_json::Value = serde_json::from_slice(&found.manifest).unwrap();
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let size = manifest["layers"][0]["size"].as_u64().unwrap();
    let blob = |digest: &str, offset| pb::ShareBlobRequest { digest: digest.into(), offset };
    let chunks: Vec<_> = client.blob(blob(&layer, size - 5)).await.unwrap().into_inner().collect().await;
    assert_eq!(chunks.iter().map(|chunk| chunk.as_ref().unwrap().data.len()).collect::<Vec<_>>(), [5]);
    let chunks: Vec<_> = client.blob(blob(&layer, size)).await.unwrap().into_inner().collect().await;
    assert!(chunks.is_empty());
    for (digest, offset, code) in [
        (layer.as_str(), size + 1, Code::OutOfRange),
        (&Digest::of(b"no").to_string(), 0, Code::NotFound),
        ("sha256:../../images.json", 0, Code::InvalidArgument),
    ] {
        assert_eq!(client.blob(blob(digest, offset)).await.unwrap_err().code(), code, "{digest}");
    }
    for (reference, code) in [("app:2", Code::NotFound), ("A b", Code::InvalidArgument)] {
        assert_eq!(client.resolve(resolve(reference)).await.unwrap_err().code(), code, "{reference}");
    }
    // An image whose layer somebody has deleted is not whole.
    let hex = layer.strip_prefix("sha256:").unwrap();
    std::fs::remove_file(store.images.root().join("blobs/sha256").join(hex)).unwrap();
    assert_eq!(client.resolve(resolve("app:1")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_busy_sends_others_away_and_drops_those_that_take_nothing() {
    let store = Store::having("app:1").await;
    let service = ShareService::new(store.images.clone(), CancellationToken::new());
    let mut client = ImageShareClient::new(memory(Server::builder().add_service(service.into_server())));
    let layer = store.images.inspect("app:1").await.unwrap().layers[0].digest.to_string();
    let blob = || pb::ShareBlobRequest { digest: layer.clone(), offset: 0 };
    let mut slow = Vec::new();
    for _ in 0..16 {
        slow.push(client.blob(blob()).await.unwrap().into_inner());
    }
    assert_eq!(client.blob(blob()).await.unwrap_err().code(), Code::Unavailable);
    // On the tests' own clock, until the slow ones are given up.
    let mut served = client.blob(blob()).await;
    for _ in 0..10 {
        if served.is_ok() {
            break;
        }
        served = client.blob(blob()).await;
    }
    served.unwrap();
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_node_has_is_told_as_it_changes() {
    let store = Store::having("app:1").await;
    let told = Arc::new(Told::new(store.images.clone()));
    let (mut references, stop) = (told.references(), CancellationToken::new());
    let running = tokio::spawn({
        let (told, stop) = (Arc::clone(&told), stop.clone());
        async move { told.run(stop).await }
    });
    let mut until = async |names: &[&str]| {
        let expected: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let found = tokio::time::timeout(PATIENCE, references.wait_for(|told| *told == expected)).await;
        found.unwrap_or_else(|_| panic!("{expected:?} is not told")).unwrap();
    };
    until(&["app:1"]).await;
    store.images.tag("app:1", &Reference::parse("localhost:5000/b:2").unwrap()).await.unwrap();
    until(&["app:1", "localhost:5000/b:2"]).await;
    store.images.remove("app:1", false).await.unwrap();
    until(&["localhost:5000/b:2"]).await;
    stop.cancel();
    tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
}

/// Serves over pipes in memory and connects to it.
fn memory(router: tonic::transport::server::Router) -> Channel {
    let (send, receive) = mpsc::channel::<Result<tokio::io::DuplexStream, std::io::Error>>(4);
    tokio::spawn(router.serve_with_incoming(ReceiverStream::new(receive)));
    Endpoint::from_static("http://node").connect_with_connector_lazy(tower::service_fn(move |_| {
        let send = send.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            send.send(Ok(theirs)).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    }))
}
