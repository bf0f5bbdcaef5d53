//! One manager and a number of agents, from the join to the return of all at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use berth_proto::pb::{self, control_client::ControlClient};
use berth_proto::spec::{ContainerSpec, NetworkAttachmentSpec, ServiceMode, ServiceSpec};
use berth_proto::state::{NodeState, TaskState};
use berth_tests::Cluster;
use tonic::transport::Channel;

use crate::IMAGE;
use crate::figures::Samples;
use crate::fleet::{CPUS, Fleet};
use crate::inside::enter_network;
use crate::process::{cpu, forget_peak, memory, peak};
use crate::wire::{control, runtime};

/// How long the idle manager is looked at.
const IDLE: Duration = Duration::from_secs(20);
/// The tasks are of that many services.
const SERVICES: u64 = 5;
/// Between two looks at the manager's state.
const LOOK: Duration = Duration::from_millis(100);

/// Prints the figures of `count` agents whose tasks are all on `network`.
pub fn run(count: usize, network: &str) {
    let cluster = Cluster::new("bench-agents", 1, 0);
    let host = cluster.host(0);
    let token = cluster.token("worker");
    // The tasks are the agents' alone.
    host.berth(&["node", "drain", host.hostname()]).ok();
    enter_network(host);
    let manager = host.daemon_pid();
    println!("{count} agents; the manager before: {}", memory(manager));
    runtime().block_on(async {
        let mut control = control(host).max_decoding_message_size(usize::MAX);
        let fleet = join(&mut control, manager, count, &token).await;
        fill(&mut control, manager, &fleet, count, network).await;
        idle(manager).await;
        return_at_once(&mut control, manager, &fleet, count).await;
    });
}

async fn join(control: &mut ControlClient<Channel>, manager: i32, count: usize, token: &str) -> Fleet {
    let meter = Meter::start(manager);
    let fleet = Fleet::join(count, &format!("{}:4777", berth_tests::cluster::address(0)), token).await;
    let up = fleet.sessions(1).await;
    while ready(control).await < count {
        tokio::time::sleep(LOOK).await;
    }
    meter.stop(&format!("{count} agents join at once, until all are ready"));
    Samples::new("  one of them, until its session is up", up.iter().map(|up| *up - meter.begin)).print();
    fleet
}

async fn fill(control: &mut ControlClient<Channel>, manager: i32, fleet: &Fleet, count: usize, network: &str) {
    let tasks = count as u64 * CPUS;
    let meter = Meter::start(manager);
    for number in 0..SERVICES {
        let spec = Some((&service(number, tasks / SERVICES, network)).into());
        control.service_create(pb::ServiceCreateRequest { spec }).await.expect("a service is created");
    }
    fleet.told(CPUS as usize).await;
    meter.stop(&format!("{tasks} tasks are created, until all run"));
    Samples::new("  one of them, until its node has it", fleet.came().iter().map(|came| *came - meter.begin)).print();
    println!("  {} run, as the manager has it", running(control).await.len());
}

async fn idle(manager: i32) {
    let before = cpu(manager);
    tokio::time::sleep(IDLE).await;
    let used = (cpu(manager) - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    println!("idle with heartbeats for {IDLE:?}: {used:.1} % of one processor; {}", memory(manager));
}

async fn return_at_once(control: &mut ControlClient<Channel>, manager: i32, fleet: &Fleet, count: usize) {
    let before = running(control).await;
    let meter = Meter::start(manager);
    let cut = fleet.cut();
    assert!(cut >= count, "{cut} connections of {count} agents were there to be cut");
    let up = fleet.sessions(2).await;
    while ready(control).await < count {
        tokio::time::sleep(LOOK).await;
    }
    meter.stop(&format!("{count} agents return at once, until all are ready"));
    Samples::new("  one of them, until its session is up", up.iter().map(|up| *up - meter.begin)).print();
    fleet.told(CPUS as usize).await;
    let kept = running(control).await.intersection(&before).count();
    println!("  of {} tasks {kept} ran on, {} were told to end", before.len(), fleet.disturbed());
}

/// Time, and what the manager uses meanwhile.
struct Meter {
    manager: i32,
    begin: Instant,
    cpu: Duration,
    own: Duration,
}

impl Meter {
    fn start(manager: i32) -> Self {
        forget_peak(manager);
        Self { manager, begin: Instant::now(), cpu: cpu(manager), own: cpu(own()) }
    }

    fn stop(&self, name: &str) {
        Samples::new(name, [self.begin.elapsed()]).print();
        let (used, ours) = (cpu(self.manager) - self.cpu, cpu(own()) - self.own);
        println!("  cpu: the manager {used:.1?}, the agents {ours:.1?}");
        println!("  the manager: {}, at most {:.1} MiB resident", memory(self.manager), peak(self.manager));
    }
}

fn own() -> i32 {
    std::process::id() as i32
}

/// Agents that the manager shows as ready.
async fn ready(control: &mut ControlClient<Channel>) -> usize {
    let nodes = list(control, pb::ObjectKind::Node).await.into_iter().filter_map(|object| match object.object {
        Some(pb::object::Object::Node(node)) => berth_proto::object::Node::try_from(node).ok(),
        _ => None,
    });
    nodes.filter(|node| node.manager.is_none() && node.status.state == NodeState::Ready).count()
}

/// Tasks that the manager shows as running.
async fn running(control: &mut ControlClient<Channel>) -> BTreeSet<String> {
    let tasks = list(control, pb::ObjectKind::Task).await.into_iter().filter_map(|object| match object.object {
        Some(pb::object::Object::Task(task)) => berth_proto::object::Task::try_from(task).ok(),
        _ => None,
    });
    tasks.filter(|task| task.status.state == TaskState::Running).map(|task| task.id.to_string()).collect()
}

async fn list(control: &mut ControlClient<Channel>, kind: pb::ObjectKind) -> Vec<pb::Object> {
    let request = pb::ListRequest { kinds: vec![kind.into()], ..pb::ListRequest::default() };
    control.list(request).await.expect("the manager answers").into_inner().objects
}

/// Tasks that fill the agents' machines exactly.
fn service(number: u64, replicas: u64, network: &str) -> ServiceSpec {
    let container = ContainerSpec { image: IMAGE.to_owned(), ..ContainerSpec::default() };
    let mut spec = ServiceSpec::new(format!("load{number}").parse().expect("a name"), container);
    spec.mode = ServiceMode::Replicated { replicas };
    spec.task.resources.reservations.nano_cpus = 1_000_000_000;
    spec.task.networks.push(NetworkAttachmentSpec {
        network: network.parse().expect("a name"),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    });
    spec
}
