//! A manager that serves HTTP, tokens for it, and nodes that run whatever they are given.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod dom;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use berth_http::Site;
use berth_http::routes::Routes;
use berth_http::serve::Limits;
use berth_http::tls::{self, Tls};
use berth_manager::api::{ControlApi, token};
use berth_manager::identity::Credentials;
use berth_manager::manager::{ControlHandle, Manager, ManagerConfig};
use berth_manager::raft::ProposeError;
use berth_manager::store::{State, Transaction};
use berth_proto::id::{Id, NodeId, ServiceId};
use berth_proto::object::{Meta, Node, NodeDescription, NodeResources, NodeStatus, Task, TaskStatus};
use berth_proto::pb::control_server::Control;
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::spec::{ContainerSpec, NodeSpec, ServiceMode, ServiceSpec};
use berth_proto::state::{ApiRole, DesiredState, NodeRole, NodeState, TaskState};
use berth_proto::time::Timestamp;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

/// How long a state may take to come about.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until `look` gives `Ok`.
pub async fn eventually<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "waited for {what}; last seen: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The one manager of a cluster, with everything that it serves over HTTP at a port of loopback.
pub struct Server {
    pub manager: Manager,
    pub handle: ControlHandle,
    /// As the command line sees it.
    pub control: ControlApi,
    pub site: Site,
    pub address: SocketAddr,
    scheme: &'static str,
    tokens: Mutex<BTreeMap<ApiRole, String>>,
    stop: DropGuard,
    dir: tempfile::TempDir,
}

impl Server {
    /// Nodes' logs, terminals and images cannot be asked for.
    pub async fn start() -> Self {
        Self::start_with(nowhere()).await
    }

    /// They are asked for at `node`; [`served`] makes one of what answers.
    pub async fn start_with(node: NodeServiceClient<Channel>) -> Self {
        let backstage = Backstage::open().await;
        let site = backstage.site(node, false);
        let router = berth_http::router(site.clone());
        backstage.serve(site, router, Limits::default()).await
    }

    /// With other routes, and limits.
    pub async fn start_as(routes: Routes, limits: Limits) -> Self {
        let backstage = Backstage::open().await;
        let site = backstage.site(nowhere(), false);
        backstage.serve(site.clone(), routes.into_router(site), limits).await
    }

    /// Over TLS, with a certificate of the cluster's CA and other routes.
    pub async fn start_secure(routes: Routes) -> Self {
        let backstage = Backstage::open().await;
        let site = backstage.site(nowhere(), true);
        backstage.serve(site.clone(), routes.into_router(site), Limits::default()).await
    }

    /// A snapshot of the state.
    pub fn state(&self) -> Arc<State> {
        self.handle.hub.snapshot()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// A token of that role; the same one each time. Its name is the role's.
    pub async fn token(&self, role: ApiRole) -> String {
        let known = self.tokens.lock().unwrap().get(&role).cloned();
        match known {
            Some(token) => token,
            None => {
                let made = self.make_token(&role.to_string(), role, None).await;
                self.tokens.lock().unwrap().entry(role).or_insert(made).clone()
            }
        }
    }

    pub async fn make_token(&self, name: &str, role: ApiRole, lifetime: Option<Duration>) -> String {
        let request = pb::TokenCreateRequest {
            name: name.to_owned(),
            role: pb::ApiRole::from(role).into(),
            lifetime: lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap()),
            ..Default::default()
        };
        self.control.token_create(Request::new(request)).await.unwrap().into_inner().text
    }

    /// A request with the token of that role, or with none: `server.ask(Method::GET, "/", Some(role)).await.send()`.
    pub async fn ask(&self, method: reqwest::Method, path: &str, role: Option<ApiRole>) -> reqwest::RequestBuilder {
        let request = client().request(method, self.url(path));
        match role {
            None => request,
            Some(role) => request.bearer_auth(self.token(role).await),
        }
    }

