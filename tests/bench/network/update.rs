//! How long it takes until every node sends to a task that has become ready, and until no node sends to one that leaves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use berth_tests::cluster::ip;
use berth_tests::image::debian;
use berth_tests::outside::ask;
use berth_tests::{Cluster, wait_for};

use super::figures::Samples;

const ROUNDS: usize = 20;

pub fn run() {
    let cluster = Cluster::new("update", 1, 2);
    cluster.host(0).load(&debian("socat"));
    let yaml = "services:
  who:
    image: berth-test/socat:1
    hostname: '{{.Task.Slot}}'
    stop_signal: SIGKILL
    ports: [\"8080:80\"]
    deploy: { replicas: 1, placement: { preferences: [{ spread: node.labels.host }] } }
";
    cluster.host(0).apply("s", yaml);
    cluster.host(0).wait_running("s_who", 1);
    let mut joined = Vec::new();
    for _ in 0..ROUNDS {
        cluster.host(0).berth(&["scale", "--detach", "s_who=2"]).ok();
        // On each host its own client, so that each node's tables are looked at.
        let seen: Vec<SystemTime> = std::thread::scope(|scope| {
            let watchers = (0..3).map(|at| {
                let namespace = PathBuf::from(format!("/proc/{}/ns/net", cluster.host(at).namespace_pid()));
                let to: SocketAddr = SocketAddr::new(ip(at), 8080);
                scope.spawn(move || first_answer(&namespace, to, "2 "))
            });
            let watchers: Vec<_> = watchers.collect();
            watchers.into_iter().map(|watcher| watcher.join().expect("a watcher")).collect()
        });
        let ready = running_since(&cluster, 2);
        let last = seen.into_iter().max().expect("three hosts");
        joined.push(last.duration_since(ready).unwrap_or_default());
        cluster.host(0).berth(&["scale", "s_who=1"]).ok();
        cluster.host(0).wait_running("s_who", 1);
    }
    Samples::new("a task runs -> every node sends to it", joined).print();
}

/// Asks until a task with that host name has answered: every second connection goes to it.
fn first_answer(namespace: &std::path::Path, to: SocketAddr, start: &str) -> SystemTime {
    loop {
        if ask(namespace, to).is_ok_and(|answer| answer.starts_with(start)) {
            return SystemTime::now();
        }
    }
}

/// When the task of a slot was seen to run, by its node's clock.
fn running_since(cluster: &Cluster, slot: u64) -> SystemTime {
    let nanos = wait_for("the task to be shown as running", || {
        let tasks = cluster.host(0).tasks("s_who");
        let task = tasks.iter().find(|task| task["slot"] == slot && task["state"] == "running");
        let id = task.and_then(|task| task["id"].as_str()).map(str::to_owned);
        let Some(id) = id else { return Err(tasks) };
        let task = cluster.host(0).berth(&["task", "inspect", &id]).json();
        let at = task.pointer("/0/status/at").cloned().unwrap_or_default();
        at.as_str().map(str::to_owned).ok_or(vec![task])
    });
    let since: Duration = parse(&nanos);
    SystemTime::UNIX_EPOCH + since
}

/// An RFC 3339 time with a fraction, in UTC.
fn parse(text: &str) -> Duration {
    let output = berth_tests::Output::of(std::process::Command::new("date").args(["-d", text, "+%s.%N"]), None).ok();
    Duration::from_secs_f64(output.trim().parse().expect("seconds"))
}
