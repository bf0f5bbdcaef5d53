//! Managers and agents of a few lines, over loopback. Who calls is known from the address that a connection comes from,
//! in place of certificates.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use berth_manager::api::ControlApi;
use berth_manager::identity::Peer;
use berth_manager::manager::{Manager, ManagerConfig, ManagerError};
use berth_manager::raft::{Connect, ProposeError, RaftSettings, tuned};
use berth_manager::store::{Event, Object, Snapshot, Transaction};
use berth_proto::id::{ClusterId, Id, NodeId};
use berth_proto::object::{Meta, Node, NodeDescription, NodeResources, NodeStatus, TaskStatus};
use berth_proto::pb::control_server::Control;
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::spec::NodeSpec;
use berth_proto::state::{NodeRole, NodeState, TaskState};
use berth_proto::time::Timestamp;
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::server::TcpConnectInfo;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Status, Streaming};

/// How long a state may take to come about.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `look` gives `Ok`.
pub async fn eventually<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "waited for {what}; last seen: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Which node connects from which address.
type Book = Arc<Mutex<BTreeMap<IpAddr, NodeId>>>;

/// Connects from an address of its own.
struct From(IpAddr);

impl Connect for From {
    fn channel(&self, _id: u64, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        Ok(tuned(endpoint).local_address(Some(self.0)).connect_lazy())
    }
}

/// A machine that a manager may run on.
pub struct Member {
    pub node: NodeId,
    pub address: SocketAddr,
    pub dir: tempfile::TempDir,
    from: IpAddr,
    running: Option<Running>,
}

/// A manager on threads of its own, so that it can be killed.
struct Running {
    manager: Manager,
    server: JoinHandle<()>,
    stop: CancellationToken,
    threads: Threads,
}

/// Ends everything that runs on it when it is dropped.
struct Threads(Option<Runtime>);

impl Threads {
    /// Returns once nothing runs on it any more.
    async fn end(mut self) {
        let runtime = self.0.take().unwrap();
        tokio::task::spawn_blocking(|| runtime.shutdown_timeout(PATIENCE)).await.unwrap();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Default)]
pub struct Managers {
    pub members: BTreeMap<u8, Member>,
    book: Book,
}

pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn now() -> Timestamp {
    SystemTime::now().into()
}

impl Managers {
    /// Number 1 founds the cluster, the others join it.
    pub async fn of(count: u8) -> Self {
        let mut managers = Self::default();
        managers.found().await;
        for number in 2..=count {
            managers.join(number, 1).await.unwrap();
        }
        managers
    }

    pub async fn found(&mut self) {
        self.add(1, Id::from_random(rand::random()));
        self.start(1).await.unwrap();
    }

    /// A machine that no manager runs on yet.
    pub fn add(&mut self, number: u8, node: NodeId) {
        let from = IpAddr::V4(Ipv4Addr::new(127, 0, 7, number));
        self.book.lock().unwrap().insert(from, node);
        let member = Member { node, address: free_address(), dir: directory(), from, running: None };
        self.members.insert(number, member);
    }

    /// A new manager that knows only `through`.
    pub async fn join(&mut self, number: u8, through: u8) -> Result<(), ManagerError> {
        let node = self.add_node(NodeRole::Manager).await;
        self.add(number, node);
        self.start_joining(number, through).await
    }

    pub async fn start_joining(&mut self, number: u8, through: u8) -> Result<(), ManagerError> {
        let managers = vec![self.members[&through].address.to_string()];
        self.start_with(number, |config| (config.join, config.managers) = (true, managers)).await
    }

    /// Starts a manager from its directory.
    pub async fn start(&mut self, number: u8) -> Result<(), ManagerError> {
        self.start_with(number, |_| {}).await
    }

    /// Its next start is at another address.
    pub fn move_away(&mut self, number: u8) {
        self.members.get_mut(&number).unwrap().address = free_address();
    }

    pub fn manager_dir(&self, number: u8) -> PathBuf {
        self.members[&number].dir.path().join("manager")
    }

