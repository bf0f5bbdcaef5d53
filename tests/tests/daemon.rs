//! The daemon ends, is killed, and starts again: containers run on, logs are whole, nothing acknowledged is lost.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Host, wait_for, wait_until};

const COUNTER: &str = "services:
  counter:
    image: berth/hello:1
    command: [\"sh\", \"-c\", \"i=0; while true; do i=$$((i+1)); echo line $$i; sleep 0.05; done\"]
    stop_grace_period: 1s
  web:
    image: berth/hello:1
    ports: [\"8080:80\"]
    stop_grace_period: 1s
    deploy: { replicas: 2 }
";

#[test]
fn containers_outlive_a_killed_daemon_with_the_same_pid_and_whole_logs() {
    let mut host = Host::start("outlive");
    host.load(&hello());
    host.apply("s", COUNTER);
    let counter = host.wait_running("s_counter", 1).remove(0);
    let pid = host.pid(&counter);
    for round in 0..3 {
        host.kill_daemon();
        let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]);
        assert_eq!(page.code, 0, "requests go on without the daemon (round {round}): {page:?}");
        host.start_daemon();
        let now = host.wait_running("s_counter", 1).remove(0);
        assert_eq!(now["id"], counter["id"], "the same task");
        assert_eq!(host.pid(&now), pid, "the same process");
    }
    host.wait_running("s_web", 2);
    let log = host.berth(&["logs", "--raw", "s_counter"]).ok();
    for (at, line) in log.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1), "no line is lost or doubled");
    }
    // The restarted daemon still governs its tasks.
    host.berth(&["scale", "s_web=1"]).ok();
    host.wait_running("s_web", 1);
}

#[test]
fn a_task_that_ends_while_the_daemon_is_down_is_replaced_after_it_is_back() {
    let mut host = Host::start("down");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, deploy: { restart_policy: { delay: 0s } } }\n");
    let old = host.wait_running("s_web", 1).remove(0);
    let pid = host.pid(&old);
    host.kill_daemon();
    host.run("kill", &["-9", &pid.to_string()]).ok();
    host.start_daemon();
    wait_until(
        "a replacement",
        || host.tasks("s_web"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != old["id"]),
    );
    let ended = host.tasks("s_web").into_iter().find(|task| task["id"] == old["id"]).unwrap();
    assert_eq!(ended["exit_code"], 137, "the exit was recorded without the daemon: {ended:#}");
}

#[test]
fn a_killed_supervisor_is_noticed_and_its_container_ended() {
    let host = Host::start("shim");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, deploy: { restart_policy: { delay: 0s } } }\n");
    let old = host.wait_running("s_web", 1).remove(0);
    let pid = host.pid(&old);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    host.run("kill", &["-9", &parent]).ok();
    wait_until(
        "a replacement",
        || host.tasks("s_web"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != old["id"]),
    );
    wait_for("the old process to be gone", || {
        if std::path::Path::new(&format!("/proc/{pid}")).exists() { Err(pid) } else { Ok(()) }
    });
}

#[test]
fn a_clean_stop_leaves_containers_and_a_start_finds_them() {
    let mut host = Host::start("stop");
    host.load(&hello());
    host.apply("s", COUNTER);
    let counter = host.wait_running("s_counter", 1).remove(0);
    let pid = host.pid(&counter);
    host.stop_daemon();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    let said = host.berth(&["service", "ls"]).fails(1);
    assert!(said.contains("daemon"), "the error says that no daemon answers: {said}");
    host.start_daemon();
    assert_eq!(host.pid(&host.wait_running("s_counter", 1)[0]), pid);
}

#[test]
fn a_detached_exec_outlives_a_killed_daemon() {
    let mut host = Host::start("detached");
    host.load(&hello());
    host.apply("s", COUNTER);
    host.wait_running("s_counter", 1);
    let script = "while ! test -e /tmp/go; do sleep 0.05; done; touch /tmp/went";
    host.berth(&["exec", "-d", "s_counter", "sh", "-c", script]).ok();
    host.kill_daemon();
    host.start_daemon();
    host.wait_running("s_counter", 1);
    host.berth(&["exec", "s_counter", "touch", "/tmp/go"]).ok();
    wait_for("the detached process to go on", || {
        let look = host.berth(&["exec", "s_counter", "test", "-e", "/tmp/went"]);
        if look.code == 0 { Ok(()) } else { Err(look) }
    });
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_and_says_who_has_it() {
    let host = Host::start("second");
    let pid = host.daemon_pid().to_string();
    let data = host.data_dir();
    let second = host.berth(&["daemon", "--data-dir", data.to_str().unwrap(), "--socket", "/run/other.sock"]);
    let said = second.fails(1);
    assert!(said.contains(&pid) && said.contains(data.to_str().unwrap()), "{said}");
    host.berth(&["node", "ls"]).ok();
}

#[test]
fn data_of_a_newer_version_is_refused_untouched() {
    let mut host = Host::start("newer");
    host.stop_daemon();
    let version = find_version_file(&host.data_dir());
    let old = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, old.replace(char::is_numeric, "9")).unwrap();
    let data = host.data_dir();
    let said = host.berth(&["daemon", "--data-dir", data.to_str().unwrap()]).fails(1);
    assert!(said.contains("newer"), "{said}");
    std::fs::write(&version, old).unwrap();
    host.start_daemon();
}

fn find_version_file(dir: &std::path::Path) -> std::path::PathBuf {
    let mut stack = vec![dir.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if entry.file_type().unwrap().is_dir() {
                stack.push(entry.path());
            } else if name.contains("version") || name == "format" {
                return entry.path();
            }
        }
    }
    panic!("no version file under {}", dir.display());
}
