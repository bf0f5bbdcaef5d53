//! Real containers: what a process finds when it starts, and how its end is told.
#![allow(clippy::unwrap_used)]

mod runtime_support;

use berth_agent::runtime::{
    ContainerConfig, Layers, Mount, NetworkMode, Phase, Resources, Rlimit, Runtime, RuntimeError, SeccompProfile,
};
use berth_shim::log::Stream;
use runtime_support::{World, shell};

#[tokio::test]
async fn output_and_exit_code_arrive_and_nothing_is_left() {
    let world = World::new();
    let (exit, out, err) = world.run("a", &shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (Some(7), None, false));
    assert_eq!((out.as_str(), err.as_str()), ("out\n", "err\n"));
    assert_eq!(world.runtime.state("a").await.unwrap(), None);
    assert_eq!(world.runtime.list().await.unwrap(), []);
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn created_waits_for_start_and_states_follow() {
    let world = World::new();
    let created = world.create("a", &shell("echo ran; sleep 100")).await;
    let state = world.runtime.state("a").await.unwrap().unwrap();
    assert_eq!((state.pid, state.phase), (Some(created.pid), Phase::Created));
    assert_eq!(world.output("a", Stream::Stdout), "");
    world.runtime.start("a").await.unwrap();
    assert_eq!(world.runtime.state("a").await.unwrap().unwrap().phase, Phase::Running);
    world.printed("a", "ran").await;
    let again = world.runtime.create("a", &shell("true"), &world.layers).await;
    assert!(matches!(again, Err(RuntimeError::Exists(_))), "{again:?}");
    world.runtime.signal("a", libc::SIGKILL).await.unwrap();
    let exit = world.wait("a").await;
    assert_eq!((exit.code, exit.signal), (Some(137), Some(9)));
    assert!(matches!(world.runtime.state("a").await.unwrap().unwrap().phase, Phase::Exited(_)));
    world.runtime.signal("a", libc::SIGTERM).await.unwrap();
    world.runtime.delete("a").await.unwrap();
    assert_eq!(world.runtime.state("a").await.unwrap(), None);
    assert_eq!(world.output("a", Stream::Stdout), "ran\n", "logs outlive delete");
    assert_eq!(world.wait("a").await.code, Some(137), "so does the record");
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn commands_that_cannot_run_are_told_apart() {
    let world = World::new();
    for (command, code, words) in [
        ("no-such-thing", 127, "exec: \"no-such-thing\": executable file not found in $PATH"),
        ("/no/such/thing", 127, "no such file or directory"),
        ("/bin/not-executable", 126, "permission denied"),
        ("/etc", 126, "is a directory"),
        ("/bin/wrong-format", 126, "exec format error"),
        ("/bin/no-interpreter", 127, "no such file or directory"),
    ] {
        for init in [false, true] {
            let config = ContainerConfig { init, ..ContainerConfig::new([command]) };
            let mut result = world.runtime.create("a", &config, &world.layers).await.map(drop);
            if result.is_ok() {
                result = world.runtime.start("a").await;
            }
            match result {
                Err(RuntimeError::Command { message, exit_code }) => {
                    assert!(message.contains(words), "{message}");
                    assert_eq!(exit_code, code, "{command}");
                }
                // With an init in front only execve itself finds out.
                Ok(()) if init => assert_eq!(world.wait("a").await.code, Some(code), "{command}"),
                other => panic!("{command}: {other:?}"),
            }
            world.runtime.purge("a").await.unwrap();
        }
    }
    assert_eq!(world.cgroups(), [""; 0].map(std::path::PathBuf::from));
}

#[tokio::test]
async fn the_process_has_the_rights_it_was_given_and_no_more() {
    let world = World::new();
    let pattern = "CapEff|CapBnd|CapPrm|CapInh|CapAmb|Seccomp:|NoNewPrivs|SigIgn|SigBlk";
    let status = || ContainerConfig::new(["grep", "-E", pattern, "/proc/self/status"]);
    let (_, out, _) = world.run("a", &status()).await;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t0",
        "SigBlk:\t0000000000000000",
        "SigIgn:\t0000000000000000",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let config = ContainerConfig {
        cap_drop: vec!["ALL".into()],
        cap_add: vec!["NET_BIND_SERVICE".into()],
        no_new_privileges: true,
        seccomp: SeccompProfile::Unconfined,
        ..status()
    };
    let (_, out, _) = world.run("b", &config).await;
    for line in ["CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "Seccomp:\t0", "NoNewPrivs:\t1"] {
        assert!(out.contains(line), "{line} in {out}");
    }
    let config = ContainerConfig { user: "web".into(), no_new_privileges: true, ..status() };
    let (_, out, _) = world.run("c", &config).await;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb", "Seccomp:\t2", "NoNewPrivs:\t1"] {
        assert!(out.contains(line), "{line} in {out}");
    }
}

#[tokio::test]
async fn the_default_filter_refuses_and_a_custom_one_is_obeyed() {
    let world = World::new();
    let admin = ContainerConfig { cap_add: vec!["SYS_ADMIN".into()], ..shell("mount -t tmpfs x /tmp && echo mounted") };
    assert_eq!(world.run("a", &admin).await.1, "mounted\n");
    let plain = shell("mount -t tmpfs x /tmp; echo $?");
    assert_ne!(world.run("b", &plain).await.1, "0\n");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    let custom = ContainerConfig { seccomp: SeccompProfile::Custom(profile.into()), ..shell("mkdir /tmp/x") };
    let (exit, _, err) = world.run("c", &custom).await;
    assert_ne!(exit.code, Some(0));
    assert!(err.contains("No space left"), "{err}");
}

#[tokio::test]
async fn no_descriptor_of_ours_leaks() {
    let world = World::new();
    let (_, out, _) = world.run("a", &shell("cd /proc/self/fd; echo *; readlink 0")).await;
    // The shell's own directory handle comes and goes within the glob.
    let open: Vec<&str> =
        out.lines().next().unwrap().split(' ').filter(|fd| !["0", "1", "2", "3"].contains(fd)).collect();
    assert_eq!(open, [""; 0], "{out}");
    assert!(out.contains("/dev/null"), "{out}");
}

#[tokio::test]
async fn user_groups_home_and_working_directory() {
    let world = World::new();
    let who = "id -u; id -g; id -G; pwd; echo $HOME";
    let config = ContainerConfig { user: "web".into(), cwd: "/made/for/it".into(), ..shell(who) };
    assert_eq!(world.run("a", &config).await.1, "1000\n1001\n1001 29\n/made/for/it\n/home/web\n");
    let config = ContainerConfig { user: "1234:disk".into(), group_add: vec!["audio".into()], ..shell(who) };
    assert_eq!(world.run("b", &config).await.1, "1234\n6\n6 29\n/\n/\n");
    let ghost = ContainerConfig { user: "ghost".into(), ..shell("true") };
    let error = world.runtime.create("c", &ghost, &world.layers).await.unwrap_err();
    assert!(error.to_string().contains("unable to find user ghost"), "{error}");
}

#[tokio::test]
async fn a_hostile_passwd_link_stays_inside() {
    let world = World::new();
    let evil = world.dir.path().join("evil");
    std::fs::create_dir_all(evil.join("etc")).unwrap();
    std::os::unix::fs::symlink("/../../../../../../etc/passwd", evil.join("etc/passwd")).unwrap();
    let layers = Layers { lower: vec![evil, world.layers.lower[0].clone()] };
    let config = ContainerConfig { user: "daemon".into(), ..shell("true") };
    let error = world.runtime.create("a", &config, &layers).await.unwrap_err();
    // The link resolves to itself inside the image: an error either way, never the host's file.
    assert!(matches!(error, RuntimeError::Failed { .. }), "{error}");
}

#[tokio::test]
async fn environment_hostname_and_etc_files() {
    let world = World::new();
    let config = ContainerConfig {
        env: vec!["A=1".into(), "B=two words".into(), "A=3".into()],
        hostname: "box".into(),
        hosts: vec![berth_agent::runtime::HostEntry { ip: "10.9.8.7".parse().unwrap(), names: vec!["db".into()] }],
        ..shell("echo $A $B; hostname; cat /etc/hostname; grep db /etc/hosts; echo $PATH")
    };
    let (_, out, _) = world.run("a", &config).await;
    assert_eq!(
        out,
        "3 two words\nbox\nbox\n10.9.8.7\tdb\n/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
}

#[tokio::test]
async fn read_only_root_tmpfs_and_binds() {
    let world = World::new();
    let source = world.dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "host\n").unwrap();
    let read_only = Mount::Bind {
        source: source.clone(),
        target: "/ro".into(),
        read_only: true,
        propagation: Default::default(),
        recursive: true,
        copy_up: false,
    };
    let config = ContainerConfig {
        read_only: true,
        mounts: vec![
            Mount::Tmpfs { target: "/scratch".into(), size: Some(1 << 20), mode: Some(0o700), options: vec![] },
            Mount::bind(&source, "/rw/below"),
            read_only,
        ],
        ..shell(
            "touch /x 2>&1; touch /scratch/x && echo scratch; stat -c %a /scratch; cat /rw/below/f; echo new > /rw/below/g; \
             touch /ro/x 2>&1; dd if=/dev/zero of=/scratch/big bs=1M count=2 2>/dev/null || echo full",
        )
    };
    let (_, out, _) = world.run("a", &config).await;
    assert_eq!(
        out,
        "touch: /x: Read-only file system\nscratch\n700\nhost\ntouch: /ro/x: Read-only file system\nfull\n"
    );
    assert_eq!(std::fs::read_to_string(source.join("g")).unwrap(), "new\n");
    assert!(!world.layers.lower[0].join("rw").exists(), "the image layer is never written");
}

#[tokio::test]
async fn a_new_volume_takes_over_what_the_image_has_once() {
    let world = World::new();
    let volume = world.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mount = Mount::Bind {
        source: volume.clone(),
        target: "/data".into(),
        read_only: false,
        propagation: Default::default(),
        recursive: true,
        copy_up: true,
    };
    let config = ContainerConfig { mounts: vec![mount], ..shell("cat /data/*; echo mine > /data/from-image") };
    assert_eq!(world.run("a", &config).await.1, "image\n");
    assert_eq!(world.run("b", &config).await.1, "mine\n", "a volume that is not empty is left alone");
}

#[tokio::test]
async fn every_limit_reaches_the_kernel() {
    let world = World::new();
    let mut config = shell("sleep 1000");
    config.resources = Resources {
        memory: Some(64 << 20),
        memory_reservation: Some(32 << 20),
        memory_swap: Some(64 << 20),
        nano_cpus: Some(500_000_000),
        cpu_shares: Some(2048),
        cpuset_cpus: Some("0".into()),
        pids_limit: Some(50),
        ..Resources::default()
    };
    let created = world.start("a", &config).await;
    assert_eq!(created.warnings, [""; 0]);
    let v1 = [
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("memory", "memory.memsw.limit_in_bytes", "67108864"),
        ("memory", "memory.soft_limit_in_bytes", "33554432"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.shares", "2048"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "50"),
    ];
    let v2 = [
        ("memory", "memory.max", "67108864"),
        ("memory", "memory.swap.max", "0"),
        ("memory", "memory.low", "33554432"),
        ("cpu", "cpu.max", "50000 100000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "50"),
    ];
    let hierarchies = berth_shim::cgroup::Hierarchies::detect().unwrap();
    let read = |controller: &str, file: &str| {
        let dir = hierarchies.dir(controller, &format!("{}/a", world.options.cgroup_parent)).unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("cgroup.procs")).unwrap(), format!("{}\n", created.pid));
        std::fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
    };
    let unified = hierarchies.unified.is_some();
    for (controller, file, value) in if unified { &v2[..] } else { &v1[..] } {
        assert_eq!(read(controller, file), *value, "{file}");
    }
    if unified {
        let weight: u64 = read("cpu", "cpu.weight").parse().unwrap();
        assert!(weight > 0 && weight != 100, "{weight}: twice the normal shares are not the default weight");
    }
    world.runtime.purge("a").await.unwrap();
}

#[tokio::test]
async fn limits_of_memory_pids_and_files() {
    let world = World::new();
    let mut config = shell("exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    config.resources.memory = Some(32 << 20);
    config.resources.memory_swap = Some(32 << 20);
    let (exit, out, _) = world.run("oom", &config).await;
    assert!(exit.oom_killed, "{exit:?} {out}");
    assert_ne!(exit.code, Some(0));

    let mut config = shell("for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo never");
    config.resources.pids_limit = Some(4);
    let (exit, out, err) = world.run("pids", &config).await;
    assert_ne!(exit.code, Some(0));
    assert!(out.is_empty() && err.contains("fork"), "{out} {err}");

    let config = ContainerConfig {
        rlimits: vec![Rlimit { name: "nofile".into(), soft: 50, hard: 60 }],
        ..shell("ulimit -n; ulimit -Hn")
    };
    assert_eq!(world.run("files", &config).await.1, "50\n60\n");
}

#[tokio::test]
async fn a_container_sees_its_limits_and_cannot_lift_them() {
    let world = World::new();
    let script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                  cat /proc/self/cgroup | grep -c berth; \
                  for f in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do \
                  (echo 999999999 > $f) 2>/dev/null && echo lifted; done; touch /sys/fs/cgroup/x 2>/dev/null && echo made; true";
    let mut config = shell(script);
    config.resources.memory = Some(64 << 20);
    let (_, out, _) = world.run("a", &config).await;
    assert_eq!(out, "67108864\n0\n");
}

#[tokio::test]
async fn devices_cannot_be_made_or_used_but_those_given() {
    let world = World::new();
    // Anybody may write to kmsg, and a disk that is not there says so: only the group's filter refuses all six.
    let script = "mknod /tmp/kmsg c 1 11; mknod /tmp/mem c 1 1; mknod /tmp/disk b 7 200; \
                  for name in kmsg mem disk; do (: < /tmp/$name) 2>&1; (echo x >> /tmp/$name) 2>&1; done; \
                  echo x > /dev/null && echo null-works; head -c 4 /dev/urandom | wc -c; ls /dev/kmsg 2>&1";
    let (_, out, err) = world.run("a", &shell(script)).await;
    assert_eq!((out.matches("Operation not permitted").count(), err.as_str()), (6, ""), "{out}");
    assert!(out.contains("null-works") && out.contains("\n4\n"), "{out}");
    assert!(out.contains("/dev/kmsg: No such file"), "{out}");

    let device = berth_agent::runtime::Device {
        host_path: "/dev/kmsg".into(),
        container_path: "/dev/mine".into(),
        permissions: "r".into(),
    };
    let config = ContainerConfig {
        devices: vec![device],
        cap_add: vec!["SYSLOG".into()],
        ..shell("(echo x > /dev/mine) 2>&1; dd if=/dev/mine bs=8192 count=1 2>&1 >/dev/null && echo read")
    };
    let (_, out, _) = world.run("b", &config).await;
    assert!(out.contains("Operation not permitted") && out.contains("read\n"), "{out}");
}

#[tokio::test]
async fn sysctls_and_shm_size() {
    let world = World::new();
    let config = ContainerConfig {
        sysctls: [("net.core.somaxconn".to_owned(), "77".to_owned())].into(),
        shm_size: Some(1 << 20),
        ..shell(
            "cat /proc/sys/net/core/somaxconn; df -k /dev/shm | tail -1 | awk '{print $2}'; (echo 1 > /proc/sys/net/core/somaxconn) 2>/dev/null || echo ro",
        )
    };
    assert_eq!(world.run("a", &config).await.1, "77\n1024\nro\n");
}

#[tokio::test]
async fn orphans_are_reaped_by_the_init_and_signals_reach_the_command() {
    let world = World::new();
    let script =
        "trap 'echo got-term; exit 5' TERM; (sleep 0.01 & exit) ; echo pid $$; while true; do sleep 0.05; done";
    let config = ContainerConfig { init: true, ..shell(script) };
    world.start("a", &config).await;
    world.printed("a", "pid").await;
    assert!(!world.output("a", Stream::Stdout).contains("pid 1\n"));
    world.runtime.signal("a", libc::SIGTERM).await.unwrap();
    assert_eq!(world.wait("a").await.code, Some(5));
    assert!(world.output("a", Stream::Stdout).contains("got-term"));
}

#[tokio::test]
async fn many_layers_and_awkward_paths_mount() {
    let world = World::new();
    let mut lower = Vec::new();
    for number in 0..60 {
        let name = format!("layer with: awkward, name \\ and a digest {number:064}");
        let layer = world.dir.path().join(name);
        std::fs::create_dir_all(layer.join("many")).unwrap();
        std::fs::write(layer.join(format!("many/{number}")), "").unwrap();
        lower.push(layer);
    }
    lower.extend(world.layers.lower.clone());
    let layers = Layers { lower };
    world.runtime.create("a", &shell("ls /many | wc -l"), &layers).await.unwrap();
    world.runtime.start("a").await.unwrap();
    world.wait("a").await;
    assert_eq!(world.output("a", Stream::Stdout), "60\n");
}

#[tokio::test]
async fn a_privileged_container_may_do_what_the_daemon_may() {
    let world = World::new();
    let script = "mount -t tmpfs x /tmp && echo mounted; ls -d /dev/kmsg; grep Seccomp: /proc/self/status; \
                  (echo 1 > /proc/sys/net/ipv4/ip_forward) && echo written";
    let config = ContainerConfig { privileged: true, ..shell(script) };
    let (exit, out, err) = world.run("a", &config).await;
    assert_eq!((exit.code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(out, "mounted\n/dev/kmsg\nSeccomp:\t0\nwritten\n");
}

#[tokio::test]
async fn namespaces_can_be_the_hosts_or_a_prepared_one() {
    let world = World::new();
    let link = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    let look = || shell("for n in net ipc pid; do readlink /proc/self/ns/$n; done");
    let config = ContainerConfig { network: NetworkMode::Host, host_ipc: true, host_pid: true, ..look() };
    let (_, out, _) = world.run("host", &config).await;
    assert_eq!(out, format!("{}\n{}\n{}\n", link("net"), link("ipc"), link("pid")));
    let own = world.run("own", &look()).await.1;
    assert!(!own.contains(&link("net")) && !own.contains(&link("ipc")) && !own.contains(&link("pid")), "{own}");

    let holder = world.start("holder", &shell("sleep 1000")).await;
    let path = format!("/proc/{}/ns/net", holder.pid);
    let prepared = std::fs::read_link(&path).unwrap().display().to_string();
    let config = ContainerConfig { network: NetworkMode::Path(path.into()), ..look() };
    assert!(world.run("joined", &config).await.1.contains(&prepared));
    let missing = ContainerConfig { network: NetworkMode::Path("/run/netns/no-such".into()), ..look() };
    let error = world.runtime.create("lost", &missing, &world.layers).await.unwrap_err();
    assert!(error.to_string().contains("/run/netns/no-such"), "{error}");
    world.runtime.purge("holder").await.unwrap();
}

#[tokio::test]
async fn a_process_of_a_host_pid_container_does_not_stay_behind() {
    let world = World::new();
    let config = ContainerConfig { host_pid: true, ..shell("sleep 1234 & echo $!; exit 0") };
    let (exit, out, _) = world.run("a", &config).await;
    assert_eq!(exit.code, Some(0));
    assert!(!std::path::Path::new("/proc").join(out.trim()).exists(), "{out}");
}

#[tokio::test]
async fn what_is_missing_on_the_host_is_named_and_leaves_nothing() {
    let world = World::new();
    let config = ContainerConfig { mounts: vec![Mount::bind("/no/such/source", "/x")], ..shell("true") };
    let error = world.runtime.create("a", &config, &world.layers).await.unwrap_err();
    assert!(error.to_string().contains("bind source path does not exist: /no/such/source"), "{error}");
    let layers = Layers { lower: vec!["/no/such/layer".into()] };
    let error = world.runtime.create("b", &shell("true"), &layers).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Failed { .. }), "{error}");
    assert_eq!(world.runtime.list().await.unwrap(), []);
}
