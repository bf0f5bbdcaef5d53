//! Managers that come and go: promotion, demotion, removal, stopping, another address. The others go on throughout.

use berth_manager::raft::recover;
use berth_manager::store::Snapshot;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use tonic::{Code, Request};

use crate::store_support::{config, id};
use crate::support::{Managers, PATIENCE};

async fn put(managers: &Managers, through: u8, number: u128) {
    let make = |state: &Snapshot, tx: &mut berth_manager::store::Transaction| {
        if state.config(id(number)).is_none() {
            tx.create(config(number, &format!("c{number}"), vec![7; 100]));
        }
    };
    managers.write(through, make).await;
}

async fn dismissed(managers: &Managers, number: u8) {
    let dismissed = tokio::time::timeout(PATIENCE, managers.manager(number).dismissed()).await;
    assert!(dismissed.is_ok(), "manager {number} still believes to be one");
}

fn managers_in(state: &Snapshot) -> usize {
    state.nodes().filter(|node| node.manager.is_some()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demoted_manager_is_let_go_and_may_come_back_as_another() {
    let mut managers = Managers::of(3).await;
    let (leader, gone) = (managers.leader().await, managers.followers().await[0]);
    let node = managers.node(gone);
    managers.demote(gone, gone).await;
    dismissed(&managers, gone).await;
    managers.wait(leader, "two managers", |state| managers_in(state) == 2).await;
    put(&managers, leader, 1).await;
    managers.stop(gone).await;

    let raft_id = || std::fs::read_to_string(managers.manager_dir(gone).join("raft.id"));
    let before = raft_id().unwrap();
    recover::discard(&managers.manager_dir(gone)).unwrap();
    assert!(raft_id().is_err());
    managers.set_role(leader, node, pb::NodeRole::Manager).await.unwrap();
    managers.start_joining(gone, leader).await.unwrap();
    assert_ne!(std::fs::read_to_string(managers.manager_dir(gone).join("raft.id")).unwrap(), before);
    assert!(managers.state(gone).config(id(1)).is_some(), "it has everything when it is ready");
    managers.wait(leader, "three managers", |state| managers_in(state) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_demoted_lets_another_lead_and_then_goes() {
    let managers = Managers::of(3).await;
    let leader = managers.leader().await;
    managers.demote(leader, leader).await;
    dismissed(&managers, leader).await;
    let next = managers.leader().await;
    assert_ne!(next, leader);
    managers.wait(next, "two managers", |state| managers_in(state) == 2).await;
    put(&managers, next, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_needed_for_a_quorum_stays() {
    let mut managers = Managers::of(2).await;
    let leader = managers.leader().await;
    let other = managers.followers().await[0];
    let remove = |number: u8, force| {
        let request = pb::NodeRemoveRequest { id: managers.node(number).to_string(), force, version: 0 };
        let api = managers.api(leader);
        async move { api.node_remove(Request::new(request)).await }
    };
    let refused = remove(other, false).await.unwrap_err();
    assert!(refused.message().ends_with("is a manager"), "{refused}");
    // With the other out of reach this one cannot be done without, and neither can it change anything alone.
    managers.join(3, leader).await.unwrap();
    managers.kill(3).await;
    let unreachable = |state: &Snapshot| {
        let manager = state.node(managers.node(3)).and_then(|node| node.manager.clone());
        manager.is_some_and(|manager| !manager.reachable)
    };
    managers.wait(leader, "a manager that does not answer", unreachable).await;
    let refused = managers.set_role(leader, managers.node(other), pb::NodeRole::Worker).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().ends_with("1 of 2 managers answer, and 2 are needed"), "{refused}");
    // The one that is lost is let go; then each can be done without but the last.
    managers.demote(leader, 3).await;
    managers.wait(leader, "two managers", |state| managers_in(state) == 2).await;
    managers.demote(leader, other).await;
    managers.wait(leader, "one manager", |state| managers_in(state) == 1).await;
    let refused = managers.set_role(leader, managers.node(leader), pb::NodeRole::Worker).await.unwrap_err();
    assert!(refused.message().ends_with("is the only manager"), "{refused}");
    put(&managers, leader, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_is_removed_by_force_leaves_the_group() {
    let managers = Managers::of(3).await;
    let (leader, gone) = (managers.leader().await, managers.followers().await[0]);
    let request = pb::NodeRemoveRequest { id: managers.node(gone).to_string(), force: true, version: 0 };
    managers.api(leader).node_remove(Request::new(request)).await.unwrap();
    dismissed(&managers, gone).await;
    assert_eq!(managers.manager(leader).raft().voters().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_off_when_it_was_demoted_finds_out() {
    let mut managers = Managers::of(3).await;
    let (leader, gone) = (managers.leader().await, managers.followers().await[0]);
    managers.stop(gone).await;
    managers.demote(leader, gone).await;
    managers.wait(leader, "two managers", |state| managers_in(state) == 2).await;
    // It waits for a leader, and is told that it is none of theirs.
    let refused = managers.start(gone).await.unwrap_err().to_string();
    assert!(refused.contains("not one of the managers any more"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_the_lead_over() {
    for count in [2, 3] {
        let mut managers = Managers::of(count).await;
        put(&managers, 1, 1).await;
        let leader = managers.leader().await;
        let term = managers.manager(leader).raft().leader().0;
        managers.manager(leader).step_down().await;
        assert!(!managers.manager(leader).raft().members().leads());
        let next = managers.leader().await;
        assert_eq!(managers.manager(next).raft().leader().0, term + 1, "one campaign");
        put(&managers, leader, 2).await;
        if count == 3 {
            managers.stop(next).await;
            let last = managers.leader().await;
            put(&managers, last, 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_goes_to_who_is_not_drained() {
    let managers = Managers::of(3).await;
    let leader = managers.leader().await;
    let drain = |spec: &mut pb::NodeSpec| spec.set_availability(pb::Availability::Drain);
    managers.update_node(leader, managers.node(leader), drain).await.unwrap();
    crate::support::eventually("another leader", || {
        let leads = |number: &u8| managers.manager(*number).raft().members().leads();
        managers.running().find(leads).filter(|next| *next != leader).ok_or("none yet")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_back_at_another_address_is_found_there() {
    let mut managers = Managers::of(3).await;
    let (leader, moved) = (managers.leader().await, managers.followers().await[0]);
    managers.stop(moved).await;
    managers.move_away(moved);
    managers.start(moved).await.unwrap();
    let (node, address) = (managers.node(moved), managers.members[&moved].address.to_string());
    let says_so = |state: &Snapshot| {
        let manager = state.node(node).unwrap().manager.clone().unwrap();
        manager.address == address && manager.reachable
    };
    managers.wait(leader, "the new address", says_so).await;
    put(&managers, moved, 1).await;
}
