//! An agent with the real runtime, images and network, and a manager that says what the test wants: each test has directories,
//! control groups, links and tables of its own, and leaves none behind.
#![allow(dead_code, clippy::unwrap_used)]

pub mod image;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_agent::{Agent, AgentConfig, AgentError, Ended, ManagerAddress, Reach, netoverlay};
use berth_image::ImageError;
use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::object::{Attachment, Meta, Network, NetworkAllocation, RestartRecord, Slot, Task, TaskStatus};
use berth_proto::pb::dispatcher_server::{Dispatcher, DispatcherServer};
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::pb::node_service_server::NodeServiceServer;
use berth_proto::pb::{self, agent_message, assignment, manager_message};
use berth_proto::removal;
use berth_proto::spec::{ContainerSpec, NetworkDriver, NetworkSpec, ServiceSpec};
use berth_proto::state::{DesiredState, TaskState};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the manager heard, and the stream it talks on.
#[derive(Default)]
struct Heard {
    statuses: watch::Sender<BTreeMap<TaskId, TaskStatus>>,
    out: Mutex<Option<mpsc::Sender<Result<pb::ManagerMessage, Status>>>>,
    sequence: Mutex<u64>,
    assigned: Mutex<Vec<pb::Assignment>>,
}

#[derive(Clone)]
struct FakeManager(Arc<Heard>);

#[tonic::async_trait]
impl Dispatcher for FakeManager {
    async fn find_image(
        &self,
        _request: Request<pb::FindImageRequest>,
    ) -> Result<Response<pb::FindImageResponse>, Status> {
        Ok(Response::new(pb::FindImageResponse::default()))
    }

    /// Knows node 2, a worker, and node 3, a manager of which it has not told.
    async fn check_node(
        &self,
        request: Request<pb::CheckNodeRequest>,
    ) -> Result<Response<pb::CheckNodeResponse>, Status> {
        let is = |number| request.get_ref().node_id == NodeId::from_random(number).to_string();
        Ok(Response::new(pb::CheckNodeResponse { known: is(2) || is(3), manager: is(3) }))
    }

