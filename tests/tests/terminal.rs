//! Looking into tasks: logs, exec, attach, cp, stats, events.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use berth_tests::image::hello;
use berth_tests::{Host, wait_for, wait_until};

fn service(name: &str, command: &str, more: &str) -> String {
    format!("services:\n  {name}:\n    image: berth/hello:1\n    command: {command}\n    stop_grace_period: 1s\n{more}")
}

#[test]
fn logs_keep_streams_apart_lines_whole_and_honour_tail_since_and_timestamps() {
    let host = Host::start("logs");
    host.load(&hello());
    let script = "for i in 1 2 3; do echo out $$i; echo err $$i >&2; sleep 0.02; done; printf 'no newline'";
    let once = "    deploy: { restart_policy: { condition: none } }\n";
    host.apply_output("s", &service("web", &format!("[sh, -c, \"{script}\"]"), once), &["--detach"]).ok();
    let logs = wait_until(
        "all output",
        || host.berth(&["logs", "--raw", "s_web"]),
        |output| output.stdout.contains("no newline") && output.stderr.contains("err 3"),
    );
    assert_eq!(logs.stdout.trim_end(), "out 1\nout 2\nout 3\nno newline");
    assert_eq!(logs.stderr, "err 1\nerr 2\nerr 3\n");
    let tail = host.berth(&["logs", "--raw", "--tail", "1", "s_web"]);
    assert_eq!((tail.stdout.trim_end(), tail.stderr.as_str()), ("no newline", ""));
    let stamped = host.berth(&["logs", "--timestamps", "s_web"]).ok();
    assert!(stamped.lines().all(|line| line.contains("20") && line.contains('T') && line.contains("Z")), "{stamped}");
    let none = host.berth(&["logs", "--raw", "--since", "2099-01-01T00:00:00Z", "s_web"]).ok();
    assert_eq!(none, "");
    let named = host.berth(&["logs", "s_web"]).ok();
    assert!(named.lines().all(|line| line.contains("s_web.1")), "{named}");
}

