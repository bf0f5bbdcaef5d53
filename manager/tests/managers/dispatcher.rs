//! Three managers over loopback, with agents of a few lines: sessions on any of them, the loss of the leader, nodes that move.

use std::time::Duration;

use berth_manager::manager::ManagerError;
use berth_manager::store::{Event, Object, Snapshot};
use berth_proto::id::NodeId;
use berth_proto::object::Task;
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::state::{Availability, NodeRole, NodeState, TaskState};
use berth_proto::{pb, removal};
use tonic::Code;

use crate::store_support::{service, service_spec};
use crate::support::{Agent, Managers, Watcher};

/// Longer than a node may be silent at the period that clusters begin with: three and a half seconds.
const GRACE_AND_MORE: Duration = Duration::from_secs(5);

async fn ready(managers: &Managers, number: u8, node: NodeId) {
    let is_ready = |state: &Snapshot| state.node(node).unwrap().status.state == NodeState::Ready;
    managers.wait(number, "a ready node", is_ready).await;
}

/// A task on the node, as if it had been placed there.
async fn place(managers: &Managers, number: u8, node: NodeId) -> String {
    let mut spec = service_spec("web");
    spec.mode = berth_proto::spec::ServiceMode::Replicated { replicas: 1 };
    let service = service(rand::random(), spec);
    managers
        .write(number, |state, tx| {
            if state.service(service.id).is_none() {
                tx.create(service.clone());
            }
        })
        .await;
    let of_node = |task: &&std::sync::Arc<Task>| task.node == Some(node) && task.status.state >= TaskState::Assigned;
    let placed = || managers.state(number).tasks_of_service(service.id).find(of_node).map(|task| task.id.to_string());
    crate::support::eventually("a placed task", || placed().ok_or("none yet")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_a_follower_keeps_its_node_ready_and_outlives_the_leader() {
    let mut managers = Managers::of(3).await;
    let node = managers.add_node(NodeRole::Worker).await;
    let follower = managers.followers().await[0];
    let mut agent = Agent::connect(node, managers.members[&follower].address).await;
    ready(&managers, follower, node).await;
    let placed = place(&managers, follower, node).await;
    agent.until("its task", |heard| heard.tasks.contains_key(&placed)).await;

    let watcher = Watcher::of(managers.manager(follower), node);
    let lost = managers.leader().await;
    managers.kill(lost).await;
    agent.report(1, &placed, TaskState::Running).await;
    agent.until("an acknowledgement", |heard| heard.acknowledged == 1).await;
    assert_ne!(managers.leader().await, lost);
    tokio::time::sleep(GRACE_AND_MORE).await;
    ready(&managers, follower, node).await;
    assert!(!watcher.seen().contains(&NodeState::Down), "{:?}", watcher.seen());
    let task = managers.state(follower).tasks_on_node(node).next().cloned().unwrap();
    assert_eq!((task.id.to_string(), task.status.state), (placed, TaskState::Running));
    assert!(agent.heard.borrow().ended.is_none(), "the session goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_moves_from_one_manager_to_another_is_never_down() {
    let managers = Managers::of(3).await;
    let node = managers.add_node(NodeRole::Worker).await;
    let followers = managers.followers().await;
    let mut older = Agent::connect(node, managers.members[&followers[0]].address).await;
    ready(&managers, followers[0], node).await;
    let watcher = Watcher::of(managers.manager(followers[0]), node);
    // The old stream stays open, as after a cut that only one side has noticed: it is the managers who end it.
    let mut newer = Agent::connect(node, managers.members[&followers[1]].address).await;
    let ended = older.until("the end of the older session", |heard| heard.ended.is_some()).await.ended.unwrap();
    assert!(ended.message().contains("newer session"), "{ended}");
    let leader = managers.leader().await;
    let newest = Agent::connect(node, managers.members[&leader].address).await;
    newer.until("the end of the second session", |heard| heard.ended.is_some()).await;
    tokio::time::sleep(GRACE_AND_MORE).await;
    assert_eq!(watcher.seen(), [], "it was ready all the time");
    drop(newest);
    let is_down = |state: &Snapshot| state.node(node).unwrap().status.state == NodeState::Down;
    managers.wait(leader, "a node that is down", is_down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_through_any_manager_and_one_that_lost_the_others_says_of_nobody_that_it_has() {
    let mut managers = Managers::of(3).await;
    let node = managers.add_node(NodeRole::Worker).await;
    let follower = managers.followers().await[0];
    let address = managers.members[&follower].address;
    let mut agent = Agent::connect(node, address).await;
    let mut client = DispatcherClient::connect(format!("http://{address}")).await.unwrap();
    let mut ask = async |node: NodeId, now| {
        let request = pb::LeaveRequest { node_id: node.to_string(), now };
        client.leave(request).await.map(|answer| answer.into_inner())
    };
    assert!(!ask(node, false).await.unwrap().gone, "it is drained first");
    let drained = |state: &Snapshot| state.node(node).unwrap().spec.availability == Availability::Drain;
    managers.wait(follower, "a drained node", drained).await;
    assert!(ask(node, false).await.unwrap().gone);
    let told = agent.until("the end of its session", |heard| heard.ended.is_some()).await.ended.unwrap();
    assert_eq!(removal::of(&told), Some(node), "{told:?}");
    assert!(ask(node, true).await.unwrap().gone, "asking again changes nothing");
    let refused = ask(managers.node(follower), true).await.unwrap_err();
    assert_eq!((refused.code(), removal::of(&refused)), (Code::FailedPrecondition, None), "a manager: {refused:?}");

    for other in managers.running().filter(|other| *other != follower).collect::<Vec<_>>() {
        managers.kill(other).await;
    }
    let silent = ask(node, true).await.unwrap_err();
    assert_eq!((silent.code(), removal::of(&silent)), (Code::Unavailable, None), "{silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_has_lost_the_others_sends_its_agents_away() {
    for leads in [false, true] {
        let mut managers = Managers::of(3).await;
        let node = managers.add_node(NodeRole::Worker).await;
        let (leader, follower) = (managers.leader().await, managers.followers().await[0]);
        let left = if leads { leader } else { follower };
        let mut agent = Agent::connect(node, managers.members[&left].address).await;
        for other in managers.running().filter(|other| *other != left).collect::<Vec<_>>() {
            managers.kill(other).await;
        }
        let ended = agent.until("the end of its session", |heard| heard.ended.is_some()).await.ended.unwrap();
        assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
        assert!(ended.message().contains("try another one"), "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_hear_of_managers_that_come_and_of_what_their_node_is_to_be() {
    let mut managers = Managers::of(1).await;
    let node = managers.add_node(NodeRole::Worker).await;
    let mut agent = Agent::connect(node, managers.members[&1].address).await;
    let first = agent.heard.borrow().membership.clone().unwrap();
    assert_eq!((first.role(), first.managers.len(), first.roots.len()), (pb::NodeRole::Worker, 1, 1));
    managers.join(2, 1).await.unwrap();
    let address = managers.members[&2].address.to_string();
    let knows = |membership: &pb::Membership| membership.managers.iter().any(|manager| manager.address == address);
    agent.until("the second manager", |heard| knows(heard.membership.as_ref().unwrap())).await;
    managers.set_role(2, node, pb::NodeRole::Manager).await.unwrap();
    let is_manager = |membership: &pb::Membership| membership.role() == pb::NodeRole::Manager;
    agent.until("its new role", |heard| is_manager(heard.membership.as_ref().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_knows_only_a_follower_is_taken_in_by_the_leader() {
    let mut managers = Managers::of(2).await;
    let follower = managers.followers().await[0];
    managers.join(3, follower).await.unwrap();
    let leader = managers.leader().await;
    let all_answer = |state: &Snapshot| {
        let reachable = state.nodes().filter_map(|node| node.manager.as_ref()).filter(|manager| manager.reachable);
        let leads = state.nodes().filter(|node| node.manager.as_ref().is_some_and(|manager| manager.leader));
        reachable.count() == 3 && leads.map(|node| node.id).eq([managers.node(leader)])
    };
    managers.wait(3, "three managers that answer", all_answer).await;
    assert_eq!(managers.manager(3).raft().voters().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_not_taken_in() {
    let mut managers = Managers::of(1).await;
    let node = managers.add_node(NodeRole::Worker).await;
    managers.add(2, node);
    let refused = managers.start_joining(2, 1).await.unwrap_err();
    assert!(matches!(refused, ManagerError::Join(_)), "{refused}");
    assert!(refused.to_string().contains("promote it first"), "{refused}");
    assert_eq!(managers.manager(1).raft().voters().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_all_come_back_at_once_are_let_in_without_a_write() {
    const AGENTS: usize = 300;
    let managers = Managers::of(2).await;
    let follower = managers.followers().await[0];
    let address = managers.members[&follower].address;
    let mut nodes = Vec::new();
    for _ in 0..AGENTS {
        nodes.push(managers.add_node(NodeRole::Worker).await);
    }
    let connect = || async { futures::future::join_all(nodes.iter().map(|node| Agent::connect(*node, address))).await };
    let first = connect().await;
    let all_ready =
        |state: &Snapshot| nodes.iter().all(|node| state.node(*node).unwrap().status.state == NodeState::Ready);
    managers.wait(follower, "ready nodes", all_ready).await;
    let (before, mut commits) = managers.manager(follower).handle().hub.subscribe();
    drop(first);
    let _second = connect().await;
    managers.wait(follower, "ready nodes again", all_ready).await;
    while let Ok(Some(commit)) = commits.try_next() {
        for event in commit.events.iter() {
            let Event::Updated { old: Object::Node(old), new: Object::Node(new) } = event else { continue };
            let is_news = old.status.state != new.status.state || old.manager != new.manager;
            assert!(is_news, "written for nothing: {new:?}");
        }
    }
    assert_eq!(before.nodes().count(), AGENTS + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_on_other_nodes_that_are_ready() {
    let managers = Managers::of(2).await;
    let follower = managers.followers().await[0];
    let address = managers.members[&follower].address;
    let (has, other) = (managers.add_node(NodeRole::Worker).await, managers.add_node(NodeRole::Worker).await);
    let _one = Agent::connect_with(has, address, ["docker.io/library/busybox:1".to_owned()].into()).await;
    let _other = Agent::connect(other, address).await;
    ready(&managers, follower, has).await;
    let mut client = pb::dispatcher_client::DispatcherClient::connect(format!("http://{address}")).await.unwrap();
    let request = pb::FindImageRequest { reference: "docker.io/library/busybox:1".into() };
    let holders = client.find_image(request).await.unwrap().into_inner().holders;
    let holders: Vec<_> = holders.into_iter().map(|holder| (holder.node_id, holder.address)).collect();
    assert_eq!(holders, [(has.to_string(), "10.0.0.1:4777".to_owned())]);
    let none = client.find_image(pb::FindImageRequest { reference: "other".into() }).await.unwrap().into_inner();
    assert_eq!(none.holders, []);
}
