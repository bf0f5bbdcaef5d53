//! A whole daemon on a host of its own: memory, scaling, replacing a crashed task. The stop signal is KILL, so that a
//! process that ignores TERM does not blur the figures.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use berth_tests::image::hello;
use berth_tests::{Host, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::figures::Samples;
use crate::process::{memory as memory_of, smaps};

const IDLE: &str = "services:
  web:
    image: berth/hello:1
    command: [sleep, '100000']
    stop_signal: KILL
    deploy: { replicas: 1, restart_policy: { delay: 0s } }
";

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
    wait_for("the daemon's memory to settle", || {
        let first = smaps(daemon, "Pss:");
        std::thread::sleep(Duration::from_secs(2));
        let second = smaps(daemon, "Pss:");
        if first.abs_diff(second) < 64 { Ok(()) } else { Err((first, second)) }
    });
    println!("idle daemon: {} (n=1)", memory_of(daemon));
    host.apply("s", IDLE);
    host.berth(&["scale", "s_web=20"]).ok();
    let shims: Vec<i32> = host.wait_running("s_web", 20).iter().map(|task| parent(host.pid(task))).collect();
    for key in ["Private_Dirty:", "Pss:", "Rss:"] {
        let (median, least, most) = median(shims.iter().map(|&pid| smaps(pid, key)).collect());
        println!("supervisor of a container, {key} median {median} kB, {least}-{most} (n={})", shims.len());
    }
    println!("daemon with 20 tasks: PSS {:.1} MiB (n=1)", smaps(daemon, "Pss:") as f64 / 1024.0);
}

/// What `berth events` says of the tasks, line by line: no polling that would blur the figures.
struct Events {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Tasks and the states that they have been seen in: each counts once.
    seen: HashSet<(String, String)>,
}

impl Events {
    fn of_tasks(host: &Host) -> Self {
        let mut command = host.berth_command();
        command.args(["events", "--filter", "type=task", "--format", "json"]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the command line runs");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines, seen: HashSet::new() }
    }

    /// Reads until `count` more tasks have come to a state that is one of `states`.
    fn until(&mut self, count: usize, states: &[&str]) {
        let mut left = count;
        while left > 0 {
            let line = self.lines.next().expect("events do not end").expect("events can be read");
            let event: Value = serde_json::from_str(&line).expect("an event is a JSON object");
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let state = text("action");
            if states.contains(&state.as_str()) && self.seen.insert((text("id"), state)) {
                left -= 1;
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ENDED: [&str; 3] = ["complete", "shutdown", "failed"];

pub fn scale() {
    let host = Host::start("bench-scale");
    host.load(&hello());
    let mut events = Events::of_tasks(&host);
    let (mut running, mut returned) = (Vec::new(), Vec::new());
    for round in 0..20 {
        let stack = format!("one{round}");
        let begin = Instant::now();
        let mut apply = host.berth_command();
        let file = host.dir().join("one.yaml");
        fs::write(&file, IDLE).expect("the host's directory is writable");
        let mut child = apply
            .args(["apply", "--stack", &stack, "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        events.until(1, &["running"]);
        running.push(begin.elapsed());
        let status = child.as_mut().expect("the command line runs").wait();
        returned.push(begin.elapsed());
        assert!(status.is_ok_and(|status| status.success()), "apply failed");
        host.berth(&["stack", "rm", &stack]).ok();
        events.until(1, &ENDED);
    }
    Samples::new("apply one replica, until running", running).print();
    Samples::new("apply one replica, until the command returns", returned).print();
    scale_up_and_down(&host, &mut events);
}

fn scale_up_and_down(host: &Host, events: &mut Events) {
    host.apply_output("s", &IDLE.replace("replicas: 1", "replicas: 0"), &[]).ok();
    for (count, rounds) in [(30, 5), (100, 3), (300, 1)] {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let begin = Instant::now();
            host.berth(&["scale", "--detach", &format!("s_web={count}")]).ok();
            events.until(count, &["running"]);
            up.push(begin.elapsed());
            let begin = Instant::now();
            host.berth(&["scale", "--detach", "s_web=0"]).ok();
            events.until(count, &ENDED);
            down.push(begin.elapsed());
        }
        Samples::new(&format!("scale 0 to {count}, until all run"), up).print();
        Samples::new(&format!("scale {count} to 0, until all have ended"), down).print();
    }
}

/// Each task is its slot's first to crash: later ones would wait for their backoff.
pub fn crash() {
    let host = Host::start("bench-crash");
    host.load(&hello());
    host.apply("s", &IDLE.replace("replicas: 1", "replicas: 20"));
    let tasks = host.wait_running("s_web", 20);
    let mut events = Events::of_tasks(&host);
    let mut samples = Vec::new();
    for task in &tasks {
        let pid = Pid::from_raw(host.pid(task));
        let begin = Instant::now();
        kill(pid, Signal::SIGKILL).expect("the task runs");
        events.until(1, &["running"]);
        samples.push(begin.elapsed());
    }
    Samples::new("crashed task replaced, no delay", samples).print();
}
