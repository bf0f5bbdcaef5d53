//! Several managers and nodes with tasks on one network: nodes learn of each other's places, and that the others know
//! of theirs.

use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::Task;
use berth_proto::spec::{NetworkAttachmentSpec, PortConfig, PublishMode, ServiceMode, ServiceSpec};
use berth_proto::state::{DesiredState, NodeRole, TaskState};

use crate::store_support::{network, service, service_spec};
use crate::support::{Agent, Managers, eventually};

/// A service with a task on every node, all on one overlay network.
fn everywhere(name: &str) -> ServiceSpec {
    let mut spec = service_spec(name);
    spec.mode = ServiceMode::Global;
    spec.task.container.image = "busybox".into();
    spec.task.networks = vec![NetworkAttachmentSpec {
        network: "net".parse().unwrap(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    }];
    spec
}

/// Managers, and a node with a session with each of `with` and a task of one service.
async fn cluster(count: u8, with: impl AsyncFn(&Managers) -> Vec<u8>) -> (Managers, Vec<Agent>) {
    let managers = Managers::of(count).await;
    let mut agents = Vec::new();
    for number in with(&managers).await {
        let node = managers.add_node(NodeRole::Worker).await;
        agents.push(Agent::connect(node, managers.members[&number].address).await);
    }
    let (net, web) = (network(rand::random(), "net"), service(rand::random(), everywhere("web")));
    managers
        .write(1, |state, tx| {
            if state.service(web.id).is_none() {
                tx.create(net.clone());
                tx.create(web.clone());
            }
        })
        .await;
    for agent in &mut agents {
        agent.until("its task", |heard| !heard.tasks.is_empty()).await;
    }
    (managers, agents)
}

/// The task that the node has now.
fn task_of(managers: &Managers, through: u8, node: NodeId) -> Option<Arc<Task>> {
    let works = |task: &&Arc<Task>| task.desired.wants_work() && task.status.state >= TaskState::Assigned;
    managers.state(through).tasks_on_node(node).find(works).cloned()
}

/// The node's task is to stop; returns the index from which the node has heard of it. Another one will take its place.
async fn stop_task(managers: &Managers, through: u8, agent: &mut Agent) -> u64 {
    let node = agent.node;
    let task = eventually("a task", || task_of(managers, through, node).ok_or("none")).await;
    managers.write(through, |_, tx| tx.desire(task.id, DesiredState::Shutdown)).await;
    let stops = |it: &berth_proto::pb::Task| it.desired() == berth_proto::pb::DesiredState::Shutdown;
    let id = task.id.to_string();
    agent.until("the end of its task", |heard| heard.tasks.get(&id).is_some_and(stops)).await.owed
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_know_the_place_of_tasks_before_these_start_and_of_all_nodes_once_a_port_is_published() {
    let (managers, mut agents) = cluster(2, async |managers| vec![managers.leader().await; 2]).await;
    let alone = managers.add_node(NodeRole::Worker).await;
    let (one, other) = (agents[0].node.to_string(), agents[1].node.to_string());
    let task = task_of(&managers, 1, agents[1].node).unwrap().id.to_string();
    let heard = agents[0]
        .until("the place of the other's task", |heard| {
            let peer =
                heard.peers.get(&other).is_some_and(|peer| peer.address == "10.0.0.1" && peer.ingress.len() == 2);
            peer && heard.backends.contains_key(&task) && heard.networks.contains("ingress")
        })
        .await;
    let place = &heard.backends[&task];
    assert_eq!((place.named, place.ready, place.attachments.len()), (false, false, 1), "it has not started");
    assert!(
        heard.networks.contains("net")
            && heard.peers.contains_key(&one)
            && !heard.peers.contains_key(&alone.to_string())
    );

    agents[1].report(1, &task, TaskState::Running).await;
    let serves = |heard: &crate::support::Heard| heard.backends[&task].named && heard.backends[&task].ready;
    agents[0].until("a task that serves", serves).await;
    managers.write(1, |_, tx| tx.desire(task.parse().unwrap(), DesiredState::Shutdown)).await;
    let leaves = |heard: &crate::support::Heard| !heard.backends[&task].named && !heard.backends[&task].ready;
    agents[0].until("a task that only has a place", leaves).await;

    let _third = Agent::connect(alone, managers.members[&1].address).await;
    let mut published = service_spec("published");
    published.mode = ServiceMode::Replicated { replicas: 0 };
    published.endpoint.ports = vec![PortConfig {
        name: None,
        protocol: Default::default(),
        target: 80,
        published: Some(8080),
        mode: PublishMode::Ingress,
        host_ip: None,
    }];
    let published = service(rand::random(), published);
    managers
        .write(1, |state, tx| {
            if state.service(published.id).is_none() {
                tx.create(published.clone());
            }
        })
        .await;
    let all = |heard: &crate::support::Heard| heard.peers.contains_key(&alone.to_string());
    agents[0].until("a node without tasks, which is an entrance", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_that_all_others_know_of_its_tasks_when_they_have_said_so() {
    let (managers, mut agents) =
        cluster(2, async |managers| vec![managers.followers().await[0], managers.leader().await]).await;
    let [one, other] = &mut agents[..] else { panic!("two agents") };
    let first = stop_task(&managers, 1, one).await;
    one.until("word that it is settled", |heard| heard.settled >= first).await;

    // The other takes in nothing for a while.
    let before = other.heard.borrow().told.1;
    other.acknowledging.send_replace(false);
    let second = stop_task(&managers, 1, one).await;
    other.until("word of it", |heard| heard.told.1 > before).await;
    // What it was told and did not acknowledge; the stop of a task that had not started may have been nothing to tell.
    let unacknowledged = other.heard.borrow().told.1;
    assert!(one.heard.borrow().settled < unacknowledged, "it is not settled: {:?}", one.heard.borrow());
    other.acknowledging.send_replace(true);
    one.until("word that it is settled", |heard| heard.settled >= second).await;

    // One that hangs is left out after its time, and waited for again when it has come back.
    other.acknowledging.send_replace(false);
    let third = stop_task(&managers, 1, one).await;
    one.until("word that it is settled without the other", |heard| heard.settled >= third).await;
    assert!(!*other.acknowledging.borrow());
    let fourth = stop_task(&managers, 1, one).await;
    one.until("the same again", |heard| heard.settled >= fourth).await;
    other.acknowledging.send_replace(true);
    let fifth = stop_task(&managers, 1, one).await;
    one.until("word that it is settled", |heard| heard.settled >= fifth).await;
    let own = stop_task(&managers, 1, other).await;
    other.until("word on its own tasks", |heard| heard.settled >= own).await;
    let before = other.heard.borrow().told.1;
    other.acknowledging.send_replace(false);
    let last = stop_task(&managers, 1, one).await;
    other.until("word of it", |heard| heard.told.1 > before).await;
    let unacknowledged = other.heard.borrow().told.1;
    assert!(one.heard.borrow().settled < unacknowledged, "{last}: it is waited for again: {:?}", one.heard.borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_nodes_of_a_manager_that_is_gone() {
    let (mut managers, mut agents) = cluster(3, async |managers| managers.followers().await).await;
    let followers = managers.followers().await;
    let [one, other] = &mut agents[..] else { panic!("two agents") };
    other.acknowledging.send_replace(false);
    managers.kill(followers[1]).await;
    let index = stop_task(&managers, followers[0], one).await;
    one.until("word that it is settled", |heard| heard.settled >= index).await;

    // Nor is anything forgotten when another leads.
    managers.start(followers[1]).await.unwrap();
    let leader = managers.leader().await;
    managers.kill(leader).await;
    let index = stop_task(&managers, followers[0], one).await;
    one.until("word that it is settled", |heard| heard.settled >= index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_alone_waits_for_nobody() {
    let (managers, mut agents) = cluster(1, async |_| vec![1]).await;
    let one = &mut agents[0];
    // Its own word is not needed.
    one.acknowledging.send_replace(false);
    for _ in 0..3 {
        let index = stop_task(&managers, 1, one).await;
        one.until("word that it is settled", |heard| heard.settled >= index).await;
    }
}
