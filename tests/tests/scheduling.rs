//! What an operator hears of the scheduler on three hosts: where an apply would put its replicas, why a task has no node and what
//! would help, rules of services towards each other, who makes way for whom, which moves would help.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_tests::cluster::Cluster;
use berth_tests::image::hello;
use berth_tests::wait::wait_for;

/// A service of the test image that sleeps, with more of its YAML.
fn sleeper(name: &str, more: &str) -> String {
    format!(
        "  {name}:\n    image: berth/hello:1\n    command: [sleep, 1d]\n    stop_signal: SIGKILL\n{}",
        more.lines().map(|line| format!("    {line}\n")).collect::<String>()
    )
}

fn stack(services: &[String]) -> String {
    format!("services:\n{}", services.concat())
}

#[test]
fn a_dry_run_says_where_replicas_go_and_what_a_lost_node_means_and_apply_does_so() {
    let cluster = Cluster::new("foreseen", 1, 2);
    cluster.load(&[hello()]);
    let host = cluster.host(0);
    let yaml = stack(&[sleeper("web", "deploy: {replicas: 3, placement: {max_replicas_per_node: 1}}")]);
    let said = host.apply_output("shop", &yaml, &["--dry-run"]).ok();
    for at in 0..3 {
        let line = format!("    {}: 1 new (", cluster.host(at).hostname());
        assert!(said.contains(&line), "{said}");
        // One on each of three nodes: two nodes do not do.
        let loss = format!("after the loss of {}: no place for 1", cluster.host(at).hostname());
        assert!(said.contains(&loss), "{said}");
    }
    assert_eq!(host.berth(&["service", "ls", "-q"]).ok(), "", "a dry run makes nothing");
    let loose = stack(&[sleeper("web", "deploy: {replicas: 3}")]);
    let said = host.apply_output("shop", &loose, &["--dry-run"]).ok();
    assert!(said.contains("after the loss of any one node every replica finds a place again"), "{said}");
    host.apply("shop", &yaml);
    assert_eq!(cluster.placed(0, "shop_web").into_iter().collect::<BTreeSet<_>>().len(), 3);
    // What is there stays, and the fourth has no place.
    let more = stack(&[sleeper("web", "deploy: {replicas: 4, placement: {max_replicas_per_node: 1}}")]);
    let said = host.apply_output("shop", &more, &["--dry-run"]).ok();
    assert!(said.contains(": 1 stay\n") && said.contains("nowhere: 1: no node fits: 3 nodes: 3 have 1 task"), "{said}");
    let json = host.apply_output("shop", &more, &["--dry-run", "--format", "json"]).ok();
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let placement = rows.as_array().unwrap().iter().find(|row| row["name"] == "shop_web").unwrap()["placement"].clone();
    assert_eq!(placement["nodes"].as_array().unwrap().len(), 3, "{json}");
    assert_eq!(placement["refusals"][0]["replicas"], 1, "{json}");
}

#[test]
fn a_task_without_a_node_says_what_would_help_and_one_with_a_node_why_it_is_there() {
    let cluster = Cluster::new("why", 1, 2);
    cluster.load(&[hello()]);
    let host = cluster.host(0);
    host.berth(&["node", "update", "--label-add", "disk=ssd", cluster.host(1).hostname()]).ok();
    let yaml = stack(&[
        sleeper("fits", "deploy: {placement: {constraints: [node.labels.disk == ssd]}}"),
        sleeper("huge", "deploy: {resources: {reservations: {memory: 900G}}}"),
        sleeper("picky", "deploy: {placement: {constraints: [node.labels.disk == tape]}}"),
    ]);
    host.apply_output("shop", &yaml, &["--detach"]).ok();
    host.wait_running("shop_fits", 1);
    let explain = |service: &str| -> String {
        wait_for("a task that is explained", || {
            let output = host.berth(&["task", "explain", &format!("{service}.1")]);
            if output.stdout.contains("is pending") || output.stdout.contains("is running") {
                Ok(output.stdout)
            } else {
                Err(output)
            }
        })
    };
    let placed = explain("shop_fits");
    assert!(
        placed.contains(&format!("Of 1 nodes that qualify, as things are now, it is {}", cluster.host(1).hostname())),
        "{placed}"
    );
    let huge = explain("shop_huge");
    assert!(huge.contains("No node takes it. Of 3 nodes:\n  3 lack 900GiB memory (most left: "), "{huge}");
    assert!(huge.contains("It would fit:\n  if reserve-memory <= "), "{huge}");
    let picky = explain("shop_picky");
    assert!(picky.contains("  3 do not match node.labels.disk==tape"), "{picky}");
    assert!(picky.contains("  with one more node that matches node.labels.disk==tape"), "{picky}");
    // What it says helps, helps.
    host.berth(&["node", "update", "--label-add", "disk=tape", cluster.host(2).hostname()]).ok();
    host.wait_running("shop_picky", 1);
    let ps = host.berth(&["service", "ps", "shop_huge"]).ok();
    assert!(ps.contains("no node fits"), "{ps}");
}

#[test]
fn services_keep_apart_and_moves_are_proposed_with_their_bill() {
    let cluster = Cluster::new("apart", 1, 2);
    cluster.load(&[hello()]);
    let host = cluster.host(0);
    let more = "x-berth: {strategy: spread}\ndeploy: {replicas: 3, resources: {reservations: {memory: 64M}}}";
    let yaml = stack(&[sleeper("web", more)]);
    host.apply("shop", &yaml);
    assert_eq!(cluster.placed(0, "shop_web").into_iter().collect::<BTreeSet<_>>().len(), 3, "spread");
    let said = host.berth(&["cluster", "rebalance", "--dry-run"]).ok();
    // The service's update replaces one at a time: no more move at once.
    assert!(said.contains(" -> ") && said.contains("1 moves; nodes with tasks: 3 -> 2;"), "{said}");
    let refused = host.berth(&["cluster", "rebalance"]);
    assert!(refused.code != 0 && refused.stderr.contains("--dry-run"), "{refused:?}");
}
