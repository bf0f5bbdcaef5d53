//! Bad input: each mistake is refused with what is wrong and what to do, and nothing else changes.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Host, wait_until};

#[test]
fn mistakes_in_yaml_are_all_named_with_line_and_hint() {
    let host = Host::start("yaml");
    let yaml = "services:\n  web:\n    imagee: nginx\n    ports: ['80:99999']\n    deploy: { replicas: many }\n";
    let said = host.apply_output("s", yaml, &[]).fails(1);
    for part in ["imagee", "image", "99999", "replicas", ":3:", ":4:", ":5:"] {
        assert!(said.contains(part), "{part:?} is missing in: {said}");
    }
    assert_eq!(host.berth(&["service", "ls", "-q"]).ok(), "");
    let usage = host.berth(&["apply"]);
    assert_eq!(usage.code, 2, "{usage:?}");
    let build = host.apply_output("s", "services:\n  web: { build: . }\n", &[]).fails(1);
    assert!(build.contains("build"), "{build}");
    let missing = host.berth(&["apply", "-f", "no-such-file.yaml"]).fails(1);
    assert!(missing.contains("no-such-file.yaml"), "{missing}");
}

#[test]
fn an_unreadable_image_archive_is_refused_and_leaves_nothing() {
    let host = Host::start("archive");
    let before = host.berth(&["image", "ls", "--format", "json"]).ok();
    for (name, bytes) in
        [("empty", &b""[..]), ("garbage", &b"not a tar at all, though long enough to be read as one"[..])]
    {
        let file = host.dir().join(name);
        std::fs::write(&file, bytes).unwrap();
        let said = host.berth(&["image", "load", "-i", file.to_str().unwrap()]).fails(1);
        assert!(!said.is_empty());
    }
    let whole = std::fs::read(hello()).unwrap();
    let cut = host.dir().join("cut.tar");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    host.berth(&["image", "load", "-i", cut.to_str().unwrap()]).fails(1);
    assert_eq!(host.berth(&["image", "ls", "--format", "json"]).ok(), before);
    host.load(&hello());
}

#[test]
fn a_port_that_is_taken_is_named_on_the_task() {
    let host = Host::start("port");
    host.load(&hello());
    let mut holder =
        host.command("busybox").args(["nc", "-l", "-p", "8080"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("the port to be taken", || host.run("ss", &["-ltn"]).ok(), |list| list.contains(":8080"));
    let yaml = "services:\n  web: { image: berth/hello:1, ports: ['8080:80'] }\n";
    let said = host.apply_output("s", yaml, &["--timeout", "20s"]).fails(1);
    assert!(said.contains("8080"), "{said}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Once it is free the service comes up by itself.
    host.wait_running("s_web", 1);
    let double =
        host.apply_output("t", "services:\n  other: { image: berth/hello:1, ports: ['8080:80'] }\n", &[]).fails(1);
    assert!(double.contains("8080") && double.contains("s_web"), "{double}");
}

#[test]
fn a_port_that_is_taken_when_a_running_service_gets_it_is_shown_with_the_reason() {
    let host = Host::start("late-port");
    host.load(&hello());
    let yaml = |ports: &str| format!("services:\n  web: {{ image: berth/hello:1, ports: [{ports}] }}\n");
    host.apply("s", &yaml("'8080:80'"));
    let before = host.wait_running("s_web", 1).remove(0);
    let mut holder =
        host.command("busybox").args(["nc", "-l", "-p", "8081"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("the port to be taken", || host.run("ss", &["-ltn"]).ok(), |list| list.contains(":8081"));
    let said = host.apply_output("s", &yaml("'8080:80', '8081:80'"), &["--timeout", "30s"]).fails(1);
    assert!(said.contains("s_web.1 runs, but port 8081/tcp"), "{said}");
    let task = host.tasks("s_web").remove(0);
    assert_eq!(task["id"], before["id"], "nothing was restarted: {task:#}");
    assert!(task["error"].as_str().unwrap().contains("8081"), "{task:#}");
    let page = host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8080/"]);
    assert_eq!(page.code, 0, "the other port works on: {page:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the port to be had", || host.tasks("s_web").remove(0), |task| task["error"] == "");
    host.run("curl", &["-fsS", "--max-time", "5", "http://127.0.0.1:8081/"]).ok();
}

#[test]
fn a_full_disk_while_unpacking_is_said_and_the_store_stays_sound() {
    let host = Host::without_daemon("full");
    let data = host.data_dir();
    let data = data.to_str().unwrap();
    host.run("mount", &["-t", "tmpfs", "-o", "size=200m", "tmpfs", data]).ok();
    let mut host = host;
    host.start_daemon();
    let filler = format!("{data}/filler");
    let fill = format!("head -c $(($(stat -f -c '%a * %S' {data}) - 1500000)) /dev/zero > {filler}");
    host.run("sh", &["-c", &fill]).ok();
    let said = host.berth(&["image", "load", "-i", hello().to_str().unwrap()]).fails(1);
    assert!(said.to_lowercase().contains("space") || said.to_lowercase().contains("disk full"), "{said}");
    assert_eq!(host.berth(&["image", "ls", "-q"]).ok(), "");
    host.run("rm", &[&filler]).ok();
    host.load(&hello());
}

#[test]
fn names_that_do_not_exist_or_are_ambiguous_are_said_so() {
    let host = Host::start("names");
    for args in [
        &["service", "inspect", "nothing"][..],
        &["service", "rm", "nothing"],
        &["task", "inspect", "zzzz"],
        &["node", "inspect", "nothing"],
        &["logs", "nothing"],
        &["image", "inspect", "nothing:1"],
    ] {
        let said = host.berth(args).fails(1);
        assert!(said.contains(args.last().unwrap()), "{args:?}: {said}");
    }
    let unsupported = host.berth(&["service", "create", "--credential-spec", "file://x", "berth/hello:1"]);
    assert_ne!(unsupported.code, 0);
    assert!(unsupported.stderr.contains("credential-spec"), "{unsupported:?}");
}
