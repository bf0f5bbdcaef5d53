//! Contents of configs and secrets: rolled out like any change, kept for the way back, forgotten after it, never on a disk.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_tests::image::hello;
use berth_tests::{Host, wait_until};
use serde_json::Value;

const YAML: &str = "services:
  web:
    image: berth/hello:1
    command: [sh, -c, 'grep -q bad /etc/app.conf && exit 3; exec sleep 1000']
    stop_grace_period: 1s
    configs: [{ source: conf, target: /etc/app.conf, mode: 0440, uid: '33', gid: '44' }]
    secrets: [{ source: token, uid: '33', mode: 0400 }]
    deploy:
      replicas: 2
      restart_policy: { delay: 0s }
      update_config: { parallelism: 1, monitor: 300ms, failure_action: pause }
      rollback_config: { monitor: 100ms }
configs: { conf: { file: ./app.conf } }
secrets: { token: { file: ./token } }
";
const SECRETS: [&str; 3] = ["kumquat-4711", "lychee-0815", "rambutan-23"];

fn write(host: &Host, conf: &str, token: &str) {
    std::fs::write(host.dir().join("app.conf"), conf).unwrap();
    std::fs::write(host.dir().join("token"), token).unwrap();
}

fn ids(tasks: &[Value]) -> BTreeSet<&str> {
    tasks.iter().map(|task| task["id"].as_str().unwrap()).collect()
}

/// What the task sees: config, secret, and how they are there.
fn seen(host: &Host, task: &str) -> String {
    let script = "cat /etc/app.conf /run/secrets/token; stat -c '%u:%g %a' /etc/app.conf /run/secrets/token; \
                  grep -c -E ' (/etc/app.conf|/run/secrets/token) tmpfs ro' /proc/mounts";
    host.berth(&["exec", task, "sh", "-c", script]).ok()
}

fn wait_seen(host: &Host, conf: &str, token: &str) -> Vec<Value> {
    let tasks = host.wait_running("s_web", 2);
    for id in ids(&tasks) {
        assert_eq!(seen(host, id), format!("{conf}{token}33:44 440\n33:0 400\n2\n"), "task {id}");
    }
    tasks
}

/// How many older contents an object keeps.
fn earlier(host: &Host, kind: &str, name: &str) -> usize {
    let json = host.berth(&[kind, "inspect", name]).json();
    json.pointer("/0/earlier").and_then(Value::as_array).unwrap_or_else(|| panic!("{json:#}")).len()
}

fn assert_not_on_disk(host: &Host) {
    for secret in SECRETS {
        let search = ["-xdev", "-type", "f", "-exec", "grep", "-l", secret, "{}", "+"];
        let found = host.run("find", &[&[host.data_dir().to_str().unwrap()], &search[..]].concat());
        assert_eq!(found.stdout, "", "{secret} is on disk");
    }
}

