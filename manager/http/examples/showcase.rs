//! A manager with made-up nodes and tasks in every state, to look at the pages by hand:
//! `cargo run -p berth-http --example showcase -- NODES TASKS PORT`. Prints a token for the login. Nothing of it runs anywhere,
//! and no loop of a manager looks at it: states change because this program draws lots.
#![allow(missing_docs, clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_http::{Site, router, serve};
use berth_manager::api::ControlApi;
use berth_manager::manager::ControlHandle;
use berth_manager::raft::{DataDir, PlainConnect, ProposeError, RaftNode, RaftSettings};
use berth_manager::store::{State, Transaction};
use berth_proto::id::{Id, NodeId, ServiceId};
use berth_proto::object::{
    Cluster, ContainerStatus, ManagerStatus, Meta, Node, NodeDescription, NodeResources, NodeStatus, RestartRecord,
    Service, Slot, Task, TaskStatus, UpdateProgress, UpdateStatus,
};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::spec::{ClusterSpec, ContainerSpec, NodeSpec, Platform, PortConfig, ServiceMode, ServiceSpec};
use berth_proto::state::{Availability, DesiredState, HealthState, NodeRole, NodeState, TaskState};
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

/// Objects in one transaction.
const BATCH: usize = 500;
/// States that are seen most, and now and then another one.
const STATES: [TaskState; 13] = [
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|word| word.parse().expect("NODES TASKS PORT")).collect();
    let [nodes, tasks, port] = numbers[..] else { panic!("showcase NODES TASKS PORT") };
    let dir = tempfile::tempdir().unwrap();
    let settings = RaftSettings::default();
    let raft = RaftNode::start(DataDir::open(dir.path()).unwrap(), settings, Arc::new(PlainConnect)).await.unwrap();
    let handle = ControlHandle {
        hub: raft.hub().clone(),
        proposer: raft.proposer().clone(),
        leads: raft.leads(),
        node: node_id(0),
        forward: raft.forward().clone(),
        members: raft.members(),
        tracer: Tracer::off(),
        metrics: Arc::default(),
    };
    fill(&handle, nodes, tasks).await;
    let control = ControlApi::new(handle.clone(), env!("CARGO_PKG_VERSION"));
    for role in [pb::ApiRole::Viewer, pb::ApiRole::Operator, pb::ApiRole::Admin] {
        let name = role.as_str_name().to_lowercase().replace("api_role_", "");
        let request = pb::TokenCreateRequest { name: name.clone(), role: role.into(), ..Default::default() };
        let made = control.token_create(tonic::Request::new(request)).await.unwrap().into_inner();
        println!("{name}: {}", made.text);
    }
    let nobody = NodeServiceClient::new(Endpoint::from_static("http://127.0.0.1:9").connect_lazy());
    let stop = CancellationToken::new();
    let site = Site::new(handle.clone(), control, nobody, false).until(stop.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap())).await.unwrap();
    println!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(play(handle));
    let _ = serve::Server::new(listener, router(site)).run(stop).await;
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn node_id(number: usize) -> NodeId {
    Id::from_random(1 + number as u128)
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp(now().0 - i64::try_from(seconds).unwrap() * 1_000_000_000)
}

async fn write(handle: &ControlHandle, change: impl Fn(&State, &mut Transaction)) {
    let make = |state: &State| {
        let mut tx = Transaction::new(now(), "showcase");
        change(state, &mut tx);
        Ok::<_, ProposeError>(Some(tx))
    };
    handle.proposer.write(make).await.unwrap();
}

async fn fill(handle: &ControlHandle, nodes: usize, tasks: usize) {
    write(handle, |_, tx| {
        let spec = ClusterSpec { name: "showcase".into(), ..ClusterSpec::default() };
        tx.create(Cluster { id: Id::from_random(1), meta: Meta::default(), spec, authority: None, tokens: vec![] });
        (0..nodes).for_each(|number| tx.create(node(number)));
    })
    .await;
    let services = (tasks / 12).clamp(1, 60);
    let share = tasks.div_ceil(services);
    write(handle, |_, tx| (0..services).for_each(|number| tx.create(service(number, share)))).await;
    for from in (0..tasks).step_by(BATCH) {
        let batch = from..tasks.min(from + BATCH);
        write(handle, |state, tx| {
            let made = batch.clone().map(|number| task(state, number, services, nodes));
            made.for_each(|task| tx.create(task));
        })
        .await;
    }
}

