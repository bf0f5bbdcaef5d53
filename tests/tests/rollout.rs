//! Restarts, updates, rollbacks, jobs: how tasks are replaced.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_tests::image::{hello, versions};
use berth_tests::{Host, wait_until};
use serde_json::Value;

fn ids(tasks: &[Value]) -> BTreeSet<String> {
    tasks.iter().map(|task| task["id"].to_string()).collect()
}

#[test]
fn a_crashed_task_is_replaced_and_its_history_kept() {
    let host = Host::start("crash");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, deploy: { restart_policy: { delay: 0s } } }\n");
    let old = host.wait_running("s_web", 1).remove(0);
    host.run("kill", &["-9", &host.pid(&old).to_string()]).ok();
    let tasks = wait_until(
        "a replacement",
        || host.tasks("s_web"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != old["id"]),
    );
    let ended = tasks.iter().find(|task| task["id"] == old["id"]).unwrap();
    assert_eq!((&ended["state"], &ended["exit_code"]), (&"failed".into(), &137.into()), "{ended:#}");
}

#[test]
fn a_failing_service_backs_off_stops_after_max_attempts_and_apply_says_why() {
    let host = Host::start("attempts");
    host.load(&hello());
    let yaml = "services:
  bad:
    image: berth/hello:1
    command: [\"sh\", \"-c\", \"echo cannot find my config >&2; exit 3\"]
    deploy: { restart_policy: { condition: on-failure, delay: 10ms, max_attempts: 2 } }
";
    let said = host.apply_output("s", yaml, &[]).fails(1);
    assert!(said.contains("s_bad") && said.contains('3'), "the error names the service and the exit code: {said}");
    let tasks = wait_until(
        "three attempts",
        || host.tasks("s_bad"),
        |tasks| tasks.iter().filter(|task| task["state"] == "failed").count() == 3,
    );
    assert_eq!(tasks.len(), 3, "one and two more: {tasks:#?}");
}

#[test]
fn an_image_that_is_missing_and_a_command_that_does_not_exist_are_rejected_with_the_reason() {
    let host = Host::start("rejected");
    host.load(&hello());
    let missing = "services:\n  web: { image: berth/nowhere:1, pull_policy: never }\n";
    let said = host.apply_output("a", missing, &[]).fails(1);
    assert!(said.contains("berth/nowhere:1"), "{said}");
    let no_command = "services:\n  web: { image: berth/hello:1, command: [\"no-such-program\"] }\n";
    let said = host.apply_output("b", no_command, &[]).fails(1);
    assert!(said.contains("no-such-program") && said.contains("not found"), "{said}");
    let tasks = host.tasks("b_web");
    assert!(tasks.iter().any(|task| task["state"] == "rejected"), "{tasks:#?}");
    assert!(tasks.len() < 5, "no restart loop without a backoff: {tasks:#?}");
}

#[test]
fn a_rolling_update_goes_back_by_itself_when_the_new_tasks_fail() {
    let host = Host::start("rollback");
    host.load(&hello());
    let yaml = |command: &str| {
        format!(
            "services:
  web:
    image: berth/hello:1
    command: {command}
    stop_grace_period: 1s
    deploy:
      replicas: 3
      restart_policy: {{ delay: 0s }}
      update_config: {{ parallelism: 1, monitor: 500ms, failure_action: rollback }}
      rollback_config: {{ parallelism: 0, monitor: 100ms }}
"
        )
    };
    host.apply("s", &yaml("[serve]"));
    host.wait_running("s_web", 3);
    let said = host.apply_output("s", &yaml("[sh, -c, 'sleep 0.1; exit 9']"), &[]).fails(1);
    assert!(said.to_lowercase().contains("roll"), "{said}");
    wait_until(
        "the rollback to end",
        || host.service("s_web"),
        |service| service["update_status"].to_string().contains("rollback_completed"),
    );
    host.wait_running("s_web", 3);
    let service = host.berth(&["service", "inspect", "s_web"]).json();
    assert_eq!(service.pointer("/0/spec/task/container/command"), Some(&serde_json::json!(["serve"])), "{service:#}");
}

#[test]
fn a_person_can_roll_back_an_update() {
    let host = Host::start("person");
    host.load(&hello());
    let yaml = |greeting: &str| {
        format!(
            "services:
  web:
    image: berth/hello:1
    environment: {{ GREETING: {greeting} }}
    ports: [\"8080:80\"]
    stop_grace_period: 1s
    deploy: {{ update_config: {{ monitor: 100ms }}, rollback_config: {{ monitor: 100ms }} }}
"
        )
    };
    host.apply("s", &yaml("one"));
    host.apply("s", &yaml("two"));
    let page = || host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).stdout;
    wait_until("the new page", page, |page| page.starts_with("two"));
    host.berth(&["service", "rollback", "s_web"]).ok();
    wait_until("the old page", page, |page| page.starts_with("one"));
}

#[test]
fn a_change_of_only_constraints_restarts_nothing_that_still_fits() {
    let host = Host::start("constraints");
    host.load(&hello());
    host.berth(&["service", "create", "--name", "web", "--replicas", "2", "berth/hello:1"]).ok();
    let before = host.wait_running("web", 2);
    host.berth(&["service", "update", "--constraint-add", "node.role==manager", "web"]).ok();
    host.berth(&["service", "update", "--label-add", "a=b", "--replicas", "3", "web"]).ok();
    let after = host.wait_running("web", 3);
    assert!(ids(&before).is_subset(&ids(&after)), "{before:#?} {after:#?}");
}

#[test]
fn start_first_never_has_fewer_than_the_wanted_replicas() {
    let host = Host::start("startfirst");
    host.load(&hello());
    host.apply("s", &versions(1, "replicas: 2"));
    let asking = std::sync::atomic::AtomicBool::new(true);
    let failed = std::thread::scope(|scope| {
        let asker = scope.spawn(|| {
            let mut failed = Vec::new();
            for _ in 0..10_000 {
                if !asking.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]);
                if page.code != 0 {
                    failed.push(page);
                }
            }
            failed
        });
        host.apply("s", &versions(2, "replicas: 2"));
        asking.store(false, std::sync::atomic::Ordering::Relaxed);
        asker.join().unwrap()
    });
    assert!(failed.is_empty(), "no request is lost: {failed:#?}");
    let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]).ok();
    assert!(page.starts_with("v2"), "{page}");
}

