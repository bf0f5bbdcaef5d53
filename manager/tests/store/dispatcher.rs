//! An agent's stream against a real manager: the complete set, numbered changes, reports, heartbeats.

use std::time::Duration;

use berth_manager::manager::{ControlHandle, Manager, ManagerConfig};
use berth_manager::store::{ObjectKind, State};
use berth_proto::id::{Id, NodeId};
use berth_proto::object::{Cluster, NodeDescription, NodeResources, Secret};
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::spec::{ContainerSpec, FileMount, SecretBytes, SecretSpec, ServiceMode};
use berth_proto::state::{NodeState, TaskState};
use pb::dispatcher_client::DispatcherClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::Streaming;

use crate::store_support::{config, id, service, service_spec, status, tx};

/// How long a state may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);

struct Bench {
    manager: Manager,
    control: ControlHandle,
    address: std::net::SocketAddr,
    dir: tempfile::TempDir,
}

impl Bench {
    async fn start(dir: tempfile::TempDir) -> Self {
        let config = ManagerConfig::new(dir.path().join("manager"));
        let manager = Manager::open(config).await.unwrap();
        manager.ready().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(manager.dispatcher().into_server());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { control: manager.handle(), manager, address, dir }
    }

    /// Waits for a state that fits; says what there was when none comes.
    async fn wait(&self, what: &str, fits: impl Fn(&State) -> bool) {
        let (mut state, mut commits) = self.control.hub.subscribe();
        let waited = tokio::time::timeout(PATIENCE, async {
            while !fits(&state) {
                commits.next().await.unwrap();
                state = commits.resync();
            }
        });
        if waited.await.is_err() {
            let last = self.control.hub.snapshot();
            let tasks: Vec<_> = last.tasks().map(|it| (it.status.state, it.desired, it.node)).collect();
            let nodes: Vec<_> = last.nodes().map(|it| (it.id, it.status.state)).collect();
            panic!("no {what} after {PATIENCE:?}: nodes {nodes:?}, tasks {tasks:?}");
        }
    }

    async fn create(&self, name: &str, replicas: u64, spec: impl FnOnce(&mut ContainerSpec)) {
        let mut it = service_spec(name);
        it.mode = ServiceMode::Replicated { replicas };
        it.task.container.image = "busybox".into();
        spec(&mut it.task.container);
        let mut tx = tx(1);
        tx.create(service(rand::random(), it));
        self.control.proposer.propose(tx).await.unwrap();
    }
}

struct Agent {
    send: mpsc::Sender<pb::AgentMessage>,
    receive: Streaming<pb::ManagerMessage>,
}

impl Agent {
    async fn connect(bench: &Bench, node: NodeId) -> Self {
        // Connected by hand, so that a refused connection shows here.
        drop(TcpStream::connect(bench.address).await.unwrap());
        let mut client = DispatcherClient::connect(format!("http://{}", bench.address)).await.unwrap();
        let (send, messages) = mpsc::channel(16);
        let resources = NodeResources { nano_cpus: 8_000_000_000, memory: 8 << 30, ..NodeResources::default() };
        let description = NodeDescription { hostname: "here".into(), resources, ..NodeDescription::default() };
        let register = pb::Register {
            node_id: node.to_string(),
            description: Some((&description).into()),
            address: "10.0.0.1".into(),
            session_id: String::new(),
        };
        send.send(pb::AgentMessage { message: Some(FromAgent::Register(register)) }).await.unwrap();
        let receive = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { send, receive }
    }

    async fn send(&self, message: FromAgent) {
        self.send.send(pb::AgentMessage { message: Some(message) }).await.unwrap();
    }

    async fn next(&mut self) -> Result<ToAgent, tonic::Status> {
        let message = tokio::time::timeout(PATIENCE, self.receive.message()).await.expect("a message in time");
        message.map(|message| message.expect("the stream goes on").message.expect("a known message"))
    }

    async fn report(&self, sequence: u64, task: &str, state: TaskState) {
        let report =
            pb::TaskReport { task_id: task.to_owned(), status: Some((&status(state)).into()), host_ports: Vec::new() };
        self.send(FromAgent::Status(pb::StatusBatch { sequence, reports: vec![report] })).await;
    }

    /// Skips to the first changes that fit.
    async fn changes(&mut self, what: &str, fits: impl Fn(&pb::AssignmentChanges) -> bool) -> pb::AssignmentChanges {
        let mut seen = Vec::new();
        for _ in 0..50 {
            match self.next().await.unwrap() {
                ToAgent::Changes(changes) if fits(&changes) => return changes,
                other => seen.push(format!("{other:?}")),
            }
        }
        panic!("no {what}; seen: {seen:#?}");
    }
}

