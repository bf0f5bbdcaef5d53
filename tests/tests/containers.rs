//! The task template: everything in it works in a real container.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Host, wait_for, wait_until};

fn up(host: &Host, body: &str) {
    let yaml = format!(
        "services:\n  web:\n    image: berth/hello:1\n    command: [sleep, '1000']\n    stop_grace_period: 1s\n{body}"
    );
    host.apply("s", &yaml);
    host.wait_running("s_web", 1);
}

fn sh(host: &Host, script: &str) -> String {
    host.berth(&["exec", "s_web", "sh", "-c", script]).ok()
}

#[test]
fn isolation_is_tight_by_default() {
    let host = Host::start("isolation");
    host.load(&hello());
    up(&host, "");
    let status = sh(&host, "cat /proc/1/status");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    // Docker's default set: 14 capabilities.
    assert!(status.contains("CapEff:\t00000000a80425fb"), "{status}");
    assert_eq!(sh(&host, "mount -t tmpfs x /tmp 2>/dev/null || echo refused"), "refused\n");
    assert_eq!(
        sh(&host, "mknod /tmp/disk b 254 0 2>/dev/null && cat /tmp/disk >/dev/null 2>&1 || echo refused"),
        "refused\n"
    );
    assert_eq!(sh(&host, "echo 1 > /proc/sys/kernel/panic 2>/dev/null || echo refused"), "refused\n");
    assert_eq!(sh(&host, "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c"), "0\n");
    let processes = sh(&host, "ls -d /proc/[0-9]* | wc -l");
    assert!(processes.trim().parse::<u32>().unwrap() < 10, "the host's processes are not seen: {processes}");
}

