//! The daemon that is asked: many services, all of whose tasks run.

use std::time::Duration;

use berth_proto::pb::{self, control_client::ControlClient};
use berth_proto::spec::{ContainerSpec, NetworkAttachmentSpec, ServiceMode, ServiceSpec};
use berth_proto::state::TaskState;
use berth_tests::{Cluster, Host};
use tonic::transport::Channel;

use crate::IMAGE;
use crate::fleet::Fleet;
use crate::process::memory;
use crate::wire::control;

/// Where a daemon serves HTTP by default.
pub const ADDRESS: &str = "127.0.0.1:4778";
const SERVICES: u64 = 1_000;
const REPLICAS: u64 = 10;
const AGENTS: usize = 50;
/// Between two looks at the manager's state.
const LOOK: Duration = Duration::from_millis(500);

/// What the command line says: how machines join, and who may ask.
pub struct Words {
    join: String,
    token: String,
}

impl Words {
    /// Blocks; the tasks are to be the agents' alone.
    pub fn of(cluster: &Cluster) -> Self {
        let host = cluster.host(0);
        host.berth(&["node", "drain", host.hostname()]).ok();
        let made = host.berth(&["token", "create", "bench", "--role", "viewer"]).ok();
        let token = made.split_whitespace().find(|word| word.starts_with("berth_api_")).expect("a token is printed");
        Self { join: cluster.token("worker"), token: token.to_owned() }
    }
}

/// A full cluster of one manager.
pub struct World {
    pub control: ControlClient<Channel>,
    /// Of a viewer.
    pub token: String,
    /// Id of one of the services.
    pub service: String,
    /// Id of one of the tasks.
    pub task: String,
    _fleet: Fleet,
}

impl World {
    /// Returns once all tasks run.
    pub async fn fill(host: &Host, words: Words) -> Self {
        let mut control = control(host).max_decoding_message_size(usize::MAX);
        let manager = format!("{}:4777", berth_tests::cluster::address(0));
        let fleet = Fleet::join(AGENTS, &manager, &words.join).await;
        fleet.sessions(1).await;
        let mut service = String::new();
        for number in 0..SERVICES {
            service = create(&mut control, &format!("service{number}"), REPLICAS).await;
        }
        let task = loop {
            let running = running(&mut control).await;
            if running.len() as u64 == SERVICES * REPLICAS {
                break running.into_iter().next().expect("there are many");
            }
            tokio::time::sleep(LOOK).await;
        };
        println!("{SERVICES} services, {} tasks run; the manager: {}", SERVICES * REPLICAS, memory(host.daemon_pid()));
        Self { control, token: words.token, service, task, _fleet: fleet }
    }
}

/// Makes a service; returns its id.
pub async fn create(control: &mut ControlClient<Channel>, name: &str, replicas: u64) -> String {
    let container = ContainerSpec { image: IMAGE.to_owned(), ..ContainerSpec::default() };
    let mut spec = ServiceSpec::new(name.parse().expect("a name"), container);
    spec.mode = ServiceMode::Replicated { replicas };
    spec.task.networks.push(NetworkAttachmentSpec {
        network: "host".parse().expect("a name"),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    });
    let request = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
    control.service_create(request).await.expect("a service is created").into_inner().id
}

/// Ids of the tasks that the manager shows as running.
async fn running(control: &mut ControlClient<Channel>) -> Vec<String> {
    let request = pb::ListRequest { kinds: vec![pb::ObjectKind::Task.into()], ..pb::ListRequest::default() };
    let objects = control.list(request).await.expect("the manager answers").into_inner().objects;
    let tasks = objects.into_iter().filter_map(|object| match object.object {
        Some(pb::object::Object::Task(task)) => berth_proto::object::Task::try_from(task).ok(),
        _ => None,
    });
    tasks.filter(|task| task.status.state == TaskState::Running).map(|task| task.id.to_string()).collect()
}