fn tasks(updates: &[pb::Assignment]) -> Vec<&pb::Task> {
    let tasks = updates.iter().filter_map(|update| match &update.item {
        Some(pb::assignment::Item::Task(task)) => Some(task),
        _ => None,
    });
    tasks.collect()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_register_to_running_and_gone() {
    let bench = Bench::start(directory()).await;
    let node = bench.manager.node();
    let mut agent = Agent::connect(&bench, node).await;
    let ToAgent::Welcome(welcome) = agent.next().await.unwrap() else { panic!("a session begins with welcome") };
    assert!((900_000_000..=1_000_000_000).contains(&welcome.heartbeat_period) && !welcome.session_id.is_empty());
    let ToAgent::Membership(membership) = agent.next().await.unwrap() else { panic!("then comes what it has to know") };
    assert_eq!((membership.role(), membership.managers.len()), (pb::NodeRole::Manager, 0), "it advertises no address");
    let ToAgent::Complete(set) = agent.next().await.unwrap() else { panic!("then comes the complete set") };
    assert_eq!((set.sequence, tasks(&set.assignments).len()), (1, 0));
    assert!(set.index > 0 && bench.control.hub.snapshot().index() >= set.index, "{}", set.index);
    bench.wait("ready node", |state| state.node(node).unwrap().status.state == NodeState::Ready).await;
    let known = bench.control.hub.snapshot().node(node).cloned().unwrap();
    assert_eq!(known.description.as_ref().unwrap().hostname, "here");
    assert_eq!(known.status.address, "10.0.0.1");

    bench.create("web", 2, |_| {}).await;
    let mut got = Vec::new();
    let (mut last, mut index) = (1, set.index);
    while got.len() < 2 {
        let changes = agent.changes("tasks", |_| true).await;
        assert_eq!(changes.sequence, last + 1, "changes have no gap");
        assert!(changes.index > index, "{} after {index}", changes.index);
        index = changes.index;
        last = changes.sequence;
        let position = |of: &dyn Fn(&pb::assignment::Item) -> bool| {
            changes.updates.iter().position(|update| of(update.item.as_ref().unwrap()))
        };
        if let Some(task) = position(&|item| matches!(item, pb::assignment::Item::Task(_))).filter(|_| got.is_empty()) {
            let spec = position(&|item| matches!(item, pb::assignment::Item::Spec(_))).expect("the spec comes along");
            assert!(spec < task, "the spec comes before the task");
        }
        got.extend(tasks(&changes.updates).into_iter().map(|task| task.id.clone()));
    }
    for (sequence, task) in (1..).zip(&got) {
        agent.report(sequence, task, TaskState::Running).await;
    }
    bench.wait("two running tasks", |state| state.tasks_in_state(TaskState::Running).count() == 2).await;
    // A report of an earlier state changes nothing, and is acknowledged too.
    agent.report(9, &got[0], TaskState::Preparing).await;
    loop {
        if matches!(agent.next().await.unwrap(), ToAgent::StatusAck(ack) if ack.sequence == 9) {
            break;
        }
    }
    assert_eq!(bench.control.hub.snapshot().tasks_in_state(TaskState::Running).count(), 2);
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_only_the_secrets_and_configs_that_its_tasks_use() {
    let bench = Bench::start(directory()).await;
    let node = bench.manager.node();
    let mut agent = Agent::connect(&bench, node).await;
    let spec = |name: &str| SecretSpec {
        name: name.parse().unwrap(),
        stack: None,
        labels: Default::default(),
        template_driver: None,
        data: SecretBytes(name.to_owned().into()),
    };
    let mut tx = tx(1);
    for (number, name) in [(1, "used"), (2, "unused")] {
        tx.create(Secret::new(id(number), SecretBytes::default(), spec(name)));
        tx.create(config(number, name, name.to_owned()));
    }
    bench.control.proposer.propose(tx).await.unwrap();
    let mount = FileMount {
        source: "used".into(),
        target: "/x".into(),
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o400,
        digest: None,
    };
    bench
        .create("web", 1, |container| {
            container.secrets.push(mount.clone());
            container.configs.push(mount);
        })
        .await;
    let changes = agent.changes("task", |changes| !tasks(&changes.updates).is_empty()).await;
    let named = |of: &dyn Fn(&pb::assignment::Item) -> Option<String>| {
        changes.updates.iter().filter_map(|update| of(update.item.as_ref().unwrap())).collect::<Vec<_>>()
    };
    let secrets = named(&|item| match item {
        pb::assignment::Item::Secret(secret) => Some(secret.name.clone()),
        _ => None,
    });
    let configs = named(&|item| match item {
        pb::assignment::Item::Config(config) => Some(config.name.clone()),
        _ => None,
    });
    assert_eq!((secrets, configs), (vec!["used".to_owned()], vec!["used".to_owned()]));
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_goes_down_and_comes_back() {
    let bench = Bench::start(directory()).await;
    let node = bench.manager.node();
    let state_is = |wanted| move |state: &State| state.node(node).unwrap().status.state == wanted;
    let quick = |state: &State| {
        let mut cluster = Cluster::clone(state.cluster().unwrap());
        cluster.spec.heartbeat_period = Duration::from_millis(50);
        let mut tx = tx(1);
        tx.update(cluster);
        Ok::<_, berth_manager::raft::ProposeError>(Some(tx))
    };
    bench.control.proposer.write(quick).await.unwrap();
    let agent = Agent::connect(&bench, node).await;
    bench.wait("ready node", state_is(NodeState::Ready)).await;
    // The stream stays open; nothing comes over it.
    bench.wait("down node", state_is(NodeState::Down)).await;
    // One heartbeat would make it ready only for a moment, which a busy machine may not see.
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let beating = async {
        loop {
            beat.tick().await;
            agent.send(FromAgent::Heartbeat(pb::Heartbeat {})).await;
        }
    };
    tokio::select! {
        () = bench.wait("ready node again", state_is(NodeState::Ready)) => {}
        () = beating => {}
    }
    drop(agent);
    bench.wait("down node again", state_is(NodeState::Down)).await;
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_back_knows_its_node_and_hears_of_it_anew() {
    let bench = Bench::start(directory()).await;
    let node = bench.manager.node();
    let mut agent = Agent::connect(&bench, node).await;
    bench.create("web", 1, |_| {}).await;
    let changes = agent.changes("task", |changes| !tasks(&changes.updates).is_empty()).await;
    let task = tasks(&changes.updates)[0].id.clone();
    agent.report(1, &task, TaskState::Running).await;
    bench.wait("running task", |state| state.tasks_in_state(TaskState::Running).count() == 1).await;
    bench.manager.shutdown().await;

    let bench = Bench::start(bench.dir).await;
    assert_eq!(bench.manager.node(), node);
    bench.wait("unknown node", |state| state.node(node).unwrap().status.state == NodeState::Unknown).await;
    let mut agent = Agent::connect(&bench, node).await;
    assert!(matches!(agent.next().await.unwrap(), ToAgent::Welcome(_)));
    assert!(matches!(agent.next().await.unwrap(), ToAgent::Membership(_)));
    let ToAgent::Complete(set) = agent.next().await.unwrap() else { panic!("then comes the complete set") };
    let known: Vec<_> = tasks(&set.assignments).iter().map(|task| task.id.clone()).collect();
    assert_eq!(known, [task]);
    bench.wait("ready node", |state| state.node(node).unwrap().status.state == NodeState::Ready).await;
    let kinds = bench.control.hub.snapshot().objects().filter(|it| it.kind() == ObjectKind::Cluster).count();
    assert_eq!(kinds, 1, "the cluster is made once");
    bench.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_older_sessions_are_turned_away() {
    let bench = Bench::start(directory()).await;
    let mut stranger = Agent::connect(&bench, Id::from_random(42)).await;
    let refused = stranger.next().await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound, "{refused}");
    assert_eq!(berth_proto::removal::of(&refused), Some(Id::from_random(42)), "{refused:?}");
    let node = bench.manager.node();
    let mut older = Agent::connect(&bench, node).await;
    assert!(matches!(older.next().await.unwrap(), ToAgent::Welcome(_)));
    assert!(matches!(older.next().await.unwrap(), ToAgent::Membership(_)));
    assert!(matches!(older.next().await.unwrap(), ToAgent::Complete(_)));
    let mut newer = Agent::connect(&bench, node).await;
    assert!(matches!(newer.next().await.unwrap(), ToAgent::Welcome(_)));
    let refused = loop {
        match older.next().await {
            // Its place on the ingress network, and that the others know.
            Ok(ToAgent::Changes(_) | ToAgent::Settled(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(refused) => break refused,
        }
    };
    assert!(refused.message().contains("newer session"), "{refused}");
    bench.manager.shutdown().await;
}