#[test]
fn process_settings_reach_the_process() {
    let host = Host::start("process");
    host.load(&hello());
    up(
        &host,
        "    user: www-data\n    working_dir: /tmp\n    hostname: box\n    environment: { A: b }\n    read_only: true\n    init: true\n    tmpfs: [/run]\n    ulimits: { nofile: { soft: 100, hard: 200 } }\n    sysctls: { net.ipv4.ip_unprivileged_port_start: '1000' }\n    cap_drop: [ALL]\n    security_opt: ['no-new-privileges:true']\n    shm_size: 8m\n    extra_hosts: ['friend:10.1.2.3']\n",
    );
    assert_eq!(sh(&host, "id -u; pwd; hostname; echo $A; ulimit -Sn; ulimit -Hn"), "33\n/tmp\nbox\nb\n100\n200\n");
    assert_eq!(sh(&host, "echo x > /srv/x 2>/dev/null || echo refused"), "refused\n");
    assert_eq!(sh(&host, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "1000\n");
    assert!(sh(&host, "cat /proc/1/status").contains("NoNewPrivs:\t1"));
    assert!(sh(&host, "grep Cap /proc/1/status").contains("CapBnd:\t0000000000000000"));
    assert!(sh(&host, "df -k /dev/shm").contains("8192"));
    assert!(sh(&host, "cat /etc/hosts").contains("10.1.2.3"));
    assert!(!sh(&host, "cat /proc/1/cmdline").starts_with("sleep"), "pid 1 is the init");
}

#[test]
fn limits_hold_and_an_out_of_memory_kill_is_reported_as_such() {
    let host = Host::start("limits");
    host.load(&hello());
    let yaml = "services:
  eater:
    image: berth/hello:1
    command: [sh, -c, 'tail /dev/zero']
    deploy: { resources: { limits: { memory: 16M, pids: 20 } }, restart_policy: { condition: none } }
";
    host.apply_output("s", yaml, &["--detach"]).ok();
    let tasks =
        wait_until("the end", || host.tasks("s_eater"), |tasks| tasks.iter().any(|task| task["state"] == "failed"));
    assert!(tasks[0]["error"].to_string().to_lowercase().contains("memory"), "{tasks:#?}");
    assert_eq!(tasks[0]["exit_code"], 137, "{tasks:#?}");

    up(&host, "    deploy: { resources: { limits: { pids: 20 } } }\n");
    // The shell that cannot fork any more gives up; what it started still counts.
    let fork =
        "sh -c 'i=0; while [ $i -lt 40 ]; do sleep 5 & i=$((i+1)); done' 2>/dev/null; set -- /proc/[0-9]*; echo $#";
    let forks = sh(&host, fork);
    assert!(forks.trim().parse::<u32>().unwrap_or(0) <= 21, "{forks}");
}

#[test]
fn volumes_binds_and_anonymous_ones_do_what_they_say() {
    let host = Host::start("volumes");
    host.load(&hello());
    let bound = host.dir().join("bound");
    std::fs::create_dir_all(&bound).unwrap();
    std::fs::write(bound.join("file"), "from the host\n").unwrap();
    let body = format!(
        "    volumes: ['data:/data', '{}:/bound:ro', '/anonymous']\nvolumes: {{ data: {{}} }}\n",
        bound.display()
    );
    up(&host, &body);
    assert_eq!(sh(&host, "cat /bound/file; echo x > /bound/y 2>/dev/null || echo refused"), "from the host\nrefused\n");
    sh(&host, "echo kept > /data/file; echo lost > /anonymous/file");
    let old = host.wait_running("s_web", 1).remove(0);
    host.berth(&["service", "update", "--force", "s_web"]).ok();
    wait_for("a new task", || {
        let now = host.wait_running("s_web", 1).remove(0);
        if now["id"] == old["id"] { Err(now) } else { Ok(()) }
    });
    assert_eq!(sh(&host, "cat /data/file; cat /anonymous/file 2>/dev/null || echo gone"), "kept\ngone\n");
    let used = host.berth(&["volume", "rm", "s_data"]).fails(1);
    assert!(used.contains("s_data"), "{used}");
}

#[test]
fn a_missing_bind_source_rejects_the_task_with_the_path() {
    let host = Host::start("bind");
    host.load(&hello());
    let yaml = "services:\n  web:\n    image: berth/hello:1\n    volumes: [{ type: bind, source: /no/such/dir, target: /x }]\n";
    let said = host.apply_output("s", yaml, &[]).fails(1);
    assert!(said.contains("/no/such/dir"), "{said}");
}

#[test]
fn health_decides_over_traffic_and_restarts() {
    let host = Host::start("health");
    host.load(&hello());
    let body = "services:
  web:
    image: berth/hello:1
    ports: ['8080:80']
    stop_grace_period: 1s
    healthcheck: { test: 'test ! -e /tmp/sick', interval: 100ms, retries: 2 }
    deploy: { restart_policy: { delay: 0s } }
";
    host.apply("s", body);
    let old = host.wait_running("s_web", 1).remove(0);
    host.berth(&["exec", "s_web", "touch", "/tmp/sick"]).ok();
    let tasks = wait_until(
        "a replacement",
        || host.tasks("s_web"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != old["id"]),
    );
    let ended = tasks.iter().find(|task| task["id"] == old["id"]).unwrap();
    assert!(ended["error"].to_string().to_lowercase().contains("health"), "{ended:#}");
}

#[test]
fn stop_signal_and_grace_period_are_kept() {
    let host = Host::start("signal");
    host.load(&hello());
    let yaml = "services:
  polite:
    image: berth/hello:1
    stop_signal: SIGUSR1
    command: [sh, -c, \"trap 'echo bye; exit 0' USR1; while true; do sleep 0.1; done\"]
  deaf:
    image: berth/hello:1
    stop_grace_period: 300ms
    command: [sh, -c, \"trap '' TERM; while true; do sleep 0.1; done\"]
";
    host.apply("s", yaml);
    host.berth(&["scale", "s_polite=0", "s_deaf=0"]).ok();
    let polite = wait_until(
        "the polite one to end",
        || host.tasks("s_polite"),
        |tasks| tasks.iter().all(|task| task["state"] != "running"),
    );
    assert!(polite.is_empty() || polite[0]["exit_code"] == 0, "{polite:#?}");
    let deaf = wait_until(
        "the deaf one to be killed",
        || host.tasks("s_deaf"),
        |tasks| tasks.iter().all(|task| task["state"] != "running"),
    );
    assert!(deaf.is_empty() || deaf[0]["exit_code"] == 137, "{deaf:#?}");
}

#[test]
fn configs_and_secrets_are_files_with_their_owner_and_mode() {
    let host = Host::start("files");
    host.load(&hello());
    let body = "    configs: [{ source: conf, target: /etc/app.conf, mode: 0440, uid: '33', gid: '33' }]
    secrets: [token]
configs: { conf: { content: 'colour=blue' } }
secrets: { token: { environment: TOKEN } }
";
    let yaml = format!("services:\n  web:\n    image: berth/hello:1\n    command: [sleep, '1000']\n{body}");
    let file = host.dir().join("s.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = host.berth_command();
    command.env("TOKEN", "kumquat-4711").args(["apply", "--stack", "s", "-f", file.to_str().unwrap()]);
    berth_tests::Output::of(&mut command, None).ok();
    host.wait_running("s_web", 1);
    assert_eq!(
        sh(&host, "cat /etc/app.conf; stat -c ' %u:%g %a' /etc/app.conf; cat /run/secrets/token"),
        "colour=blue 33:33 440\nkumquat-4711"
    );
    let shown = host.berth(&["secret", "inspect", "s_token"]).ok();
    assert!(!shown.contains("kumquat"), "{shown}");
    // Secrets are on memory, never on the node's disk.
    let agent = host.data_dir().join("agent");
    let on_disk = ["-xdev", "-type", "f", "-exec", "grep", "-l", "kumquat-4711", "{}", "+"];
    let found = host.run("find", &[&[agent.to_str().unwrap()], &on_disk[..]].concat());
    assert_eq!(found.stdout, "", "the secret is on disk");
}

#[test]
fn what_a_health_probe_said_is_shown() {
    let host = Host::start("probe");
    host.load(&hello());
    let check = "test: 'echo looking for /tmp/ok; test -e /tmp/ok', interval: 300ms, retries: 2, start_period: 60s, start_interval: 100ms";
    let yaml = format!(
        "services:\n  web:\n    image: berth/hello:1\n    command: [sh, -c, 'touch /tmp/ok; exec sleep 1000']\n    \
         stop_grace_period: 1s\n    healthcheck: {{ {check} }}\n    deploy: {{ restart_policy: {{ condition: none }} }}\n"
    );
    host.apply("s", &yaml);
    let task = host.wait_running("s_web", 1).remove(0);
    let id = task["id"].as_str().unwrap();
    let health = || host.berth(&["task", "inspect", id]).json().pointer("/0/health").unwrap().clone();
    let healthy = health();
    assert_eq!((&healthy["status"], &healthy["failing_streak"]), (&"healthy".into(), &0.into()), "{healthy:#}");
    host.berth(&["exec", "s_web", "rm", "/tmp/ok"]).ok();
    let failed = wait_until("the task to fail", || host.tasks("s_web").remove(0), |task| task["state"] == "failed");
    let why =
        "unhealthy: its health check failed 2 times in a row; the last probe exited with code 1: looking for /tmp/ok";
    assert_eq!(failed["error"], why);
    let sick = health();
    assert_eq!((&sick["status"], &sick["failing_streak"]), (&"unhealthy".into(), &2.into()), "{sick:#}");
    let last = sick["log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["exit_code"], &last["output"]), (&1.into(), &"looking for /tmp/ok\n".into()), "{last:#}");
    assert!(host.berth(&["service", "ps", "s_web"]).ok().contains("health check failed"));
}