#[test]
fn new_content_rolls_out_is_kept_for_a_rollback_and_is_forgotten_after_it() {
    let mut host = Host::start("contents");
    host.load(&hello());
    write(&host, "one\n", "kumquat-4711\n");
    host.apply("s", YAML);
    let first: Vec<String> = ids(&wait_seen(&host, "one\n", "kumquat-4711\n")).into_iter().map(str::to_owned).collect();

    // New content replaces the tasks, and only it: the plan says so.
    write(&host, "two\n", "lychee-0815\n");
    let plan = host.apply("s", YAML);
    assert!(plan.contains("configs and secrets") && !plan.contains("digest"), "{plan}");
    let second = wait_seen(&host, "two\n", "lychee-0815\n");
    assert!(first.iter().all(|id| !ids(&second).contains(id.as_str())), "{second:#?}");
    let unchanged = host.apply("s", YAML);
    assert!(!unchanged.contains("new content"), "{unchanged}");
    assert_eq!((earlier(&host, "config", "s_conf"), earlier(&host, "secret", "s_token")), (1, 1));

    // The way back, across a restart of the daemon.
    host.kill_daemon();
    host.start_daemon();
    host.berth(&["service", "rollback", "s_web"]).ok();
    wait_seen(&host, "one\n", "kumquat-4711\n");
    host.apply("s", YAML);
    let before = wait_seen(&host, "two\n", "lychee-0815\n");

    // A content that its first task cannot live with stops there: the other task goes on with what it has.
    write(&host, "bad\n", "rambutan-23\n");
    host.apply_output("s", YAML, &[]).fails(1);
    let paused = |service: &Value| service["update_status"].to_string().contains("paused");
    wait_until("the update to pause", || host.service("s_web"), paused);
    let running = host.tasks("s_web").into_iter().filter(|task| task["state"] == "running").collect::<Vec<_>>();
    let left: Vec<&str> = ids(&running).intersection(&ids(&before)).copied().collect();
    assert_eq!(left.len(), 1, "{running:#?}");
    assert!(seen(&host, left[0]).starts_with("two\nlychee-0815\n"));
    assert_eq!(earlier(&host, "config", "s_conf"), 1, "the very first one cannot come back");
    host.berth(&["service", "rollback", "s_web"]).ok();
    wait_seen(&host, "two\n", "lychee-0815\n");
    assert_not_on_disk(&host);

    let used = host.berth(&["config", "rm", "s_conf"]).fails(1);
    assert!(used.contains("in use by service s_web"), "{used}");
    host.berth(&["service", "rm", "s_web"]).ok();
    for (kind, name) in [("config", "s_conf"), ("secret", "s_token")] {
        wait_until("the older contents to be forgotten", || earlier(&host, kind, name), |count| *count == 0);
    }
    assert_not_on_disk(&host);
}

#[test]
fn new_content_by_command_reaches_every_service_and_templates_are_filled_in_for_each_task() {
    let host = Host::start("by-command");
    host.load(&hello());
    host.berth_with_input(&["secret", "create", "token", "-"], b"kumquat-4711").ok();
    let template = b"{{.Service.Name}} {{.Task.Slot}} {{.Node.Hostname}} {{env \"MODE\"}} {{secret \"token\"}}";
    host.berth_with_input(&["config", "create", "--template-driver", "golang", "shared", "-"], template).ok();
    let yaml = "services:
  web:
    image: berth/hello:1
    hostname: '{{.Service.Name}}-{{.Task.Slot}}'
    environment: { MODE: 'on-{{.Node.Hostname}}' }
    command: [sleep, '1000']
    stop_grace_period: 1s
    configs: [shared]
    secrets: [token]
    volumes: ['data:/data']
    deploy: { replicas: 2, update_config: { parallelism: 0, monitor: 100ms } }
configs: { shared: { external: true } }
secrets: { token: { external: true } }
volumes: { data: { name: 'data-{{.Task.Slot}}' } }
";
    host.apply("s", yaml);
    host.berth(&["service", "create", "--name", "other", "--config", "shared", "--secret", "token", "berth/hello:1"])
        .ok();
    let machine = host.run("hostname", &[]).ok();
    let machine = machine.trim();
    let read = |task: &str, script: &str| host.berth(&["exec", task, "sh", "-c", script]).ok();
    for task in ["1", "2"] {
        let said = read(&format!("s_web.{task}"), "hostname; cat /shared");
        assert_eq!(said, format!("s_web-{task}\ns_web {task} {machine} on-{machine} kumquat-4711"));
    }
    let volumes = host.berth(&["volume", "ls", "-q"]).ok();
    assert!(volumes.contains("data-1") && volumes.contains("data-2"), "{volumes}");
    assert_eq!(read("other", "cat /shared"), format!("other 1 {machine}  kumquat-4711"));

    host.berth_with_input(&["config", "update", "shared", "-"], b"now {{.Task.Slot}}").ok();
    for task in ["s_web.1", "s_web.2", "other.1"] {
        assert_eq!(read(task, "cat /shared"), format!("now {}", &task[task.len() - 1..]), "{task}");
    }
    let wrong = host.berth_with_input(&["config", "update", "shared", "-"], b"{{.Task.Slott}}").fails(1);
    assert!(wrong.contains("unknown placeholder '{{.Task.Slott}}'"), "{wrong}");
    // The secret alone: the config is as it was.
    host.berth_with_input(&["secret", "update", "token", "-"], b"lychee-0815").ok();
    assert_eq!(read("s_web.1", "cat /shared /run/secrets/token"), "now 1lychee-0815");
    assert_not_on_disk(&host);
}
