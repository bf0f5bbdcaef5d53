//! Machines that go on badly rather than not at all: a slow wire, a full disk.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use berth_tests::image::hello;
use berth_tests::{Cluster, wait_for, wait_until};

/// Of a host's own wire, each way: twice that between two hosts.
const DELAY: Duration = Duration::from_millis(25);
/// Mebibytes of a small disk.
const DISK: u32 = 160;

/// Creates a config; whether it was acknowledged.
fn write(cluster: &Cluster, at: usize, name: &str, bytes: usize) -> Result<(), berth_tests::Output> {
    let output = cluster.host(at).berth_with_input(&["config", "create", name, "-"], &vec![b'x'; bytes]);
    if output.code == 0 { Ok(()) } else { Err(output) }
}

fn configs(cluster: &Cluster, at: usize) -> BTreeSet<String> {
    let listed = cluster.host(at).berth(&["config", "ls", "--format", "json"]).json();
    listed.as_array().unwrap().iter().map(|config| config["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn managers_on_a_slow_wire_keep_one_leader_take_writes_and_run_tasks() {
    let mut cluster = Cluster::new("slow", 3, 0);
    cluster.host(0).load(&hello());
    (0..3).for_each(|at| cluster.delay(at, DELAY));
    let begin = Instant::now();
    cluster.host(0).run("bash", &["-c", "true < /dev/tcp/10.77.0.2/4777"]).ok();
    assert!(begin.elapsed() >= 4 * DELAY, "a connection takes a way there and one back: {:?}", begin.elapsed());

    let mut written = BTreeSet::new();
    for number in 0..12 {
        let name = format!("c{number}");
        write(&cluster, number % 3, &name, 100).unwrap();
        written.insert(name);
    }
    cluster.host(1).apply(
        "s",
        "services:
  web:
    image: berth/hello:1
    stop_signal: SIGKILL
    deploy: { replicas: 3, placement: { preferences: [{ spread: node.labels.host }] } }
",
    );
    cluster.host(2).wait_running("s_web", 3);
    let placed: BTreeSet<String> = cluster.placed(0, "s_web").into_iter().collect();
    assert_eq!(placed, cluster.hostnames(), "one on each");
    wait_until(
        "one leader",
        || [0, 1, 2].map(|at| cluster.leader(at)),
        |seen| seen[0] == seen[1] && seen[1] == seen[2],
    );
    for at in 0..3 {
        assert_eq!(configs(&cluster, at), written, "host {at}");
    }
}

#[test]
fn a_leader_whose_disk_is_full_is_followed_by_another_and_takes_part_again() {
    let mut cluster = Cluster::with_disks("full", 3, 0, DISK);
    let full = cluster.leader(0);
    let [one, other] = [(full + 1) % 3, (full + 2) % 3];
    cluster.host(full).fill_disk();
    // The log's file has room for a while.
    let mut written = BTreeSet::new();
    wait_for("the manager to give up", || {
        let name = format!("c{}", written.len());
        match write(&cluster, one, &name, 100_000) {
            Ok(()) => drop(written.insert(name)),
            // Perhaps written, perhaps not: the next one has another name all the same.
            Err(_) => drop(written.insert(format!("lost{}", written.len()))),
        }
        if cluster.host_mut(full).has_ended() { Ok(()) } else { Err(written.len()) }
    });
    let said = cluster.host(full).daemon_log();
    assert!(said.contains("the manager failed") && said.contains("No space left on device"), "{said}");
    wait_until("another leader", || cluster.leader(one), |leader| *leader != full);
    let name = "after".to_owned();
    wait_for("a write", || write(&cluster, other, &name, 100));
    written.insert(name);
    written.retain(|name| !name.starts_with("lost"));

    // As long as there is no room it does not come back, and says why.
    cluster.host(full).free_disk();
    cluster.host_mut(full).start_daemon();
    cluster.wait_ready(3);
    let kept = configs(&cluster, full);
    assert!(kept.is_superset(&written), "what was acknowledged is there: {written:?} {kept:?}");
    // Two of three are needed: it is one of them.
    cluster.host_mut(other).kill_daemon();
    wait_for("a write with the manager that came back", || write(&cluster, one, "again", 100));
    assert!(configs(&cluster, full).contains("again"));
    cluster.host_mut(other).start_daemon();
}

#[test]
fn tasks_run_on_where_the_disk_is_full_and_new_ones_say_why_they_cannot() {
    let cluster = Cluster::with_disks("worker", 1, 1, DISK);
    cluster.host(0).load(&hello());
    let name = cluster.host(1).hostname().to_owned();
    let service = |service: &str| {
        format!(
            "services:
  {service}:
    image: berth/hello:1
    command: [sh, -c, 'i=0; while true; do i=$$((i+1)); echo line $$i; sleep 0.05; done']
    stop_signal: SIGKILL
    deploy:
      restart_policy: {{ delay: 100ms }}
      placement: {{ constraints: [node.hostname == {name}] }}
"
        )
    };
    cluster.host(0).apply("old", &service("web"));
    let old = cluster.host(0).wait_running("old_web", 1).remove(0);
    cluster.host(1).fill_disk();
    cluster.host(0).apply_output("new", &service("web"), &["--detach"]).ok();
    let reason = wait_for("a task that says why it cannot run", || {
        let tasks = cluster.host(0).tasks("new_web");
        let errors = tasks.iter().filter_map(|task| task["error"].as_str().map(str::to_owned));
        errors.into_iter().find(|error| error.contains("No space left on device")).ok_or(tasks)
    });
    println!("{reason}");
    let id = old["id"].as_str().unwrap();
    let is_same = |task: &serde_json::Value| task["id"] == id && task["state"] == "running";
    assert!(cluster.host(0).tasks("old_web").iter().any(is_same), "the one that ran runs on");
    cluster.host(0).berth(&["exec", id, "true"]).ok();

    cluster.host(1).free_disk();
    cluster.host(0).wait_running("new_web", 1);
    assert!(cluster.host(0).tasks("old_web").iter().any(is_same), "the one that ran runs on");
    let last = |lines: &str| lines.lines().last().map(str::to_owned);
    let logs = || last(&cluster.host(0).berth(&["logs", "--raw", "--tail", "1", "old_web"]).ok());
    let before = logs();
    wait_until("its log to go on", logs, |line| line.is_some() && *line != before);
}