fn node(number: usize) -> Node {
    let id = node_id(number);
    let is_manager = number < 3;
    let (state, message) = match number % 23 {
        9 => (NodeState::Down, "heartbeats stopped"),
        17 => (NodeState::Unknown, ""),
        _ => (NodeState::Ready, ""),
    };
    let availability = match number % 19 {
        7 => Availability::Drain,
        11 => Availability::Pause,
        _ => Availability::Active,
    };
    let address = format!("10.0.{}.{}", number / 250, number % 250 + 1);
    let description = NodeDescription {
        hostname: format!("node-{}", number + 1),
        platform: Platform { os: "linux".into(), architecture: "amd64".into() },
        resources: NodeResources { nano_cpus: 16_000_000_000, memory: 64 << 30, ..NodeResources::default() },
        engine_version: env!("CARGO_PKG_VERSION").into(),
        capabilities: ["cgroup:v2".to_owned(), "network:overlay".to_owned()].into(),
        ..NodeDescription::default()
    };
    let manager = ManagerStatus {
        raft_id: number as u64 + 1,
        address: format!("{address}:4777"),
        leader: number == 0,
        reachable: number != 2,
    };
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec {
            role: if is_manager { NodeRole::Manager } else { NodeRole::Worker },
            availability,
            labels: [("zone".to_owned(), ["a", "b", "c"][number % 3].to_owned())].into(),
        },
        description: Some(description),
        status: NodeStatus {
            state,
            message: message.into(),
            address: format!("{address}:4777"),
            at: ago(4000),
            ..Default::default()
        },
        manager: is_manager.then_some(manager),
        ingress: Vec::new(),
    }
}

fn service(number: usize, replicas: usize) -> Service {
    const NAMES: [&str; 8] = ["web", "api", "cart", "search", "mail", "queue", "cache", "report"];
    let name = format!("shop-{}_{}", number / NAMES.len() + 1, NAMES[number % NAMES.len()]);
    let container = ContainerSpec {
        image: format!("registry.example.org/shop/{}:1.{number}", NAMES[number % NAMES.len()]),
        ..ContainerSpec::default()
    };
    let mut spec = ServiceSpec::new(name.parse().unwrap(), container);
    spec.stack = Some(format!("shop-{}", number / NAMES.len() + 1).parse().unwrap());
    spec.mode = ServiceMode::Replicated { replicas: replicas as u64 };
    spec.task.resources.reservations.nano_cpus = 100_000_000 * (1 + number as u64 % 7);
    spec.task.resources.reservations.memory = (64 << 20) * (1 + number as u64 % 9);
    if number.is_multiple_of(3) {
        let published = Some(8000 + u16::try_from(number).unwrap());
        spec.endpoint.ports.push(PortConfig {
            name: None,
            protocol: Default::default(),
            target: 80,
            published,
            mode: Default::default(),
            host_ip: None,
        });
    }
    let update = |progress| UpdateStatus {
        progress,
        started_at: ago(90),
        completed_at: None,
        message: "2 of 12 new tasks failed".into(),
        target: 0,
    };
    Service {
        update: match number % 5 {
            1 => Some(update(UpdateProgress::Updating)),
            2 => Some(update(UpdateProgress::Completed)),
            3 => Some(update(UpdateProgress::Paused)),
            4 => Some(update(UpdateProgress::RollbackCompleted)),
            _ => None,
        },
        ..Service::new(service_id(number), spec)
    }
}

fn service_id(number: usize) -> ServiceId {
    Id::from_random(1_000_000 + number as u128)
}

fn task(state: &State, number: usize, services: usize, nodes: usize) -> Task {
    let service = state.service(service_id(number % services)).unwrap();
    // Most run.
    let observed = if number % 7 == 3 { STATES[number / 7 % STATES.len()] } else { TaskState::Running };
    let placed = observed >= TaskState::Assigned;
    let failed = matches!(observed, TaskState::Failed | TaskState::Rejected);
    let error = match observed {
        TaskState::Failed => "exited with code 137: out of memory",
        TaskState::Rejected => "cannot pull the image: registry.example.org does not answer",
        TaskState::Pending => "no node fits: 12 nodes: 12 lack 4GiB memory (most left: 1.4GiB)",
        _ => "",
    };
    let container = failed.then(|| ContainerStatus { exit_code: Some(137), ..ContainerStatus::default() });
    Task {
        id: Id::from_random(2_000_000 + ((number as u128) << 64)),
        meta: Meta::default(),
        service: service.id,
        service_name: service.spec.name.clone(),
        spec_version: service.spec_version,
        slot: Slot::Replica((number / services) as u64 + 1),
        node: placed.then(|| node_id(number * 7 % nodes)),
        desired: if observed.is_terminal() && observed != TaskState::Complete {
            DesiredState::Shutdown
        } else {
            DesiredState::Running
        },
        status: TaskStatus {
            state: observed,
            at: ago(number as u64 * 37 % 9000),
            error: error.into(),
            health: (number % 41 == 5).then_some(HealthState::Unhealthy),
            container,
            ..TaskStatus::default()
        },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord { failures_in_row: u32::from(number % 29 == 8) * 3, ..RestartRecord::default() },
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

/// Every second some tasks go on: those that start come nearer to running, some that run fail.
async fn play(handle: ControlHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let draw: usize = rand::random::<u32>() as usize;
        write(&handle, |state, tx| {
            let moving = state.tasks().filter(|task| task.node.is_some() && task.status.state <= TaskState::Running);
            for task in moving.skip(draw % 40).step_by(61).take(8) {
                let next = match task.status.state {
                    TaskState::Running if draw.is_multiple_of(4) => TaskState::Failed,
                    TaskState::Running => continue,
                    early => STATES[STATES.iter().position(|state| *state == early).unwrap() + 1],
                };
                let status = TaskStatus { state: next, at: now(), ..TaskStatus::default() };
                tx.update(Arc::new(Task { status, ..Task::clone(task) }));
            }
        })
        .await;
    }
}