    /// Status and body of a GET.
    pub async fn get(&self, path: &str, role: Option<ApiRole>) -> (u16, String) {
        let answer = self.ask(reqwest::Method::GET, path, role).await.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Writes straight to the state.
    pub async fn write(&self, change: impl Fn(&State, &mut Transaction)) {
        let make = |state: &State| {
            let mut tx = Transaction::new(now(), "test");
            change(state, &mut tx);
            Ok::<_, ProposeError>(Some(tx))
        };
        self.handle.proposer.write(make).await.unwrap();
    }

    /// A node that nobody runs: down.
    pub async fn silent_node(&self, hostname: &str) -> NodeId {
        let id = Id::from_random(rand::random());
        let description = NodeDescription { hostname: hostname.to_owned(), ..NodeDescription::default() };
        self.write(|_, tx| tx.create(node(id, Some(description.clone())))).await;
        id
    }

    /// A node whose agent reports every task as running until it is told to end it.
    pub async fn node(&self, hostname: &str) -> Agent {
        let id = Id::from_random(rand::random());
        self.write(|_, tx| tx.create(node(id, None))).await;
        let agent = Agent::start(self, id, hostname).await;
        self.until("the node to be ready", |state| {
            state.node(id).is_some_and(|node| node.status.state == NodeState::Ready)
        })
        .await;
        agent
    }

    /// A service of that many replicas, made by the control API.
    pub async fn service(&self, name: &str, replicas: u64) -> ServiceId {
        let container = ContainerSpec { image: "example.org/app:1".into(), ..ContainerSpec::default() };
        let mut spec = ServiceSpec::new(name.parse().unwrap(), container);
        spec.mode = ServiceMode::Replicated { replicas };
        spec.task.restart.delay = Duration::ZERO;
        let request = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
        let made = self.control.service_create(Request::new(request)).await.unwrap().into_inner();
        made.id.parse().unwrap()
    }

    /// Waits until this many tasks of the service run.
    pub async fn running(&self, service: ServiceId, count: usize) -> Vec<Arc<Task>> {
        let running = |state: &State| {
            let tasks = state.tasks_of_service(service);
            tasks.filter(|task| task.status.state == TaskState::Running).cloned().collect::<Vec<_>>()
        };
        self.until("tasks to run", |state| running(state).len() == count).await;
        running(&self.state())
    }

    pub async fn until(&self, what: &str, fits: impl Fn(&State) -> bool) {
        eventually(what, async || {
            let state = self.state();
            if fits(&state) { Ok(()) } else { Err(state.objects().collect::<Vec<_>>()) }
        })
        .await;
    }
}

/// A manager before it is served.
pub struct Backstage {
    pub manager: Manager,
    pub handle: ControlHandle,
    pub control: ControlApi,
    pub stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Backstage {
    pub async fn open() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = ManagerConfig::new(dir.path().join("manager"));
        config.connect = Arc::new(Credentials::empty());
        let manager = Manager::open(config).await.unwrap();
        manager.ready().await.unwrap();
        let handle = manager.handle();
        let control = ControlApi::new(handle.clone(), "test");
        Self { manager, handle, control, stop: CancellationToken::new(), dir }
    }

    pub fn site(&self, node: NodeServiceClient<Channel>, secure: bool) -> Site {
        Site::new(self.handle.clone(), self.control.clone(), node, secure).until(self.stop.clone())
    }

    /// Serves `router` as `site` says: over TLS or not.
    pub async fn serve(self, site: Site, router: axum::Router, limits: Limits) -> Server {
        let Self { manager, handle, control, stop, dir } = self;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = berth_http::serve::Server::new(listener, router).with_limits(limits);
        if site.secure {
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let shown = tls::of_cluster(handle.hub.clone(), names, stop.clone()).unwrap();
            let hub = handle.hub.clone();
            let asks = move || token::has_certificates(&hub.snapshot(), now());
            server = server.over(Tls::new(shown, asks).unwrap());
        }
        tokio::spawn(server.run(stop.clone()));
        let (scheme, stop) = (if site.secure { "https" } else { "http" }, stop.drop_guard());
        Server { manager, handle, control, site, address, scheme, tokens: Mutex::default(), stop, dir }
    }
}

/// The way to nodes that cannot be reached.
fn nowhere() -> NodeServiceClient<Channel> {
    NodeServiceClient::new(Endpoint::from_static("http://127.0.0.1:9").connect_lazy())
}

/// A client of HTTP that follows no redirects and knows no root certificates.
pub fn client() -> reqwest::Client {
    client_with(trusting(&[]).with_no_client_auth())
}

/// A client's TLS, of which only its own certificate is open.
pub fn trusting(roots: &[Bytes]) -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert> {
    let mut store = rustls::RootCertStore::empty();
    roots.iter().for_each(|root| store.add(root.to_vec().into()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(store)
}

pub fn client_with(tls: rustls::ClientConfig) -> reqwest::Client {
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy();
    builder.redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn node(id: NodeId, description: Option<NodeDescription>) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role: NodeRole::Worker, ..NodeSpec::default() },
        description,
        status: NodeStatus { at: now(), ..NodeStatus::default() },
        manager: None,
        ingress: Vec::new(),
    }
}

/// A channel to a gRPC service that is served in this process: `served(NodeServiceServer::new(fake))`.
pub async fn served<S>(service: S) -> Channel
where
    S: tower::Service<
            axum::http::Request<tonic::body::Body>,
            Response = axum::http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
            Future: Send,
        > + tonic::server::NamedService
        + Clone
        + Send
        + Sync
        + 'static,
{
    let (accept, accepted) = mpsc::channel(4);
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let accept = accept.clone();
        async move {
            let (near, far) = tokio::io::duplex(64 << 10);
            accept.send(far).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(TokioIo::new(near))
        }
    });
    let incoming = ReceiverStream::new(accepted).map(Ok::<_, std::io::Error>);
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
    Endpoint::from_static("http://here").connect_with_connector(connector).await.unwrap()
}

