//! Several machines: joining, losing any of them, draining, promoting, reaching tasks from anywhere.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_tests::image::{hello, versions};
use berth_tests::{Cluster, Link, wait_for, wait_until};

/// Replicas that are put on different nodes, end at once, and are replaced at once.
fn spread(replicas: usize) -> String {
    format!(
        "services:
  web:
    image: berth/hello:1
    stop_signal: SIGKILL
    deploy:
      replicas: {replicas}
      restart_policy: {{ delay: 0s }}
      placement: {{ preferences: [{{ spread: node.labels.host }}] }}
"
    )
}

fn distinct(nodes: &[String]) -> BTreeSet<&str> {
    nodes.iter().map(String::as_str).collect()
}

#[test]
fn machines_join_and_an_image_loaded_on_one_runs_on_all() {
    let cluster = Cluster::new("join", 1, 2);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", &spread(3));
    cluster.host(0).wait_running("s_web", 3);
    let placed = cluster.placed(0, "s_web");
    assert_eq!(distinct(&placed).len(), 3, "one on each node: {placed:?}");
    let table = cluster.host(0).berth(&["node", "ls"]).ok();
    assert!(table.contains("MANAGER STATUS") && table.contains("Leader"), "{table}");
    let refused = cluster.host(1).berth(&["node", "ls"]).fails(1);
    assert!(refused.contains("worker") && refused.contains("manager"), "a worker says where to ask: {refused}");

    // Tasks of other nodes, from this one.
    for task in cluster.host(0).tasks("s_web") {
        let id = task["id"].as_str().unwrap();
        let said = cluster.host(0).berth(&["exec", id, "hostname"]).ok();
        assert!(!said.trim().is_empty());
        cluster.host(0).berth(&["exec", id, "sh", "-c", "echo to the log > /proc/1/fd/1"]).ok();
    }
    let logs = wait_until(
        "a line of each replica",
        || cluster.host(0).berth(&["logs", "s_web"]).ok(),
        |logs| logs.matches("to the log").count() == 3,
    );
    for node in &placed {
        assert!(logs.contains(node.as_str()), "each line names its node: {logs}");
    }
    let file = cluster.host(0).dir().join("in");
    std::fs::write(&file, "copied").unwrap();
    for task in cluster.host(0).tasks("s_web") {
        let there = format!("{}:/tmp/in", task["id"].as_str().unwrap());
        cluster.host(0).berth(&["cp", file.to_str().unwrap(), &there]).ok();
        let said = cluster.host(0).berth(&["exec", task["id"].as_str().unwrap(), "cat", "/tmp/in"]).ok();
        assert_eq!(said.trim(), "copied");
    }
    let stats = cluster.host(0).berth(&["stats", "--no-stream", "--format", "json", "s_web"]).json();
    assert_eq!(stats.as_array().unwrap().len(), 3, "{stats:#}");
}

#[test]
fn the_leader_is_lost_and_everything_goes_on() {
    let mut cluster = Cluster::new("leader", 3, 0);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", &spread(3));
    cluster.host(0).wait_running("s_web", 3);
    let lost = cluster.leader(0);
    let other = (lost + 1) % 3;
    let before: BTreeSet<String> =
        cluster.host(other).tasks("s_web").iter().map(|task| task["id"].to_string()).collect();
    cluster.host_mut(lost).kill_daemon();
    cluster.host(other).berth(&["scale", "--detach", "s_web=4"]).ok();
    cluster.host(other).wait_running("s_web", 4);
    wait_until("another leader to be shown", || cluster.leader(other), |leader| *leader != lost);
    cluster.host_mut(lost).start_daemon();
    cluster.wait_ready(3);
    let after: BTreeSet<String> =
        cluster.host(lost).wait_running("s_web", 4).iter().map(|task| task["id"].to_string()).collect();
    assert!(after.is_superset(&before), "no task was replaced: the containers ran on: {before:?} {after:?}");
}