#[test]
fn following_logs_merges_replicas_and_goes_on_when_one_is_replaced() {
    let host = Host::start("follow");
    host.load(&hello());
    let script = "echo start; while true; do echo tick; sleep 0.1; done";
    let more = "    deploy: { replicas: 2, restart_policy: { delay: 0s } }\n";
    host.apply("s", &service("web", &format!("[sh, -c, '{script}']"), more));
    let tasks = host.wait_running("s_web", 2);
    let mut follow = host
        .berth_command()
        .args(["logs", "-f", "s_web"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut starts = 0;
    for line in lines.by_ref().take(5000) {
        starts += usize::from(line.ends_with("start"));
        if starts == 2 {
            break;
        }
    }
    assert_eq!(starts, 2, "both replicas are shown from their beginning");
    host.run("kill", &["-9", &host.pid(&tasks[0]).to_string()]).ok();
    let third = lines.by_ref().take(5000).any(|line| line.ends_with("start"));
    assert!(third, "the replacement's log is followed too");
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[test]
fn rotated_logs_stay_within_their_limit_and_read_in_order() {
    let host = Host::start("rotate");
    host.load(&hello());
    let more = "    logging: { options: { max-size: 16k, max-file: '3' } }\n";
    let script = "i=0; while [ $$i -lt 5000 ]; do i=$$((i+1)); echo line $$i; done; exec sleep 1000";
    host.apply("s", &service("web", &format!("[sh, -c, '{script}']"), more));
    let log =
        wait_until("the last line", || host.berth(&["logs", "--raw", "s_web"]).ok(), |log| log.contains("line 5000"));
    let numbers: Vec<u32> = log.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert!(numbers.len() < 5000, "old lines were rotated away");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "what is left has no gap");
}

#[test]
fn exec_runs_in_the_task_with_its_exit_code_input_user_and_environment() {
    let host = Host::start("exec");
    host.load(&hello());
    host.apply("s", &service("web", "[sleep, '1000']", "    environment: { COLOUR: blue }\n    hostname: inside\n"));
    host.wait_running("s_web", 1);
    let exec = |args: &[&str]| host.berth(&[&["exec"], args].concat());
    assert_eq!(exec(&["s_web", "hostname"]).ok(), "inside\n");
    assert_eq!(exec(&["s_web", "sh", "-c", "echo $COLOUR; exit 0"]).ok(), "blue\n");
    assert_eq!(exec(&["s_web", "sh", "-c", "exit 42"]).code, 42);
    assert_eq!(exec(&["-e", "COLOUR=red", "-w", "/tmp", "s_web", "sh", "-c", "echo $COLOUR; pwd"]).ok(), "red\n/tmp\n");
    assert_eq!(exec(&["-u", "www-data", "s_web", "id", "-u"]).ok(), "33\n");
    assert_eq!(host.berth_with_input(&["exec", "-i", "s_web", "cat"], b"a\nb").ok(), "a\nb");
    let both = exec(&["s_web", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let missing = exec(&["s_web", "no-such-program"]);
    assert_eq!(missing.code, 127, "{missing:?}");
    assert!(missing.stderr.contains("no-such-program"), "{missing:?}");
    let nobody = exec(&["s_nothing", "true"]);
    assert_eq!(nobody.code, 1, "{nobody:?}");
    // What a large pipe carries arrives whole.
    let big = exec(&["s_web", "sh", "-c", "dd if=/dev/zero bs=1024 count=4096 2>/dev/null | tr '\\0' x"]).ok();
    assert_eq!(big.len(), 4096 * 1024);
}

#[test]
fn exec_gives_a_terminal_of_the_right_size() {
    let host = Host::start("tty");
    host.load(&hello());
    host.apply("s", &service("web", "[sleep, '1000']", ""));
    host.wait_running("s_web", 1);
    // `script` gives the command line a terminal of its own.
    let line = format!(
        "stty rows 33 cols 77; {} exec -it s_web sh -c 'stty size; test -t 0 && echo terminal'",
        berth_tests::host::berth_binary().display()
    );
    let output = host.run("script", &["-qec", &line, "/dev/null"]);
    assert!(output.stdout.contains("33 77") && output.stdout.contains("terminal"), "{output:?}");
}

#[test]
fn attach_shows_output_and_gives_input() {
    let host = Host::start("attach");
    host.load(&hello());
    host.apply("s", &service("web", "[sh, -c, 'while read line; do echo got $$line; done']", "    stdin_open: true\n"));
    host.wait_running("s_web", 1);
    let mut attach = host
        .berth_command()
        .args(["attach", "s_web"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = attach.stdin.take().unwrap();
    stdin.write_all(b"hello\n").unwrap();
    stdin.flush().unwrap();
    let mut line = String::new();
    BufReader::new(attach.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "got hello\n");
    attach.kill().unwrap();
    attach.wait().unwrap();
    host.wait_running("s_web", 1);
}

#[test]
fn cp_copies_files_both_ways_and_never_leaves_the_container() {
    let host = Host::start("cp");
    host.load(&hello());
    host.apply("s", &service("web", "[sleep, '1000']", ""));
    host.wait_running("s_web", 1);
    let here = host.dir().join("tree");
    std::fs::create_dir_all(here.join("sub")).unwrap();
    std::fs::write(here.join("sub/file"), "content\n").unwrap();
    host.berth(&["cp", here.to_str().unwrap(), "s_web:/srv/"]).ok();
    assert_eq!(host.berth(&["exec", "s_web", "cat", "/srv/tree/sub/file"]).ok(), "content\n");
    let back = host.dir().join("back");
    host.berth(&["cp", "s_web:/srv/tree", back.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(back.join("sub/file")).unwrap(), "content\n");

    // Links that a container made lead nowhere on the host.
    let outside = host.dir().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let link = format!("ln -s {} /srv/link", outside.display());
    host.berth(&["exec", "s_web", "sh", "-c", &link]).ok();
    host.berth(&["cp", here.join("sub/file").to_str().unwrap(), "s_web:/srv/link/file"]);
    assert!(!outside.join("file").exists(), "a container's link was followed on the host");
    host.berth(&["exec", "s_web", "sh", "-c", "ln -s /etc/hostname /srv/name"]).ok();
    let taken = host.berth(&["cp", "-L", "s_web:/srv/name", host.dir().join("name").to_str().unwrap()]);
    if taken.code == 0 {
        let real = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        assert_ne!(std::fs::read_to_string(host.dir().join("name")).unwrap(), real);
    }
}

#[test]
fn stats_tell_what_a_task_uses() {
    let host = Host::start("stats");
    host.load(&hello());
    let more = "    deploy: { resources: { limits: { memory: 64M, pids: 50 } } }\n";
    host.apply("s", &service("web", "[sleep, '1000']", more));
    host.wait_running("s_web", 1);
    let stats = host.berth(&["stats", "--no-stream", "--format", "json"]).json();
    let mine = stats.as_array().unwrap().iter().find(|task| task.to_string().contains("s_web")).unwrap();
    assert!(mine.to_string().contains(&(64 << 20).to_string()), "the memory limit is shown: {mine}");
}

#[test]
fn events_tell_what_changes() {
    let host = Host::start("events");
    host.load(&hello());
    let mut events = host.berth_command().args(["events", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let sink = lines.clone();
    let mut stdout = events.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stdout.read(&mut buffer) {
            sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    // The stream may begin a moment after the command does: make changes until one shows.
    let mut round = 0;
    wait_for("events of a config", || {
        round += 1;
        host.berth_with_input(&["config", "create", &format!("c{round}"), "-"], b"x").ok();
        let text = lines.lock().unwrap().clone();
        if text.contains("config") { Ok(()) } else { Err(text) }
    });
    events.kill().unwrap();
    events.wait().unwrap();
    reader.join().unwrap();
}