    async fn leave(&self, _request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type SessionStream = std::pin::Pin<Box<dyn Stream<Item = Result<pb::ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (send, receive) = mpsc::channel(64);
        let heard = Arc::clone(&self.0);
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Some(Ok(message)) = inbound.next().await {
                match message.message {
                    Some(agent_message::Message::Register(_)) => {
                        let welcome = pb::Welcome { session_id: "s".into(), heartbeat_period: 1_000_000_000 };
                        let _ = send.send(Ok(manager(manager_message::Message::Welcome(welcome)))).await;
                        let _ = send.send(Ok(manager(manager_message::Message::Membership(membership())))).await;
                        let complete = {
                            *heard.sequence.lock().unwrap() = 1;
                            pb::AssignmentSet {
                                sequence: 1,
                                assignments: heard.assigned.lock().unwrap().clone(),
                                index: 0,
                            }
                        };
                        let _ = send.send(Ok(manager(manager_message::Message::Complete(complete)))).await;
                        *heard.out.lock().unwrap() = Some(send.clone());
                    }
                    Some(agent_message::Message::Status(batch)) => {
                        heard.statuses.send_modify(|statuses| {
                            for report in batch.reports {
                                let status = report.status.unwrap().try_into().unwrap();
                                statuses.insert(report.task_id.parse().unwrap(), status);
                            }
                        });
                        let ack = pb::StatusAck { sequence: batch.sequence };
                        let _ = send.send(Ok(manager(manager_message::Message::StatusAck(ack)))).await;
                    }
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

/// What the manager tells of the cluster.
pub fn membership() -> pb::Membership {
    let one = pb::ManagerAddress { node_id: NodeId::from_random(1).to_string(), address: "10.0.0.1:4777".into() };
    pb::Membership { managers: vec![one], role: pb::NodeRole::Worker.into(), roots: Vec::new() }
}

fn manager(message: manager_message::Message) -> pb::ManagerMessage {
    pb::ManagerMessage { message: Some(message) }
}

/// The way to the one manager, or to nobody.
struct Way(Option<Channel>);

impl Reach for Way {
    fn manager(&self, _manager: &ManagerAddress) -> Result<Channel, String> {
        self.0.clone().ok_or_else(|| "no manager is there".into())
    }

    fn node(&self, _node: NodeId, _address: &str) -> Result<Channel, String> {
        Err("no other node is there".into())
    }
}

/// A node under test.
pub struct World {
    pub dir: tempfile::TempDir,
    pub config: AgentConfig,
    pub network: NetworkId,
    heard: Arc<Heard>,
    subnet: u8,
    hosts: AtomicU32,
    life: Option<Life>,
}

/// One life of the agent.
struct Life {
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Ended>,
    node: NodeServiceClient<Channel>,
    membership: watch::Receiver<Option<pb::Membership>>,
    standing: berth_agent::Standing,
}

impl World {
    /// A node with a bridge network and the image `test/busybox`.
    pub async fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{:x}{number}", std::process::id() % 0xfff);
        let dir = tempfile::Builder::new().prefix("berth-agent-test").tempdir().unwrap();
        let mut config = AgentConfig::new(NodeId::from_random(4), dir.path().join("agent"));
        config.cgroup_parent = format!("/berth-agent-test-{tag}");
        config.network = netoverlay::Config {
            instance: netoverlay::names::Instance::new(&instance(number)).unwrap(),
            table: format!("berthtest{tag}"),
            netns_dir: dir.path().join("netns"),
            bpf_dir: dir.path().join("bpf"),
            ..netoverlay::Config::default()
        };
        let subnet = u8::try_from((std::process::id() + number * 7) % 200).unwrap();
        let world = Self {
            dir,
            config,
            network: NetworkId::from_random(u128::from(std::process::id()) << 32 | u128::from(number)),
            heard: Arc::default(),
            subnet,
            hosts: AtomicU32::new(10),
            life: None,
        };
        let mut world = world;
        world.heard.assigned.lock().unwrap().push(world.network_object());
        world.begin().await;
        world.load_busybox().await;
        world
    }

    /// Starts a life of the agent.
    pub async fn begin(&mut self) {
        let manager = DispatcherServer::new(FakeManager(Arc::clone(&self.heard)));
        self.begin_with(Way(Some(serve(Server::builder().add_service(manager))))).await;
    }

    /// Starts a life of the agent in which it reaches nobody.
    pub async fn begin_alone(&mut self) {
        self.begin_with(Way(None)).await;
    }

    async fn begin_with(&mut self, way: Way) {
        let agent = Arc::new(self.open(Arc::new(way)).await);
        let node = serve(Server::builder().add_service(NodeServiceServer::new(agent.local_service())));
        let (shutdown, membership, standing) = (CancellationToken::new(), agent.membership(), agent.standing());
        let running = tokio::spawn({
            let shutdown = shutdown.clone();
            let manager = ManagerAddress { node: None, address: "10.0.0.1:4777".into() };
            async move { agent.run(watch::Sender::new(vec![manager]).subscribe(), shutdown).await }
        });
        let node = NodeServiceClient::new(node).max_decoding_message_size(64 << 20);
        self.life = Some(Life { shutdown, running, node, membership, standing });
    }

    /// A request that the life before still answers, or a process being started, may hold the images' lock for a moment.
    async fn open(&self, way: Arc<Way>) -> Agent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Agent::open(self.config.clone(), Arc::clone(&way) as Arc<dyn Reach>).await {
                Ok(agent) => return agent,
                Err(AgentError::Images(error))
                    if matches!(*error, ImageError::Locked { .. }) && Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("the agent does not open: {error:?}"),
            }
        }
    }

    /// Ends a life; containers run on.
    pub async fn end(&mut self) {
        let life = self.life.take().unwrap();
        life.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, life.running).await.expect("the agent does not stop").unwrap();
        assert_eq!(ended, Ended::Stopped);
        drop(life.node);
        *self.heard.out.lock().unwrap() = None;
        self.heard.statuses.send_modify(BTreeMap::clear);
    }

