//! Who may be part of a cluster, and what is left when most of it is gone: tokens, certificates, backups.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Cluster, Host, Link, wait_for, wait_until};

#[test]
fn a_machine_joins_only_with_a_token_that_is_good_now() {
    let mut cluster = Cluster::new("token", 1, 0);
    let old = cluster.token("worker");
    let new = cluster.host(0).berth(&["cluster", "token", "-q", "--rotate", "--expires", "1h", "worker"]).ok();
    assert_ne!(old, new.trim());
    let other_cluster = Host::start("stranger");
    let foreign = other_cluster.berth(&["cluster", "token", "-q", "manager"]).ok();
    for (token, reason) in [
        (old.as_str(), "token"),
        ("BERTH-1-short", "token"),
        (foreign.trim(), "not a manager of the cluster that the join token is for"),
    ] {
        let said = cluster.refused("refused", token);
        assert!(said.contains(reason), "{token}: {said}");
    }
    assert_eq!(cluster.nodes(0).len(), 1, "nobody came in");
    cluster.join("welcome", "worker");
    cluster.wait_ready(2);
    let told = cluster.host(0).berth(&["cluster", "init"]).ok();
    assert!(told.contains("berth daemon --join 10.77.0.1:4777 --token BERTH-1-"), "{told}");
}

#[test]
fn the_certificate_authority_is_replaced_while_everything_runs() {
    let mut cluster = Cluster::new("rotate", 1, 2);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", "services:\n  web: { image: berth/hello:1, deploy: { mode: global } }\n");
    let before = cluster.host(0).wait_running("s_web", 3);
    // One machine is off meanwhile.
    cluster.host_mut(2).stop_daemon();
    wait_until(
        "the machine that is off to be down",
        || cluster.nodes(0).iter().filter(|node| node["state"] == "down").count(),
        |down| *down == 1,
    );
    let token = cluster.token("worker");
    let root = cluster.host(0).berth(&["cluster", "ca", "rotate"]).ok();
    assert_eq!(root.trim().len(), 64, "the fingerprint of the new root: {root}");
    assert_ne!(cluster.token("worker"), token, "it names the new root");
    cluster.host_mut(2).start_daemon();
    cluster.wait_ready(3);
    cluster.join("new", "worker");
    cluster.wait_ready(4);
    let after = cluster.host(0).wait_running("s_web", 4);
    let ids = |tasks: &[serde_json::Value]| tasks.iter().map(|task| task["id"].to_string()).collect::<Vec<_>>();
    assert!(ids(&before).iter().all(|id| ids(&after).contains(id)), "the containers ran on: {before:#?} {after:#?}");
    for id in ids(&after) {
        cluster.host(0).berth(&["exec", id.trim_matches('"'), "true"]).ok();
    }
}

#[test]
fn one_manager_that_is_left_goes_on_when_it_is_told_to() {
    let mut cluster = Cluster::new("alone", 3, 0);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", "services:\n  web: { image: berth/hello:1, deploy: { replicas: 2 } }\n");
    cluster.host(0).wait_running("s_web", 2);
    for at in [1, 2] {
        cluster.link(at, Link::Cut);
        cluster.host_mut(at).kill_daemon();
    }
    // Without a quorum nothing is acknowledged, and that is said.
    let said = cluster.host(0).berth(&["scale", "--detach", "s_web=3"]).fails(1);
    assert!(said.contains("leader") || said.contains("manager"), "{said}");
    // Nor is anything read, unless a reader says that it may be old.
    cluster.host(0).berth(&["node", "ls"]).fails(1);
    assert_eq!(cluster.host(0).berth(&["node", "ls", "--stale", "-q"]).ok().lines().count(), 3);
    let seen = cluster.host(0).berth(&["service", "ps", "--stale", "--format", "json", "s_web"]).json();
    assert!(seen.as_array().is_some_and(|tasks| !tasks.is_empty()), "{seen:#}");
    cluster.host_mut(0).stop_daemon();
    let with = [cluster.host(0).daemon_args(), vec!["--force-new-cluster".to_owned()]].concat();
    cluster.host_mut(0).set_daemon_args(with);
    cluster.host_mut(0).start_daemon();
    cluster.host(0).berth(&["scale", "--detach", "s_web=3"]).ok();
    cluster.host(0).wait_running("s_web", 3);
    let nodes = cluster.nodes(0);
    let managers = nodes.iter().filter(|node| !node["reachability"].is_null()).count();
    assert_eq!(managers, 1, "{nodes:#?}");
}

#[test]
fn a_backup_is_restored_on_another_machine() {
    let host = Host::start("backup");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, deploy: { replicas: 2 } }\n");
    host.berth_with_input(&["secret", "create", "key", "-"], b"hush").ok();
    let file = host.dir().join("backup");
    let file = file.to_str().unwrap();
    host.berth(&["cluster", "backup", "-o", file]).ok();
    let refused = host.berth(&["cluster", "restore", "-i", file, "--data-dir", host.data_dir().to_str().unwrap()]);
    assert!(refused.fails(1).contains("in use"), "not over a cluster that runs");

    let mut other = Host::without_daemon("restored");
    std::fs::copy(file, other.dir().join("backup")).unwrap();
    let (copy, data) = (other.dir().join("backup"), other.data_dir());
    let restore = ["cluster", "restore", "-i", copy.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    other.berth(&restore).ok();
    other.start_daemon();
    other.load(&hello());
    wait_for("the services to run on the machine that is there", || {
        let tasks = other.tasks("s_web");
        let running = tasks.iter().filter(|task| task["state"] == "running" && task["desired_state"] == "running");
        if running.count() == 2 { Ok(()) } else { Err(tasks) }
    });
    assert!(other.berth(&["secret", "ls"]).ok().contains("key"));
}