    pub async fn start_with(&mut self, number: u8, edit: impl FnOnce(&mut ManagerConfig)) -> Result<(), ManagerError> {
        let member = &self.members[&number];
        let raft = RaftSettings { address: member.address.to_string(), ..RaftSettings::default() };
        let connect = Arc::new(From(member.from));
        let mut config =
            ManagerConfig { node: Some(member.node), raft, connect, ..ManagerConfig::new(self.manager_dir(number)) };
        edit(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (address, book, stop) = (member.address, Arc::clone(&self.book), CancellationToken::new());
        let until = stop.clone();
        let threads = Threads(Some(runtime));
        let started = threads.0.as_ref().unwrap().spawn(async move {
            let manager = Manager::open(config).await?;
            let server = serve(&manager, address, book, until).await;
            let ready = manager.ready().await;
            Ok((manager, server, ready))
        });
        let (manager, server, ready) = match started.await.unwrap() {
            Ok(started) => started,
            Err(error) => return Err(error),
        };
        let running = Running { manager, server, stop, threads };
        match ready {
            Ok(()) => {
                self.members.get_mut(&number).unwrap().running = Some(running);
                Ok(())
            }
            Err(error) => {
                running.stop().await;
                Err(error)
            }
        }
    }

    /// Stops a manager as one is stopped.
    pub async fn stop(&mut self, number: u8) {
        self.members.get_mut(&number).unwrap().running.take().unwrap().stop().await;
    }

    /// Ends a manager without a word to anybody.
    pub async fn kill(&mut self, number: u8) {
        let Running { manager, server, stop: _, threads } =
            self.members.get_mut(&number).unwrap().running.take().unwrap();
        drop((manager, server));
        threads.end().await;
    }

    pub fn manager(&self, number: u8) -> &Manager {
        &self.members[&number].running.as_ref().unwrap().manager
    }

    pub fn node(&self, number: u8) -> NodeId {
        self.members[&number].node
    }

    pub fn running(&self) -> impl Iterator<Item = u8> {
        self.members.iter().filter(|(_, member)| member.running.is_some()).map(|(number, _)| *number)
    }

    /// Who leads, once somebody does.
    pub async fn leader(&self) -> u8 {
        eventually("a leader", || {
            let leads = |number: &u8| self.manager(*number).raft().members().leads();
            self.running().find(leads).ok_or("nobody leads")
        })
        .await
    }

    pub async fn followers(&self) -> Vec<u8> {
        let leader = self.leader().await;
        self.running().filter(|number| *number != leader).collect()
    }

    pub fn state(&self, number: u8) -> Snapshot {
        self.manager(number).handle().hub.snapshot()
    }

    /// Waits for a state of the manager that fits.
    pub async fn wait(&self, number: u8, what: &str, fits: impl Fn(&Snapshot) -> bool) {
        eventually(what, || {
            let state = self.state(number);
            let nodes = || -> Vec<_> { state.nodes().map(|it| (it.id, it.status.state, it.manager.clone())).collect() };
            let tasks = || -> Vec<_> { state.tasks().map(|it| (it.status.state, it.desired, it.node)).collect() };
            if fits(&state) { Ok(()) } else { Err((nodes(), tasks())) }
        })
        .await;
    }

    /// Writes through the manager, again and again until it is taken.
    pub async fn write(&self, number: u8, fill: impl Fn(&Snapshot, &mut Transaction)) {
        let handle = self.manager(number).handle();
        let end = Instant::now() + PATIENCE;
        loop {
            let state = handle.hub.snapshot();
            let mut tx = Transaction::new(now(), "test");
            fill(&state, &mut tx);
            match handle.proposer.propose(tx).await {
                Ok(_) => return,
                Err(ProposeError::Stopped) => panic!("manager {number} has stopped"),
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }

    pub async fn add_node(&self, role: NodeRole) -> NodeId {
        let id = Id::from_random(rand::random());
        let through = self.leader().await;
        self.write(through, |state, tx| {
            if state.node(id).is_none() {
                tx.create(Node {
                    id,
                    meta: Meta::default(),
                    spec: NodeSpec { role, ..NodeSpec::default() },
                    description: None,
                    status: NodeStatus { at: now(), ..NodeStatus::default() },
                    manager: None,
                    ingress: Vec::new(),
                });
            }
        })
        .await;
        id
    }

    pub fn api(&self, number: u8) -> ControlApi {
        ControlApi::new(self.manager(number).handle(), "test")
    }

    /// Changes the spec of a node as a person does, through the manager.
    pub async fn update_node(
        &self,
        through: u8,
        node: NodeId,
        edit: impl FnOnce(&mut pb::NodeSpec),
    ) -> Result<pb::Node, Status> {
        let api = self.api(through);
        let get = pb::GetRequest { kind: pb::ObjectKind::Node.into(), name_or_id: node.to_string(), stale: false };
        let Some(pb::object::Object::Node(known)) = api.get(Request::new(get)).await?.into_inner().object else {
            panic!("not a node")
        };
        let mut spec = known.spec.unwrap();
        edit(&mut spec);
        let update = pb::NodeUpdateRequest { id: node.to_string(), version: 0, spec: Some(spec) };
        Ok(api.node_update(Request::new(update)).await?.into_inner())
    }

    pub async fn set_role(&self, through: u8, node: NodeId, role: pb::NodeRole) -> Result<pb::Node, Status> {
        self.update_node(through, node, |spec| spec.set_role(role)).await
    }

    /// Demotes a manager once the leader has heard from enough of the others, which under load may take a moment.
    pub async fn demote(&self, through: u8, number: u8) {
        let end = Instant::now() + PATIENCE;
        while let Err(refused) = self.set_role(through, self.node(number), pb::NodeRole::Worker).await {
            let passes = matches!(refused.code(), Code::FailedPrecondition | Code::Unavailable | Code::Aborted);
            assert!(passes && Instant::now() < end, "{refused}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Running {
    async fn stop(self) {
        // As the daemon does it: the lead passes while everything is still served.
        self.manager.step_down().await;
        self.stop.cancel();
        self.manager.shutdown().await;
        self.server.abort();
        let _ = self.server.await;
        self.threads.end().await;
    }
}

fn peer(node: NodeId) -> Arc<Peer> {
    Arc::new(Peer {
        node,
        role: NodeRole::Manager,
        cluster: ClusterId::from_random(1),
        not_after: Timestamp(i64::MAX),
        index: 0,
        certificate: Bytes::new(),
    })
}

async fn serve(manager: &Manager, address: SocketAddr, book: Book, stop: CancellationToken) -> JoinHandle<()> {
    let know = move |mut request: Request<()>| {
        let from = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        if let Some(node) = from.and_then(|from| book.lock().unwrap().get(&from.ip()).copied()) {
            request.extensions_mut().insert(peer(node));
        }
        Ok::<_, Status>(request)
    };
    // The address was another test's a moment ago, or this manager's own.
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let served = Server::builder()
        .layer(InterceptorLayer::new(know))
        .add_service(manager.raft_service().into_server())
        .add_service(manager.managers_service().into_server())
        .add_service(manager.dispatcher().into_server())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    tokio::spawn(async move { served.await.unwrap() })
}

/// What an agent has heard.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub membership: Option<pb::Membership>,
    pub acknowledged: u64,
    pub tasks: BTreeMap<String, pb::Task>,
    pub peers: BTreeMap<String, pb::Peer>,
    pub backends: BTreeMap<String, pb::Backend>,
    pub networks: BTreeSet<String>,
    /// Services whose tasks' use is asked for.
    pub measures: BTreeSet<String>,
    /// Sequence of the last assignments, and the index that they were made from.
    pub told: (u64, u64),
    /// Index from which the node heard of its own tasks last.
    pub owed: u64,
    pub settled: u64,
    pub ended: Option<Status>,
}

/// An agent that sends heartbeats until it is dropped.
pub struct Agent {
    pub node: NodeId,
    send: mpsc::Sender<pb::AgentMessage>,
    pub heard: watch::Receiver<Heard>,
    /// False while it applies nothing of what it hears.
    pub acknowledging: watch::Sender<bool>,
    _run: JoinSet<()>,
}

fn message(message: FromAgent) -> pb::AgentMessage {
    pb::AgentMessage { message: Some(message) }
}

impl Agent {
    /// Opens a session with the manager at `address` and waits until it is up.
    pub async fn connect(node: NodeId, address: SocketAddr) -> Self {
        Self::connect_with(node, address, Default::default()).await
    }

    /// As an agent does, asks again where no leader is reached.
    pub async fn connect_with(node: NodeId, address: SocketAddr, images: BTreeSet<String>) -> Self {
        let opened = async {
            loop {
                let mut agent = Self::open(node, address, images.clone()).await;
                let heard = agent.until("a session", |heard| heard.membership.is_some() || heard.ended.is_some()).await;
                match heard.ended {
                    Some(ended) if ended.code() == Code::Unavailable => {}
                    ended => break ended.map_or(Ok(agent), Err),
                }
            }
        };
        tokio::time::timeout(PATIENCE, opened).await.expect("an answer in time").expect("a session")
    }

    async fn open(node: NodeId, address: SocketAddr, images: BTreeSet<String>) -> Self {
        let mut client = DispatcherClient::connect(format!("http://{address}")).await.unwrap();
        let (send, messages) = mpsc::channel(64);
        let resources = NodeResources { nano_cpus: 8_000_000_000, memory: 8 << 30, ..NodeResources::default() };
        let hostname = format!("host-{node}");
        let description = NodeDescription { hostname, resources, images, ..NodeDescription::default() };
        let register = pb::Register {
            node_id: node.to_string(),
            description: Some((&description).into()),
            address: "10.0.0.1:4777".into(),
            session_id: String::new(),
        };
        send.send(message(FromAgent::Register(register))).await.unwrap();
        let receive = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        let (told, heard) = watch::channel(Heard::default());
        let mut run = JoinSet::new();
        let (acknowledging, may) = watch::channel(true);
        run.spawn(listen(receive, told));
        run.spawn(acknowledge(heard.clone(), may, send.clone()));
        let beats = send.clone();
        run.spawn(async move {
            loop {
                if beats.send(message(FromAgent::Heartbeat(pb::Heartbeat {}))).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { node, send, heard, acknowledging, _run: run }
    }

    pub async fn say(&self, said: FromAgent) {
        self.send.send(message(said)).await.unwrap();
    }

    pub async fn report(&self, sequence: u64, task: &str, state: TaskState) {
        let status = TaskStatus { state, at: now(), ..TaskStatus::default() };
        let report =
            pb::TaskReport { task_id: task.to_owned(), status: Some((&status).into()), host_ports: Vec::new() };
        let batch = pb::StatusBatch { sequence, reports: vec![report] };
        self.send.send(message(FromAgent::Status(batch))).await.unwrap();
    }

    pub async fn until(&mut self, what: &str, fits: impl Fn(&Heard) -> bool) -> Heard {
        let waited = tokio::time::timeout(PATIENCE, self.heard.wait_for(|heard| fits(heard))).await;
        if let Ok(Ok(heard)) = waited {
            return heard.clone();
        }
        drop(waited);
        panic!("no {what}; last: {:?}", self.heard.borrow())
    }
}

async fn acknowledge(
    mut heard: watch::Receiver<Heard>,
    mut may: watch::Receiver<bool>,
    send: mpsc::Sender<pb::AgentMessage>,
) {
    let mut done = 0;
    loop {
        let Ok(sequence) = heard.wait_for(|heard| heard.told.0 > done).await.map(|heard| heard.told.0) else { return };
        if may.wait_for(|may| *may).await.is_err() {
            return;
        }
        let ack = FromAgent::Ack(pb::AssignmentAck { sequence });
        if send.send(message(ack)).await.is_err() {
            return;
        }
        done = sequence;
    }
}

async fn listen(mut receive: Streaming<pb::ManagerMessage>, told: watch::Sender<Heard>) {
    loop {
        let next = receive.message().await;
        let ended = match next {
            Ok(Some(message)) => {
                told.send_modify(|heard| take(heard, message.message.unwrap()));
                continue;
            }
            Ok(None) => Status::ok("the stream ended"),
            Err(status) => status,
        };
        told.send_modify(|heard| heard.ended = Some(ended));
        return;
    }
}

fn take(heard: &mut Heard, message: ToAgent) {
    use pb::assignment::Item;
    let (updates, told) = match message {
        ToAgent::Welcome(_) => return,
        ToAgent::Settled(settled) => {
            heard.settled = settled.index;
            return;
        }
        ToAgent::Membership(membership) => {
            heard.membership = Some(membership);
            return;
        }
        ToAgent::StatusAck(ack) => {
            heard.acknowledged = ack.sequence;
            return;
        }
        ToAgent::Complete(set) => (set.assignments, (set.sequence, set.index)),
        ToAgent::Changes(changes) => (changes.updates, (changes.sequence, changes.index)),
    };
    heard.told = told;
    for item in updates.into_iter().filter_map(|update| update.item) {
        match item {
            Item::Task(task) => {
                heard.owed = told.1;
                heard.tasks.insert(task.id.clone(), task);
            }
            Item::Peer(peer) => drop(heard.peers.insert(peer.node_id.clone(), peer)),
            Item::Measure(measure) => drop(heard.measures.insert(measure.service_id)),
            Item::Network(network) => drop(heard.networks.insert(network.spec.unwrap().name)),
            Item::Endpoints(endpoints) => {
                heard.backends.extend(endpoints.backends.into_iter().map(|it| (it.task_id.clone(), it)));
            }
            _ => {}
        }
    }
}

/// The states that a node goes through, as a manager sees them, from now on.
pub struct Watcher {
    states: Arc<Mutex<Vec<NodeState>>>,
    _run: JoinSet<()>,
}

impl Watcher {
    pub fn of(manager: &Manager, node: NodeId) -> Self {
        let states: Arc<Mutex<Vec<NodeState>>> = Arc::default();
        let (_, mut commits) = manager.handle().hub.subscribe();
        let mut run = JoinSet::new();
        let seen = Arc::clone(&states);
        run.spawn(async move {
            while let Ok(commit) = commits.next().await {
                for event in commit.events.iter() {
                    if let Event::Updated { old: Object::Node(old), new: Object::Node(new) } = event
                        && new.id == node
                        && old.status.state != new.status.state
                    {
                        seen.lock().unwrap().push(new.status.state);
                    }
                }
            }
        });
        Self { states, _run: run }
    }

    pub fn seen(&self) -> Vec<NodeState> {
        self.states.lock().unwrap().clone()
    }
}
