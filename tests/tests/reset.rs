//! `berth reset` leaves the machine as it was.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use berth_tests::image::hello;
use berth_tests::{Host, wait_for};

const STACK: &str = "services:
  web:
    image: berth/hello:1
    ports: [\"8080:80\"]
    volumes: [\"data:/data\"]
    secrets: [word]
    deploy: { replicas: 2 }
  restless:
    image: berth/hello:1
    command: [\"sh\", \"-c\", \"trap '' TERM; while true; do sleep 1; done\"]
volumes: { data: {} }
secrets: { word: { environment: HOME } }
";

/// The control groups, in every hierarchy, that a process's groups are in.
fn parents(pid: i32) -> Vec<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|path| path.contains("/berth-"));
    let parent = own.and_then(|path| Path::new(path).parent()).expect("the task has control groups of its own");
    let parent = parent.strip_prefix("/").unwrap();
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path().join(parent));
    hierarchies.chain([Path::new("/sys/fs/cgroup").join(parent)]).filter(|dir| dir.exists()).collect()
}

/// Command lines of processes that speak of the directory.
fn processes_of(dir: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(dir) && !line.contains("nsenter")).collect()
}

#[test]
fn a_reset_ends_and_removes_everything_of_a_daemon_that_does_not_run() {
    let mut host = Host::start("reset");
    host.load(&hello());
    host.apply("s", STACK);
    let task = host.wait_running("s_web", 2).remove(0);
    let pid = host.pid(&task);
    let groups = parents(pid);
    assert!(!groups.is_empty());
    let data = host.data_dir();
    let data = data.to_str().unwrap();

    let said = host.berth(&["reset", "--force", "--data-dir", data]).fails(1);
    assert!(said.contains(&host.daemon_pid().to_string()) && said.contains("stop it first"), "{said}");
    host.wait_running("s_web", 2);

    host.kill_daemon();
    assert!(!processes_of(data).is_empty(), "containers outlive the daemon");
    let told = host.berth(&["reset", "--force", "--data-dir", data]).ok();
    for part in ["removed 3 containers", "packet filter table", "network link", "mount", data] {
        assert!(told.contains(part), "{part:?} is missing in: {told}");
    }
    wait_for("every process to be gone", || {
        let left = processes_of(data);
        if left.is_empty() && !Path::new(&format!("/proc/{pid}")).exists() { Ok(()) } else { Err(left) }
    });
    assert_eq!(host.run("nft", &["list", "tables"]).ok(), "");
    let links = host.run("ip", &["-o", "link"]).ok();
    assert!(!links.contains("bridge") && !links.contains("veth") && !links.contains("bth"), "{links}");
    // A daemon of this machine, which the host's mounts are a copy of, is none of the test's business.
    let outside = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = host.run("cat", &["/proc/self/mounts"]).ok();
    let own = |line: &str| line.contains("/run/berth-") && !outside.contains(line);
    assert!(!mounts.contains(data) && !mounts.lines().any(own), "{mounts}");
    for group in groups {
        assert!(!group.exists(), "{} is still there", group.display());
    }
    assert!(!Path::new(data).exists(), "{:?}", fs::read_dir(data).map(Iterator::count));

    let again = host.berth(&["reset", "--force", "--data-dir", data]);
    assert_eq!(again.code, 0, "a second time finds nothing: {again:?}");
    host.start_daemon();
    assert_eq!(host.berth(&["service", "ls", "-q"]).ok(), "");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1 }\n");
}
