//! A whole daemon on a host of its own: memory, scaling, replacing a crashed task. The stop signal is KILL, so that a
//! process that ignores TERM does not blur the figures.

use std::fs;
use std::time::{Duration, Instant};

use berth_tests::image::hello;
use berth_tests::{Host, wait_for};
use serde_json::Value;

use crate::figures::Samples;

const IDLE: &str = "services:
  web:
    image: berth/hello:1
    command: [sleep, '100000']
    stop_signal: KILL
    deploy: { replicas: 1, restart_policy: { delay: 0s } }
";

/// Kibibytes of one line of smaps_rollup.
fn smaps(pid: i32, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    let fields = stat.rsplit_once(')').expect("the name is in brackets").1;
    fields.split_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a parent")
}

fn median(mut values: Vec<u64>) -> (u64, u64, u64) {
    values.sort_unstable();
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

pub fn memory() {
    let host = Host::start("bench-memory");
    host.load(&hello());
    // Long enough for start-up work to be done: the daemon's own memory no longer changes.
    let daemon = host.daemon_pid();
    let settled = wait_for("the daemon's memory to settle", || {
        let first = smaps(daemon, "Pss:");
        std::thread::sleep(Duration::from_secs(2));
        let second = smaps(daemon, "Pss:");
        if first.abs_diff(second) < 64 { Ok(second) } else { Err((first, second)) }
    });
    println!(
        "idle daemon: PSS {:.1} MiB, private dirty {:.1} MiB, RSS {:.1} MiB (n=1)",
        settled as f64 / 1024.0,
        smaps(daemon, "Private_Dirty:") as f64 / 1024.0,
        smaps(daemon, "Rss:") as f64 / 1024.0
    );
    host.apply("s", IDLE);
    host.berth(&["scale", "s_web=20"]).ok();
    let shims: Vec<i32> = host.wait_running("s_web", 20).iter().map(|task| parent(host.pid(task))).collect();
    for key in ["Private_Dirty:", "Pss:", "Rss:"] {
        let (median, least, most) = median(shims.iter().map(|&pid| smaps(pid, key)).collect());
        println!("supervisor of a container, {key} median {median} kB, {least}-{most} (n={})", shims.len());
    }
    println!("daemon with 20 tasks: PSS {:.1} MiB (n=1)", smaps(daemon, "Pss:") as f64 / 1024.0);
}

/// Time until the number of running tasks is reached, seen by the commands that a person would use.
fn scale_to(host: &Host, count: usize) -> Duration {
    let begin = Instant::now();
    host.berth(&["scale", "--detach", &format!("s_web={count}")]).ok();
    wait_for("the scale to be reached", || {
        let running = host.service("s_web")["replicas"]["running"].as_u64().unwrap_or(u64::MAX);
        if running == count as u64 { Ok(()) } else { Err(running) }
    });
    begin.elapsed()
}

pub fn scale() {
    let host = Host::start("bench-scale");
    host.load(&hello());
    let begin = Instant::now();
    host.apply_output("s", IDLE, &["--detach"]).ok();
    wait_for("the first replica", || {
        let running = host.service("s_web")["replicas"]["running"] == 1;
        if running { Ok(()) } else { Err(()) }
    });
    Samples::new("apply one replica, until running", [begin.elapsed()]).print();
    let steps = [(1, 30), (30, 1), (1, 100), (100, 1)];
    let mut samples: Vec<Vec<Duration>> = vec![Vec::new(); steps.len()];
    for _ in 0..5 {
        for (at, (_, to)) in steps.iter().enumerate() {
            samples[at].push(scale_to(&host, *to));
        }
    }
    for ((from, to), samples) in steps.iter().zip(samples) {
        Samples::new(&format!("scale {from} to {to}"), samples).print();
    }
}

pub fn crash() {
    let host = Host::start("bench-crash");
    host.load(&hello());
    host.apply("s", IDLE);
    let mut samples = Vec::new();
    for _ in 0..20 {
        let task = host.wait_running("s_web", 1).remove(0);
        let pid = host.pid(&task);
        let begin = Instant::now();
        host.run("kill", &["-9", &pid.to_string()]).ok();
        wait_for("the replacement", || {
            let tasks = host.tasks("s_web");
            let replaced = |other: &Value| other["state"] == "running" && other["id"] != task["id"];
            if tasks.iter().any(replaced) { Ok(()) } else { Err(tasks) }
        });
        samples.push(begin.elapsed());
    }
    Samples::new("crashed task replaced, no delay", samples).print();
}
