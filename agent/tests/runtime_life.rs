//! Real containers over time: exec, attach, terminals, logs, restarts of the agent, death of the shim.
#![allow(clippy::unwrap_used)]

mod runtime_support;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use berth_agent::runtime::{ContainerConfig, ExecConfig, LogConfig, Phase, Runtime, RuntimeError, TtySize};
use berth_shim::log::Stream;
use runtime_support::{PATIENCE, World, shell, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn exec(script: &str) -> ExecConfig {
    ExecConfig { args: ["/bin/sh", "-c", script].map(str::to_owned).into(), ..ExecConfig::default() }
}

async fn exec_output(world: &World, id: &str, config: &ExecConfig) -> (Option<i32>, String, String) {
    let mut session = world.runtime.exec(id, config).await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    session.stdout.read_to_string(&mut out).await.unwrap();
    if let Some(stderr) = &mut session.stderr {
        stderr.read_to_string(&mut err).await.unwrap();
    }
    let exit = tokio::time::timeout(PATIENCE, session.control.wait()).await.unwrap().unwrap();
    (exit.code, out, err)
}

/// Process id of the shim: the parent of the container's first process.
fn parent_of(pid: u32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn exec_is_confined_exactly_as_the_container() {
    let world = World::new();
    let config = ContainerConfig {
        cap_drop: vec!["CHOWN".into()],
        rlimits: vec![berth_agent::runtime::Rlimit { name: "nofile".into(), soft: 99, hard: 99 }],
        env: vec!["FROM=container".into()],
        cwd: "/tmp".into(),
        ..shell("echo up; sleep 1000")
    };
    let created = world.start("a", &config).await;
    world.printed("a", "up").await;
    let facts = "for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; \
                 grep -E 'Cap|Seccomp:|NoNewPrivs|SigIgn|SigBlk|Groups' /proc/self/status; cat /proc/self/uid_map; ulimit -n; pwd; echo $FROM";
    let (code, inside, err) = exec_output(&world, "a", &exec(facts)).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts", "user"] {
        let link = std::fs::read_link(format!("/proc/{}/ns/{kind}", created.pid)).unwrap();
        assert!(inside.contains(link.to_str().unwrap()), "{kind} in {inside}");
    }
    let first = std::fs::read_to_string(format!("/proc/{}/status", created.pid)).unwrap();
    for line in first.lines().filter(|line| line.starts_with("Cap") || line.starts_with("Seccomp:")) {
        assert!(inside.contains(line), "{line} in {inside}");
    }
    assert!(inside.contains("Seccomp:\t2") && inside.ends_with("99\n/tmp\ncontainer\n"), "{inside}");
    assert!(!inside.contains("berth-test"), "not in the container's control group: {inside}");

    let outside = shell_pids(&world, "a");
    assert_eq!(outside.len(), 1, "the first process only: the exec has gone without a zombie");
    let (code, out, _) =
        exec_output(&world, "a", &ExecConfig { user: Some("web".into()), ..exec("id -u; id -G; echo $HOME; exit 3") })
            .await;
    assert_eq!((code, out.as_str()), (Some(3), "1000\n1001 29\n/home/web\n"));
    world.runtime.purge("a").await.unwrap();
}

/// Everything in the container's control group.
fn shell_pids(world: &World, id: &str) -> Vec<u32> {
    let hierarchies = berth_shim::cgroup::Hierarchies::detect().unwrap();
    let dir = hierarchies.dir("pids", &format!("{}/{id}", world.options.cgroup_parent)).unwrap();
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[tokio::test]
async fn commands_that_end_at_once_are_all_heard_of() {
    let world = World::new();
    world.start("a", &shell("sleep 1000")).await;
    for _ in 0..25 {
        let configs: Vec<ExecConfig> = (0..8).map(|code| exec(&format!("exit {code}"))).collect();
        let ended = futures::future::join_all(configs.iter().map(|config| exec_output(&world, "a", config))).await;
        let codes: Vec<Option<i32>> = ended.into_iter().map(|(code, _, _)| code).collect();
        assert_eq!(codes, (0..8).map(Some).collect::<Vec<_>>());
    }
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn exec_failures_are_told_apart_and_its_input_is_connected() {
    let world = World::new();
    world.start("a", &shell("sleep 1000")).await;
    let missing = ExecConfig { args: vec!["no-such".into()], ..ExecConfig::default() };
    match world.runtime.exec("a", &missing).await.map(drop) {
        Err(RuntimeError::Command { exit_code: 127, message }) => assert!(message.contains("not found"), "{message}"),
        other => panic!("{other:?}"),
    }
    let mut session = world.runtime.exec("a", &ExecConfig { stdin: true, ..exec("cat; echo end >&2") }).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b"through").await.unwrap();
    drop(stdin);
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "through");
    assert_eq!(session.control.wait().await.unwrap().code, Some(0));

    let escape = ExecConfig { cwd: Some("/proc/self/fd/8".into()), ..exec("pwd") };
    assert!(world.runtime.exec("a", &escape).await.is_err());
    world.runtime.purge("a").await.unwrap();
    assert!(matches!(world.runtime.exec("a", &exec("true")).await.map(drop), Err(RuntimeError::NotFound(_))));
}

#[tokio::test]
async fn dropping_an_exec_kills_it_and_a_signal_reaches_it() {
    let world = World::new();
    world.start("a", &shell("sleep 1000")).await;
    let mut session = world.runtime.exec("a", &exec("sleep 500")).await.unwrap();
    session.control.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(session.control.wait().await.unwrap().signal, Some(libc::SIGTERM));

    let session = world.runtime.exec("a", &exec("sleep 500; true")).await.unwrap();
    wait_for("exec in the group", || match shell_pids(&world, "a").len() {
        count if count >= 2 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    drop(session);
    wait_for("the end of the exec", || match shell_pids(&world, "a").len() {
        1 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn a_detached_exec_runs_on_without_its_client() {
    let mut world = World::new();
    world.start("a", &shell("sleep 1000")).await;
    let script = "while ! test -e /tmp/go; do sleep 0.01; done; seq 1 20000; echo $0 over >> /data/log; sleep 1000";
    let named = |name: &str, tty| {
        let args = ["/bin/sh", "-c", script, name].map(str::to_owned).into();
        ExecConfig { args, tty, detach: true, ..ExecConfig::default() }
    };
    let piped = world.runtime.exec("a", &named("piped", None)).await.unwrap();
    let terminal = Some(TtySize { rows: 11, cols: 22 });
    let terminal = world.runtime.exec("a", &named("terminal", terminal)).await.unwrap();
    drop((piped, terminal));
    world.reopen();
    // Output that nobody reads holds neither of them up.
    assert_eq!(exec_output(&world, "a", &exec("touch /tmp/go")).await.0, Some(0));
    let (mut last, deadline) = (String::new(), Instant::now() + PATIENCE);
    while !(last.contains("piped over") && last.contains("terminal over")) {
        assert!(Instant::now() < deadline, "they are held up: {last}");
        last = exec_output(&world, "a", &exec("cat /data/log; sleep 0.05")).await.1;
    }
    let missing = ExecConfig { args: vec!["no-such".into()], detach: true, ..ExecConfig::default() };
    assert!(world.runtime.exec("a", &missing).await.is_err(), "a command that cannot run is told at once");
    assert!(shell_pids(&world, "a").len() >= 3, "both are still there");
    world.runtime.purge("a").await.unwrap();
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn a_terminal_for_exec_can_be_resized() {
    let world = World::new();
    world.start("a", &shell("sleep 1000")).await;
    let config = ExecConfig {
        tty: Some(TtySize { rows: 11, cols: 22 }),
        ..exec("stty size; read x; stty size; test -t 0 && echo tty")
    };
    let mut session = world.runtime.exec("a", &config).await.unwrap();
    let mut seen = vec![0; 64];
    let size = session.stdout.read(&mut seen).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&seen[..size]), "11 22\r\n");
    session.control.resize(TtySize { rows: 33, cols: 44 }).await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut rest = String::new();
    session.stdout.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("33 44\r\n") && rest.contains("tty"), "{rest:?}");
    assert_eq!(session.control.wait().await.unwrap().code, Some(0));
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn a_container_with_a_terminal_talks_through_attach() {
    let world = World::new();
    let config =
        ContainerConfig { tty: true, stdin_open: true, ..shell("stty size; read line; echo got $line; exit 4") };
    world.create("a", &config).await;
    world.runtime.resize("a", TtySize { rows: 5, cols: 6 }).await.unwrap();
    let mut session = world.runtime.attach("a", true).await.unwrap();
    world.runtime.start("a").await.unwrap();
    session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut out = String::new();
    session.stdout.read_to_string(&mut out).await.unwrap();
    assert!(out.contains("5 6\r\n") && out.contains("got hello\r\n"), "{out:?}");
    assert_eq!(world.wait("a").await.code, Some(4));
    assert!(world.output("a", Stream::Stdout).contains("got hello"));
}

#[tokio::test]
async fn attached_clients_see_both_streams_and_the_end() {
    let world = World::new();
    let config = ContainerConfig { stdin_open: true, ..shell("read x; echo out $x; echo err >&2") };
    world.start("a", &config).await;
    let mut watcher = world.runtime.attach("a", false).await.unwrap();
    let mut typist = world.runtime.attach("a", true).await.unwrap();
    typist.stdin.as_mut().unwrap().write_all(b"word\n").await.unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    watcher.stdout.read_to_string(&mut out).await.unwrap();
    watcher.stderr.as_mut().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("out word\n", "err\n"));
    assert_eq!(world.wait("a").await.code, Some(0));
    let closed = ContainerConfig::new(["/bin/sleep", "1000"]);
    world.start("b", &closed).await;
    assert!(world.runtime.attach("b", true).await.is_err(), "standard input is not open");
    world.runtime.purge("b").await.unwrap();
}

#[tokio::test]
async fn logs_rotate_and_keep_the_newest_lines_whole() {
    let world = World::new();
    let config = ContainerConfig {
        log: LogConfig { disabled: false, max_size: 10_000, max_file: 3 },
        ..shell("for i in $(seq 1 2000); do echo line $i; done; printf unfinished")
    };
    world.start("a", &config).await;
    assert_eq!(world.wait("a").await.code, Some(0));
    let path = world.runtime.log_path("a");
    for (name, there) in [("log", true), ("log.1", true), ("log.2", true), ("log.3", false)] {
        assert_eq!(path.with_file_name(name).exists(), there, "{name}");
    }
    let output = world.output("a", Stream::Stdout);
    assert!(output.ends_with("line 1999\nline 2000\nunfinished\n"), "{output}");
}

#[tokio::test]
async fn a_new_agent_adopts_the_same_process_and_misses_nothing() {
    let mut world = World::new();
    let script = "i=0; while test ! -e /tmp/stop; do i=$((i+1)); echo tick $i; sleep 0.01; done; exit 9";
    let created = world.start("a", &shell(script)).await;
    world.start("b", &shell("exit 2")).await;
    world.wait("b").await;
    world.printed("a", "tick 3").await;
    world.runtime.keep_fd("a", "socket", std::io::stdin().as_fd().try_clone_to_owned().unwrap()).await.unwrap();

    world.reopen();
    let mut states = world.runtime.list().await.unwrap();
    states.sort_by(|one, other| one.id.cmp(&other.id));
    assert_eq!(states[0].pid, Some(created.pid));
    assert_eq!(states[0].phase, Phase::Running);
    assert!(matches!(&states[1].phase, Phase::Exited(exit) if exit.code == Some(2)), "{states:?}");
    world.runtime.take_fd("a", "socket").await.unwrap();
    assert!(world.runtime.take_fd("a", "other").await.is_err());
    let (code, ..) = exec_output(&world, "a", &exec("touch /tmp/stop")).await;
    assert_eq!(code, Some(0));
    assert_eq!(world.wait("a").await.code, Some(9));
    let output = world.output("a", Stream::Stdout);
    let ticks: Vec<u32> = output.lines().map(|line| line.strip_prefix("tick ").unwrap().parse().unwrap()).collect();
    assert!(ticks.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{ticks:?}");
}

#[tokio::test]
async fn a_killed_shim_takes_its_container_along_and_the_code_is_unknown() {
    let world = World::new();
    let created = world.start("a", &shell("sleep 1000 & sleep 1000")).await;
    let waiting = world.runtime.wait("a");
    let shim = rustix::process::Pid::from_raw(parent_of(created.pid)).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    let exit = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!((exit.code, exit.signal), (None, None));
    wait_for("the end of the container", || if alive(created.pid) { Err("alive".into()) } else { Ok(()) }).await;
    assert!(
        matches!(world.runtime.state("a").await.unwrap().unwrap().phase, Phase::Exited(exit) if exit.code.is_none())
    );
    world.runtime.purge("a").await.unwrap();
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn many_at_once_come_and_go_without_getting_in_each_others_way() {
    let world = World::new();
    let rounds = (0..3).map(|lane| {
        let world = &world;
        async move {
            for round in 0..4 {
                let (exit, out, _) = world.run(&format!("t{lane}-{round}"), &shell("umask; exit 3")).await;
                assert_eq!((exit.code, out.as_str()), (Some(3), "0022\n"));
            }
        }
    });
    futures::future::join_all(rounds).await;
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn a_client_that_goes_takes_no_other_along() {
    let world = World::new();
    let config = ContainerConfig { stdin_open: true, ..shell("while read x; do echo got $x; done") };
    world.start("a", &config).await;
    let first = world.runtime.attach("a", false).await.unwrap();
    let mut second = world.runtime.attach("a", true).await.unwrap();
    drop(first);
    let mut stdin = second.stdin.take().unwrap();
    let mut buffer = [0; 64];
    for word in ["one\n", "two\n", "three\n"] {
        stdin.write_all(word.as_bytes()).await.unwrap();
        let read = tokio::time::timeout(PATIENCE, second.stdout.read(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&buffer[..read]), format!("got {word}"));
    }
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn delete_ends_a_running_container_and_may_be_repeated() {
    let world = World::new();
    let created = world.start("a", &shell("trap '' TERM; sleep 1000")).await;
    world.runtime.delete("a").await.unwrap();
    world.runtime.delete("a").await.unwrap();
    assert!(!alive(created.pid));
    let never_started = world.create("b", &shell("true")).await;
    world.runtime.purge("b").await.unwrap();
    assert!(!alive(never_started.pid));
    world.runtime.purge("nobody").await.unwrap();
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn stats_count_and_the_idle_shim_is_small() {
    let world = World::new();
    let mut config = shell("echo up; sleep 1000");
    config.resources.memory = Some(64 << 20);
    config.resources.pids_limit = Some(20);
    let created = world.start("a", &config).await;
    world.printed("a", "up").await;
    let stats = world.runtime.stats("a").await.unwrap();
    assert_eq!((stats.memory_limit, stats.pids_limit, stats.pids), (Some(64 << 20), Some(20), 1));
    assert!(stats.cpu_ns > 0, "{stats:?}");
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", parent_of(created.pid))).unwrap();
    // Private_Dirty counts the binary's own pages too where it lies on a tmpfs.
    let dirty: u64 = rollup
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap();
    assert!(dirty <= 700, "{rollup}");
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn zombies_of_the_container_are_reaped_with_it() {
    let world = World::new();
    let created = world.start("a", &shell("sleep 0 & sleep 0 & echo up; sleep 1000")).await;
    world.printed("a", "up").await;
    let shim = parent_of(created.pid);
    for _ in 0..5 {
        let missing = ExecConfig { args: vec!["no-such".into()], ..ExecConfig::default() };
        assert!(world.runtime.exec("a", &missing).await.is_err());
    }
    let children = || std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    wait_for("a single child of the shim", || {
        let children = children();
        if children.split_whitespace().count() == 1 { Ok(()) } else { Err(children) }
    })
    .await;
    tokio::time::timeout(Duration::from_secs(20), world.runtime.purge("a")).await.unwrap().unwrap();
}