#[test]
fn tasks_of_a_lost_machine_run_elsewhere_and_it_ends_what_is_no_longer_its_own() {
    let mut cluster = Cluster::new("lost", 1, 2);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", &spread(3));
    cluster.host(0).wait_running("s_web", 3);
    cluster.power_off(2);
    let lost = cluster.host(2).hostname().to_owned();
    let elsewhere = wait_until(
        "three replicas on what is left",
        || cluster.placed(0, "s_web"),
        |placed| placed.len() == 3 && !placed.contains(&lost),
    );
    assert_eq!(distinct(&elsewhere).len(), 2);
    cluster.power_on(2);
    cluster.wait_ready(3);
    assert_eq!(cluster.host(0).wait_running("s_web", 3).len(), 3);

    // Cut off, its containers run on; back, it ends those that were replaced.
    cluster.link(1, Link::Cut);
    let cut = cluster.host(1).hostname().to_owned();
    wait_until(
        "three replicas without the node that is cut off",
        || cluster.placed(0, "s_web"),
        |placed| placed.len() == 3 && !placed.contains(&cut),
    );
    cluster.link(1, Link::Whole);
    cluster.wait_ready(3);
    let web = || cluster.host(1).processes().len();
    wait_until("only the daemon to be left", web, |left| *left == 1);
}

#[test]
fn a_node_is_drained_promoted_demoted_and_removed() {
    let mut cluster = Cluster::new("roles", 1, 2);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", &spread(3));
    cluster.host(0).wait_running("s_web", 3);
    let name = cluster.host(1).hostname().to_owned();
    cluster.host(0).berth(&["node", "drain", &name]).ok();
    assert!(!cluster.placed(0, "s_web").contains(&name));
    assert_eq!(cluster.host(0).wait_running("s_web", 3).len(), 3);
    cluster.host(0).berth(&["node", "activate", &name]).ok();

    for at in [1, 2] {
        cluster.host(0).berth(&["node", "promote", cluster.host(at).hostname()]).ok();
    }
    wait_for("three managers, as a promoted one says", || {
        let output = cluster.host(1).berth(&["node", "ls", "--format", "json"]);
        let nodes: Vec<serde_json::Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
        let reachable = nodes.iter().filter(|node| node["reachability"] == "reachable").count();
        if reachable == 3 { Ok(()) } else { Err(output) }
    });
    // Three managers can lose one, the founder too.
    cluster.host_mut(0).kill_daemon();
    cluster.host(1).berth(&["scale", "--detach", "s_web=4"]).ok();
    cluster.host_mut(0).start_daemon();
    cluster.wait_ready(3);
    let reachable = || cluster.nodes(0).iter().filter(|node| node["reachability"] == "reachable").count();
    wait_until("three managers that answer", reachable, |count| *count == 3);

    cluster.host(0).berth(&["node", "demote", &name]).ok();
    let nodes = cluster.nodes(0);
    let demoted = nodes.iter().find(|node| node["hostname"] == name.as_str()).unwrap();
    assert_eq!((&demoted["role"], &demoted["reachability"]), (&"worker".into(), &serde_json::Value::Null));
    let refused = cluster.host(0).berth(&["node", "rm", &name]).fails(1);
    assert!(refused.contains("not down"), "{refused}");
    cluster.host_mut(1).stop_daemon();
    wait_until(
        "the node to be down",
        || cluster.nodes(0).into_iter().find(|node| node["hostname"] == name.as_str()).unwrap()["state"].clone(),
        |state| state == "down",
    );
    cluster.host(0).berth(&["node", "rm", &name]).ok();
    assert_eq!(cluster.nodes(0).len(), 2);
    assert_eq!(cluster.host(0).wait_running("s_web", 4).len(), 4);
}

#[test]
fn a_rolling_update_over_machines_loses_no_request() {
    let cluster = Cluster::new("rolling", 1, 2);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", &versions(1, "mode: global"));
    let asking = AtomicBool::new(true);
    let ask = &|at: usize| {
        let (mut asked, mut failed) = (0, Vec::new());
        while asking.load(Ordering::Relaxed) && asked < 10_000 {
            let page = cluster.host(at).run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]);
            asked += 1;
            if page.code != 0 {
                failed.push(page);
            }
        }
        (asked, failed)
    };
    let outcomes = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..3).map(|at| scope.spawn(move || ask(at))).collect();
        cluster.host(0).apply("s", &versions(2, "mode: global"));
        asking.store(false, Ordering::Relaxed);
        askers.into_iter().map(|asker| asker.join().unwrap()).collect::<Vec<_>>()
    });
    for (at, (asked, failed)) in outcomes.into_iter().enumerate() {
        assert!(asked > 0 && failed.is_empty(), "host {at}, of {asked} requests: {failed:#?}");
        let page = cluster.host(at).run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).ok();
        assert!(page.starts_with("v2"), "{page}");
    }
}
