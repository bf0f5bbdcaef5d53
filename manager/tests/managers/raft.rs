//! Three managers over real sockets: writes through any of them, the loss and the return of any of them, a late one that
//! gets a snapshot, one that was cut off.

use std::collections::BTreeSet;

use berth_manager::raft::ProposeError;
use berth_manager::store::Conflict;

use crate::links::{Group, eventually};
use crate::store_support::{config, id, tx};

/// Writes a config through the member and returns how that went.
async fn put(group: &Group, member: u64, number: u128) -> Result<(), ProposeError> {
    let mut tx = tx(1);
    tx.create(config(number, &format!("c{number}"), vec![7; 100]));
    group.node(member).proposer().propose(tx).await.map(|_| ())
}

/// As a careful client: a write whose fate is unknown is looked up, and made again when it is not there.
async fn put_surely(group: &Group, member: u64, number: u128) {
    while let Err(error) = put(group, member, number).await {
        assert!(matches!(error, ProposeError::Lost), "{error}");
        group.node(member).linearizable().await.unwrap();
        if group.node(member).hub().snapshot().config(id(number)).is_some() {
            return;
        }
    }
}

fn count(group: &Group, member: u64) -> usize {
    group.node(member).hub().snapshot().configs().count()
}

async fn everywhere(group: &Group, members: &[u64], wanted: usize) {
    for member in members {
        eventually("everything applied", || {
            let found = count(group, *member);
            if found == wanted { Ok(()) } else { Err(format!("{found} of {wanted} on {member}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_through_any_manager_is_seen_by_whoever_wrote_it_and_then_by_all() {
    let group = Group::of(3).await;
    for number in 1..=30 {
        let member = 1 + number as u64 % 3;
        put(&group, member, number).await.unwrap();
        assert!(group.node(member).hub().snapshot().config(id(number)).is_some(), "{member} does not see {number}");
    }
    everywhere(&group, &[1, 2, 3], 30).await;
    let follower = group.followers()[0];
    let mut taken = tx(1);
    taken.create(config(99, "c1", "x"));
    let refused = group.node(follower).proposer().propose(taken).await;
    assert!(matches!(refused, Err(ProposeError::Conflict(Conflict::NameTaken { .. }))), "{refused:?}");
    for member in 1..=3 {
        group.node(member).linearizable().await.unwrap();
        assert_eq!(count(&group, member), 30);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_can_be_lost_and_comes_back() {
    let mut group = Group::of(3).await;
    put(&group, 1, 1).await.unwrap();
    let lost = group.leader();
    group.stop(lost).await;
    let left: Vec<u64> = (1..=3).filter(|member| *member != lost).collect();
    for number in 2..=20 {
        put_surely(&group, left[number % 2], number as u128).await;
    }
    everywhere(&group, &left, 20).await;
    assert_ne!(group.leader(), lost);
    group.start(lost).await;
    everywhere(&group, &[lost], 20).await;
    put(&group, lost, 21).await.unwrap();
    everywhere(&group, &[1, 2, 3], 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_comes_late_gets_a_snapshot() {
    let mut group = Group::of(1).await;
    for number in 1..=120 {
        put(&group, 1, number).await.unwrap();
    }
    eventually("a snapshot", || {
        let index = group.node(1).snapshot_index();
        if index > 50 { Ok(()) } else { Err(index) }
    })
    .await;
    group.join(2).await;
    everywhere(&group, &[2], 120).await;
    assert!(group.node(2).snapshot_index() > 50, "it was not sent entry by entry");
    // What it was sent is sealed with its own key: it opens it again.
    group.stop(2).await;
    group.start(2).await;
    everywhere(&group, &[2], 120).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_cut_off_does_not_unseat_the_leader() {
    let group = Group::of(3).await;
    put(&group, 1, 1).await.unwrap();
    let (leader, cut) = (group.leader(), group.followers()[0]);
    let term = group.node(leader).leader().0;
    group.cut(cut);
    // Until it has missed the leader for several elections and asked the others again and again.
    eventually("attempts to campaign", || {
        let attempts = group.refused(cut);
        if attempts > 20 { Ok(()) } else { Err(attempts) }
    })
    .await;
    let healthy = (1..=3).find(|member| ![leader, cut].contains(member)).unwrap();
    for number in 2..=10 {
        put(&group, healthy, number).await.unwrap();
    }
    group.heal(cut);
    everywhere(&group, &[cut], 10).await;
    for number in 11..=20 {
        put(&group, cut, number).await.unwrap();
    }
    everywhere(&group, &[1, 2, 3], 20).await;
    for member in 1..=3 {
        assert_eq!(group.node(member).leader(), (term, Some(leader)), "as {member} sees it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_are_let_go_as_long_as_the_others_can_go_on() {
    let mut group = Group::of(3).await;
    let (leader, gone) = (group.leader(), group.followers()[0]);
    let alive = BTreeSet::from([leader]);
    let refused = group.node(leader).members().let_go(gone, &alive).await.unwrap_err().to_string();
    assert!(refused.contains("bring the others back first"), "{refused}");
    group.node(leader).members().let_go(gone, &BTreeSet::from([1, 2, 3])).await.unwrap();
    group.stop(gone).await;
    put(&group, leader, 1).await.unwrap();
    assert!(!group.node(leader).voters().contains(&gone));
    let other = (1..=3).find(|member| ![leader, gone].contains(member)).unwrap();
    assert!(
        group.node(other).members().take_in(9, "127.0.0.1:1").await.is_err(),
        "only the leader changes the members"
    );
}
