//! A cluster of one, made of what is left of three managers, or of a backup.

use std::collections::BTreeSet;

use berth_manager::manager::{Manager, ManagerConfig};
use berth_manager::store::{Object, Snapshot, Transaction};
use berth_proto::id::Id;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::NodeRole;
use futures::StreamExt;
use tonic::Request;

use crate::store_support::{config, id};
use crate::support::{Managers, directory};

async fn put(managers: &Managers, through: u8, number: u128) {
    let make = |state: &Snapshot, tx: &mut Transaction| {
        if state.config(id(number)).is_none() {
            tx.create(config(number, &format!("c{number}"), vec![7; 10_000]));
        }
    };
    managers.write(through, make).await;
}

fn configs(state: &Snapshot) -> Vec<Object> {
    state.configs().cloned().map(Object::Config).collect()
}

async fn backup(managers: &Managers, through: u8) -> Vec<u8> {
    let stream = managers.api(through).cluster_backup(Request::new(pb::ClusterBackupRequest {})).await.unwrap();
    let chunks: Vec<_> = stream.into_inner().collect().await;
    chunks.into_iter().flat_map(|chunk| chunk.unwrap().data).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_three_managers_goes_on_alone_with_everything() {
    let mut managers = Managers::of(3).await;
    for number in 1..=30 {
        put(&managers, 1 + (number % 3) as u8, number).await;
    }
    let left = managers.followers().await[0];
    let others: Vec<u8> = managers.running().filter(|number| *number != left).collect();
    managers.wait(left, "everything", |state| state.configs().count() == 30).await;
    for number in &others {
        managers.kill(*number).await;
    }
    let before = configs(&managers.state(left));
    managers.kill(left).await;
    let raft = berth_manager::raft::RaftSettings {
        address: managers.members[&left].address.to_string(),
        ..berth_manager::raft::RaftSettings::default()
    };
    let config = ManagerConfig { raft, ..ManagerConfig::new(managers.manager_dir(left)) };
    Manager::force_new_cluster(&config).await.unwrap();
    managers.start(left).await.unwrap();
    assert_eq!(managers.leader().await, left);
    let state = managers.state(left);
    assert!(configs(&state) == before, "{} of 30", state.configs().count());
    let roles = |role| state.nodes().filter(|node| node.spec.role == role).map(|node| node.id).collect::<BTreeSet<_>>();
    assert_eq!(roles(NodeRole::Manager), BTreeSet::from([managers.node(left)]));
    assert_eq!(roles(NodeRole::Worker), others.iter().map(|number| managers.node(*number)).collect());
    put(&managers, left, 31).await;
    managers.join(9, left).await.unwrap();
    assert_eq!(managers.state(9).configs().count(), 31);
    managers.stop(left).await;
    managers.start(left).await.unwrap();
    assert_eq!(managers.state(left).configs().count(), 31, "it starts again from what was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_cluster_becomes_another_one() {
    let mut managers = Managers::of(2).await;
    for number in 1..=100 {
        put(&managers, 1 + (number % 2) as u8, number).await;
    }
    let follower = managers.followers().await[0];
    let content = backup(&managers, follower).await;
    let saved = managers.state(follower);
    put(&managers, 1, 101).await;

    managers.add(5, Id::from_random(rand::random()));
    let config = ManagerConfig { node: Some(managers.node(5)), ..ManagerConfig::new(managers.manager_dir(5)) };
    Manager::restore(&config, &content[..]).await.unwrap();
    let refused = Manager::restore(&config, &content[..]).await.unwrap_err().to_string();
    assert!(refused.contains("has a cluster in it already"), "{refused}");
    managers.start(5).await.unwrap();
    let state = managers.state(5);
    assert!(configs(&state) == configs(&saved), "{} of 100", state.configs().count());
    assert_eq!(state.cluster().map(|cluster| cluster.id), saved.cluster().map(|cluster| cluster.id));
    assert!(state.index() > saved.index(), "versions only grow");
    let manager = state.nodes().filter(|node| node.manager.is_some()).map(|node| node.id).collect::<Vec<_>>();
    assert_eq!(manager, [managers.node(5)]);
    put(&managers, 5, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_a_fresh_directory() {
    let managers = Managers::of(1).await;
    put(&managers, 1, 1).await;
    let content = backup(&managers, 1).await;
    let dir = directory();
    let config = ManagerConfig::new(dir.path().join("manager"));
    let mut damaged = content.clone();
    damaged[content.len() / 2] ^= 1;
    for bad in [&content[..content.len() / 2], &damaged, b"nothing of the kind"] {
        let refused = Manager::restore(&config, bad).await.unwrap_err().to_string();
        assert!(refused.contains("the backup cannot be read"), "{refused}");
    }
    Manager::restore(&config, &content[..]).await.unwrap();
}

#[tokio::test]
async fn there_must_be_a_cluster_to_recover() {
    let dir = directory();
    let config = ManagerConfig::new(dir.path().join("manager"));
    let refused = Manager::force_new_cluster(&config).await.unwrap_err().to_string();
    assert!(refused.contains("nothing to recover"), "{refused}");
}