/// A node's agent. Dropping it ends its session: the node is down soon after.
pub struct Agent {
    pub node: NodeId,
    send: mpsc::Sender<pb::AgentMessage>,
    batch: Arc<Mutex<u64>>,
    _run: JoinSet<()>,
}

impl Agent {
    async fn start(server: &Server, id: NodeId, hostname: &str) -> Self {
        let mut client = DispatcherClient::new(served(server.manager.dispatcher().into_server()).await);
        let (send, messages) = mpsc::channel(64);
        let resources = NodeResources { nano_cpus: 8_000_000_000, memory: 8 << 30, ..NodeResources::default() };
        let hostname = hostname.to_owned();
        let description = NodeDescription { hostname, resources, ..NodeDescription::default() };
        let register = pb::Register {
            node_id: id.to_string(),
            description: Some((&description).into()),
            address: "10.0.0.1:4777".into(),
            session_id: String::new(),
        };
        send.send(message(FromAgent::Register(register))).await.unwrap();
        let mut receive = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let agent = Self { node: id, send, batch: Arc::default(), _run: JoinSet::new() };
        let (beats, runs) = (agent.send.clone(), agent.reporter());
        let mut run = JoinSet::new();
        run.spawn(async move {
            while beats.send(message(FromAgent::Heartbeat(pb::Heartbeat {}))).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        run.spawn(async move {
            while let Ok(Some(said)) = receive.message().await {
                let (sequence, items) = match said.message.unwrap() {
                    ToAgent::Complete(set) => (set.sequence, set.assignments),
                    ToAgent::Changes(changes) => (changes.sequence, changes.updates),
                    _ => continue,
                };
                runs.send(FromAgent::Ack(pb::AssignmentAck { sequence })).await;
                for item in items.into_iter().filter_map(|assignment| assignment.item) {
                    let pb::assignment::Item::Task(task) = item else { continue };
                    let desired = DesiredState::from(task.desired());
                    let state = if desired <= DesiredState::Running { TaskState::Running } else { TaskState::Shutdown };
                    runs.report(&task.id, TaskStatus { state, at: now(), ..TaskStatus::default() }).await;
                }
            }
        });
        Self { _run: run, ..agent }
    }

    fn reporter(&self) -> Reporter {
        Reporter { send: self.send.clone(), batch: Arc::clone(&self.batch) }
    }

    /// Says that a task of this node has come to this.
    pub async fn report(&self, task: &str, status: TaskStatus) {
        self.reporter().report(task, status).await;
    }
}

/// What reports of an agent go through.
struct Reporter {
    send: mpsc::Sender<pb::AgentMessage>,
    batch: Arc<Mutex<u64>>,
}

impl Reporter {
    async fn send(&self, what: FromAgent) {
        // A manager that has ended hears nothing more.
        let _ = self.send.send(message(what)).await;
    }

    async fn report(&self, task: &str, status: TaskStatus) {
        let sequence = {
            let mut batch = self.batch.lock().unwrap();
            *batch += 1;
            *batch
        };
        let report =
            pb::TaskReport { task_id: task.to_owned(), status: Some((&status).into()), host_ports: Vec::new() };
        self.send(FromAgent::Status(pb::StatusBatch { sequence, reports: vec![report] })).await;
    }
}

fn message(message: FromAgent) -> pb::AgentMessage {
    pb::AgentMessage { message: Some(message) }
}