    /// The manager says that the node was removed; returns once the agent has ended by itself.
    pub async fn removed(&mut self) {
        let is_task = |found: &pb::Assignment| matches!(found.item, Some(assignment::Item::Task(_)));
        self.heard.assigned.lock().unwrap().retain(|found| !is_task(found));
        let out = self.heard.out.lock().unwrap().take().unwrap();
        out.send(Err(removal::status(Code::NotFound, self.config.node))).await.unwrap();
        let life = self.life.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, life.running).await.expect("the agent does not end").unwrap();
        assert_eq!(ended, Ended::Retired);
    }

    /// What the agent knows of the cluster.
    pub fn membership(&self) -> watch::Receiver<Option<pb::Membership>> {
        self.life.as_ref().unwrap().membership.clone()
    }

    pub fn standing(&self) -> berth_agent::Standing {
        self.life.as_ref().unwrap().standing.clone()
    }

    pub fn node(&self) -> NodeServiceClient<Channel> {
        self.life.as_ref().unwrap().node.clone()
    }

    async fn load_busybox(&self) {
        let archive = image::busybox();
        let chunks = archive.chunks(1 << 20).map(|chunk| pb::ImageLoadChunk { data: chunk.to_vec().into() });
        let chunks: Vec<_> = chunks.collect();
        let mut progress = self.node().image_load(tokio_stream::iter(chunks)).await.unwrap().into_inner();
        while let Some(message) = progress.next().await {
            message.unwrap();
        }
    }

    fn network_object(&self) -> pb::Assignment {
        let subnet = format!("10.213.{}.0/24", self.subnet).parse().unwrap();
        let gateway = Ipv4Addr::new(10, 213, self.subnet, 1).into();
        let network = Network {
            id: self.network,
            meta: Meta::default(),
            spec: Arc::new(NetworkSpec {
                name: "bridge".parse().unwrap(),
                stack: None,
                labels: BTreeMap::new(),
                driver: NetworkDriver::Bridge,
                options: BTreeMap::new(),
                internal: false,
                attachable: false,
                ipv6: false,
                ipam: Vec::new(),
            }),
            allocation: Some(NetworkAllocation { pools: vec![(subnet, gateway)], vni: 0, encrypted: false }),
        };
        item(assignment::Item::Network((&network).into()))
    }

    /// Assigns a new task; gives its id.
    pub async fn assign(&self, container: ContainerSpec) -> TaskId {
        self.assign_with(container, |_, _| {}).await
    }

    /// Assigns a new task after `change`.
    pub async fn assign_with(
        &self,
        mut container: ContainerSpec,
        change: impl FnOnce(&mut Task, &mut ServiceSpec),
    ) -> TaskId {
        let host = self.hosts.fetch_add(1, Ordering::Relaxed);
        let id = TaskId::from_random(
            u128::from(std::process::id()) << 64 | u128::from(self.subnet) << 32 | u128::from(host),
        );
        if container.image.is_empty() {
            container.image = image::NAME.into();
        }
        let (mut task, mut spec) = (self.task(id, host), ServiceSpec::new("web".parse().unwrap(), container));
        change(&mut task, &mut spec);
        let key = pb::SpecKey { service_id: task.service.to_string(), spec_version: task.spec_version };
        let spec = pb::AssignedSpec { key: Some(key), spec: Some((&spec).into()) };
        let items = vec![item(assignment::Item::Spec(spec)), item(assignment::Item::Task((&task).into()))];
        self.change(items, Vec::new()).await;
        id
    }

    fn task(&self, id: TaskId, host: u32) -> Task {
        let address = format!("10.213.{}.{host}/24", self.subnet).parse().unwrap();
        Task {
            id,
            meta: Meta::default(),
            service: ServiceId::from_random(id.as_u128() + 1),
            service_name: "web".parse().unwrap(),
            spec_version: 1,
            slot: Slot::Replica(u64::from(host)),
            node: Some(self.config.node),
            desired: DesiredState::Running,
            status: TaskStatus { state: TaskState::Assigned, ..TaskStatus::default() },
            attachments: vec![Attachment {
                network: self.network,
                addresses: vec![address],
                aliases: Arc::from([]),
                default_route: true,
                mac_address: None,
            }],
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        }
    }

    /// Changes what is wanted of a task.
    pub async fn want(&self, id: TaskId, desired: DesiredState) {
        let found = self.heard.assigned.lock().unwrap().iter().rev().find_map(|found| match &found.item {
            Some(assignment::Item::Task(task)) if task.id == id.to_string() => Some(task.clone()),
            _ => None,
        });
        let mut task = found.unwrap();
        task.desired = pb::DesiredState::from(desired).into();
        self.change(vec![item(assignment::Item::Task(task))], Vec::new()).await;
    }

    /// Withdraws a task.
    pub async fn withdraw(&self, id: TaskId) {
        let key = pb::AssignmentKey { key: Some(pb::assignment_key::Key::Task(id.to_string())) };
        self.heard
            .assigned
            .lock()
            .unwrap()
            .retain(|found| !matches!(&found.item, Some(assignment::Item::Task(task)) if task.id == id.to_string()));
        self.change(Vec::new(), vec![key]).await;
    }

    /// Sends changes, and keeps them for the next complete set.
    pub async fn change(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>) {
        let sequence = {
            let mut sequence = self.heard.sequence.lock().unwrap();
            *sequence += 1;
            *sequence
        };
        self.heard.assigned.lock().unwrap().extend(updates.clone());
        let changes = pb::AssignmentChanges { sequence, updates, removals, index: 0 };
        let out = self.session().await;
        out.send(Ok(manager(manager_message::Message::Changes(changes)))).await.unwrap();
    }

    async fn session(&self) -> mpsc::Sender<Result<pb::ManagerMessage, Status>> {
        for _ in 0..6000 {
            if let Some(out) = self.heard.out.lock().unwrap().clone() {
                return out;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the agent opened no session");
    }

    /// Waits until the manager has heard that state (or a later one, which fails the test).
    pub async fn until(&self, id: TaskId, state: TaskState) -> TaskStatus {
        self.until_status(id, &state.to_string(), |status| status.state >= state).await.expect_state(state)
    }

    /// Waits for a status.
    pub async fn until_status(&self, id: TaskId, what: &str, wanted: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
        let mut statuses = self.heard.statuses.subscribe();
        let found = statuses.wait_for(|statuses| statuses.get(&id).is_some_and(&wanted));
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found.unwrap()[&id].clone(),
            Err(_) => panic!("task {id} is not {what}: {:?}", self.heard.statuses.borrow().get(&id)),
        }
    }

    /// Waits until the node answers for a task, without any manager's word.
    pub async fn knows(&self, id: TaskId) {
        let request = pb::LogsRequest { task_ids: vec![id.to_string()], ..Default::default() };
        let mut refusal = None;
        for _ in 0..3000 {
            match self.node().logs(request.clone()).await {
                Ok(_) => return,
                Err(status) => refusal = Some(status),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the node does not know task {id}: {refusal:?}");
    }

    /// All the lines that a task has written.
    pub async fn output(&self, id: TaskId) -> Vec<String> {
        let request = pb::LogsRequest { task_ids: vec![id.to_string()], ..Default::default() };
        let mut records = self.node().logs(request).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(record) = records.next().await {
            lines.push(String::from_utf8_lossy(&record.unwrap().line).into_owned());
        }
        lines
    }

    /// Waits until a task has written a line.
    pub async fn written(&self, id: TaskId, line: &str) {
        let mut lines = Vec::new();
        for _ in 0..3000 {
            lines = self.output(id).await;
            if lines.iter().any(|found| found == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{line:?} was not written: {lines:?}");
    }

    /// The agent's directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.config.data_dir.join(below)
    }

    /// Ends all tasks, then the agent, then what is left.
    pub async fn finish(mut self) {
        let tasks: Vec<TaskId> = self
            .heard
            .assigned
            .lock()
            .unwrap()
            .iter()
            .filter_map(|found| match &found.item {
                Some(assignment::Item::Task(task)) => task.id.parse().ok(),
                _ => None,
            })
            .collect();
        for task in tasks {
            self.withdraw(task).await;
        }
        let mut left = Vec::new();
        for _ in 0..3000 {
            left = std::fs::read_dir(self.path("tasks")).unwrap().flatten().map(|entry| entry.file_name()).collect();
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(left.is_empty(), "directories of withdrawn tasks are left: {left:?}");
        self.end().await;
        netoverlay::Overlay::open(self.config.network.clone()).await.unwrap().teardown().await.unwrap();
        berth_agent::volume::unmount(&std::fs::canonicalize(self.path("files")).unwrap()).unwrap();
    }
}

/// Says what was there instead.
pub trait ExpectState {
    fn expect_state(self, state: TaskState) -> TaskStatus;
}

impl ExpectState for TaskStatus {
    fn expect_state(self, state: TaskState) -> TaskStatus {
        assert_eq!(self.state, state, "{self:?}");
        self
    }
}

/// At most four characters, another for each test of this process and most likely for each process.
fn instance(number: u32) -> String {
    let letter = char::from(b'f' + u8::try_from(number % 20).unwrap());
    format!("{letter}{:03x}", std::process::id() % 0xfff)
}

/// `sh -c` with these lines.
pub fn shell(script: &str) -> ContainerSpec {
    let command = ["sh", "-c", script].map(str::to_owned).to_vec();
    ContainerSpec { command: Some(command), stop_grace_period: Duration::from_secs(2), ..ContainerSpec::default() }
}

pub fn item(item: assignment::Item) -> pb::Assignment {
    pb::Assignment { item: Some(item) }
}

/// Serves over pipes in memory and connects to it.
fn serve(router: tonic::transport::server::Router) -> Channel {
    let (send, receive) = mpsc::channel::<Result<tokio::io::DuplexStream, std::io::Error>>(4);
    tokio::spawn(router.serve_with_incoming(ReceiverStream::new(receive)));
    Endpoint::from_static("http://node").connect_with_connector_lazy(tower::service_fn(move |_| {
        let send = send.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 20);
            send.send(Ok(theirs)).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    }))
}
