//! The main job: a Compose file with three replicas behind one published port, applied, changed, scaled and removed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_tests::image::{hello, repository};
use berth_tests::{Host, wait_for, wait_until};
use serde_json::json;

fn example() -> String {
    std::fs::read_to_string(repository().join("deploy/examples/hello.yaml")).unwrap()
}

#[test]
fn the_example_comes_up_answers_and_goes() {
    let host = Host::start("hello");
    host.load(&hello());
    let plan = host.apply_output("hello", &example(), &["--dry-run"]).ok();
    assert!(plan.contains("hello_web") && plan.contains("create"), "{plan}");
    assert_eq!(host.berth(&["service", "ls", "-q"]).ok(), "", "a dry run makes nothing");

    host.apply("hello", &example());
    let service = host.service("hello_web");
    assert_eq!(service["replicas"], json!({ "running": 3, "desired": 3 }));
    let tasks = host.wait_running("hello_web", 3);

    // Every replica answers behind the one port.
    let mut replicas = BTreeSet::new();
    wait_for("answers from three replicas", || {
        let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).ok();
        assert!(page.starts_with("Hello from Berth, replica "), "{page}");
        replicas.insert(page);
        if replicas.len() == 3 { Ok(()) } else { Err(replicas.clone()) }
    });

    let again = host.apply("hello", &example());
    assert!(again.contains("unchanged"), "{again}");
    let ids = |tasks: &[serde_json::Value]| tasks.iter().map(|task| task["id"].to_string()).collect::<BTreeSet<_>>();
    assert_eq!(ids(&host.wait_running("hello_web", 3)), ids(&tasks), "applying the same file restarts nothing");

    host.berth(&["stack", "rm", "hello"]).ok();
    wait_until(
        "no task left",
        || host.berth(&["task", "ls", "--all", "--format", "json"]).stdout,
        |list| list.trim() == "[]",
    );
    let refused = host.run("curl", &["-sS", "--max-time", "5", "http://127.0.0.1:8080/"]);
    assert_eq!(refused.code, 7, "the port is closed at once: {refused:?}");
}

#[test]
fn a_changed_file_shows_its_changes_field_by_field_and_replaces_the_tasks() {
    let host = Host::start("change");
    host.load(&hello());
    host.apply("hello", &example());
    let before = host.wait_running("hello_web", 3);
    let changed = example().replace("Hello from Berth", "Good day");
    let plan = host.apply_output("hello", &changed, &["--dry-run"]).ok();
    assert!(plan.contains("GREETING") && plan.contains("Good day") && plan.contains("Hello from Berth"), "{plan}");
    host.apply("hello", &changed);
    let after = host.wait_running("hello_web", 3);
    let old: BTreeSet<String> = before.iter().map(|task| task["id"].to_string()).collect();
    assert!(after.iter().all(|task| !old.contains(&task["id"].to_string())), "all tasks are new");
    let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).ok();
    assert!(page.starts_with("Good day"), "{page}");
}

#[test]
fn prune_removes_what_the_file_no_longer_names() {
    let host = Host::start("prune");
    host.load(&hello());
    let two = "services:\n  a: { image: berth/hello:1 }\n  b: { image: berth/hello:1 }\n";
    host.apply("pair", two);
    let one = "services:\n  a: { image: berth/hello:1 }\n";
    host.apply("pair", one);
    assert_eq!(host.service("pair_b")["replicas"]["desired"], 1, "without --prune it stays");
    host.apply_output("pair", one, &["--prune"]).ok();
    wait_until(
        "pair_b gone",
        || host.berth(&["service", "ls", "--format", "json"]).ok(),
        |list| !list.contains("pair_b"),
    );
    host.wait_running("pair_a", 1);
}

#[test]
fn scaling_goes_up_and_down_and_to_nothing() {
    let host = Host::start("scale");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, stop_grace_period: 1s }\n");
    for count in [5usize, 2, 0, 3] {
        host.berth(&["scale", &format!("s_web={count}")]).ok();
        host.wait_running("s_web", count);
    }
    let slots: BTreeSet<i64> =
        host.wait_running("s_web", 3).iter().map(|task| task["slot"].as_i64().unwrap()).collect();
    assert_eq!(slots, BTreeSet::from([1, 2, 3]), "the lowest slots are used");
}