#[test]
fn jobs_run_to_their_number_of_completions_and_global_services_once_a_node() {
    let host = Host::start("jobs");
    host.load(&hello());
    let yaml = "services:
  job:
    image: berth/hello:1
    command: [\"sh\", \"-c\", \"echo done; exit 0\"]
    deploy: { mode: replicated-job, replicas: 4 }
  each:
    image: berth/hello:1
    deploy: { mode: global }
";
    host.apply("s", yaml);
    let tasks = wait_until(
        "four completions",
        || host.tasks("s_job"),
        |tasks| tasks.iter().filter(|task| task["state"] == "complete").count() == 4,
    );
    assert_eq!(tasks.len(), 4, "and no more: {tasks:#?}");
    assert_eq!(host.wait_running("s_each", 1).len(), 1);
}

#[test]
fn draining_the_only_node_ends_its_tasks_and_activating_brings_them_back() {
    let host = Host::start("drain");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, stop_grace_period: 1s, deploy: { replicas: 2 } }\n");
    let node = host.berth(&["node", "ls", "-q"]).ok();
    let node = node.trim();
    host.berth(&["node", "update", "--availability", "drain", node]).ok();
    wait_until("no running task", || host.tasks("s_web"), |tasks| tasks.iter().all(|task| task["state"] != "running"));
    host.berth(&["node", "update", "--availability", "active", node]).ok();
    host.wait_running("s_web", 2);
}
