//! Restart, drift, removal.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use berth_netoverlay::kernel::{Kernel, KernelError, Linux};
use berth_netoverlay::model::{Desired, Proto};
use berth_netoverlay::names::{Instance, LinkName};
use berth_netoverlay::plan::{MAIN_TABLE, Op, Route, SourceRule};
use berth_netoverlay::{Overlay, OverlayError, Purged, purge, unmount_below};
use berth_proto::id::TaskId;
use hickory_proto::rr::RecordType;
use ipnet::IpNet;

use crate::dns::{addresses, ask_name};
use crate::host::*;

fn desired(tasks: &[u8]) -> Desired {
    let web = service(1, tasks, &[port(Proto::Tcp, 8080, 80)]);
    Desired {
        networks: [(net_id(1), network(1, "n"))].into(),
        sandboxes: tasks.iter().map(|t| (task(*t), Arc::new(spec(*t, &[1])))).collect(),
        services: [(web.id, Arc::new(web))].into_iter().collect(),
        nodes: Default::default(),
    }
}

fn links() -> String {
    sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | sort | tr -d '\n'")
}

#[test]
fn a_restart_disturbs_nothing() {
    by_each_backend("lifecycle::a_restart_disturbs_nothing", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(desired(&[2, 3])).await.unwrap();
        for t in [2, 3] {
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        let (mut outside, _) = connect(host.client(), (HOST, 8080)).unwrap();
        let (mut within, _) = connect(&host.task(2), (address(1, 200), 80)).unwrap();
        drop(overlay);
        let mut echo = |text: &[u8; 4]| {
            for stream in [&mut outside, &mut within] {
                stream.write_all(text).unwrap();
                let mut back = [0; 4];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(&back, text);
            }
        };
        echo(b"down");
        assert!(ask(host.client(), (HOST, 8080)).is_ok(), "the data plane needs no daemon");
        let overlay = host.overlay().await;
        // One thing at a time, as an agent that learns them one by one; nothing may go away meanwhile.
        overlay.set_networks(vec![network(1, "n")]).await.unwrap();
        assert!(ask(host.client(), (HOST, 8080)).is_ok(), "before the services are known again");
        overlay.attach(spec(2, &[1])).await.unwrap();
        assert!(ask(host.client(), (HOST, 8080)).is_ok());
        let report = overlay.apply(desired(&[2, 3])).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        let names_only = report.steps.iter().all(|s| s.starts_with("open the name server"));
        assert!(names_only, "a restart finds everything as it should be: {:?}", report.steps);
        echo(b"upup");
        assert_eq!(addresses(&ask_name(&host.task(3), "web", RecordType::A)), [address(1, 200)]);
        assert!(overlay.reconcile().await.unwrap().steps.is_empty());
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn drift_is_mended() {
    by_each_backend("lifecycle::drift_is_mended", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(desired(&[2, 3])).await.unwrap();
        for t in [2, 3] {
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        let bridge = sh("ip -o link show type bridge | cut -d: -f2").trim().to_owned();
        let veth = sh("ip -o link show type veth | grep bthv | head -1 | cut -d: -f2 | cut -d@ -f1").trim().to_owned();
        let damage = [
            "nft flush ruleset".to_owned(),
            "nft flush chain inet berth prerouting".to_owned(),
            "nft delete element inet berth ports4 '{ tcp . 8080 }'".to_owned(),
            format!("ip link set {bridge} down"),
            format!("ip addr flush dev {bridge}"),
            format!("ip link set {veth} nomaster"),
            format!("ip link set {veth} down"),
            format!("ip link del {veth}"),
            format!("ip link del {bridge}"),
            format!("nsenter --net={} ip route del default", host.task(2).display()),
            format!("nsenter --net={} ip addr flush dev eth0", host.task(2).display()),
            format!("nsenter --net={} ip link set eth0 down mtu 1400", host.task(2).display()),
            format!("nsenter --net={} nft flush ruleset", host.task(2).display()),
            "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
        ];
        for damage in damage {
            sh(&damage);
            let report = overlay.reconcile().await.unwrap();
            assert!(report.is_clean() && !report.steps.is_empty(), "{damage}: {report:?}");
            let again = overlay.reconcile().await.unwrap();
            assert!(again.steps.is_empty(), "{damage}: not mended in one pass: {:?}", again.steps);
            for _ in 0..4 {
                assert!(ask(host.client(), (HOST, 8080)).is_ok(), "{damage}: published port");
            }
            assert!(ask(&host.task(2), (address(1, 200), 80)).is_ok(), "{damage}: virtual address");
            assert_eq!(addresses(&ask_name(&host.task(2), "web", RecordType::A)), [address(1, 200)], "{damage}");
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn what_is_not_desired_goes_away() {
    by_each_backend("lifecycle::what_is_not_desired_goes_away", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(desired(&[2, 3, 4])).await.unwrap();
        drop(overlay);
        let overlay = host.overlay().await;
        overlay.apply(desired(&[3])).await.unwrap();
        assert!(!host.task(2).exists() && host.task(3).exists());
        wait_for("task links", || links().matches("bthv").count(), |n| *n == 1);
        overlay.apply(Desired::default()).await.unwrap();
        assert!(!links().contains("bth"), "{}", links());
        overlay.teardown().await.unwrap();
        assert_eq!(sh("nft list tables"), "");
    });
}

#[test]
fn many_rounds_leave_nothing_behind() {
    on_a_host("lifecycle::many_rounds_leave_nothing_behind", async |host| {
        let before = links();
        let overlay = host.overlay().await;
        overlay.apply(Desired::default()).await.unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut files = Vec::new();
        for round in 0..rounds(60) {
            let (n, t) = ((round / 20 % 3 + 1) as u8, (round % 5 + 2) as u8);
            overlay.set_networks(vec![network(n, "n")]).await.unwrap();
            let mut spec = spec(t, &[n]);
            spec.ports = vec![port(Proto::Tcp, 8080, 80)];
            overlay.attach(spec).await.unwrap();
            overlay.set_service(service(n, &[t], &[port(Proto::Udp, 9000, 90)])).await.unwrap();
            overlay.detach(task(t)).await.unwrap();
            overlay.remove_service(service_id(n)).await.unwrap();
            if round % 20 == 19 {
                overlay.set_networks(vec![]).await.unwrap();
            }
            files.push(open());
        }
        wait_for("links", links, |now| *now == before);
        assert!(overlay.reconcile().await.unwrap().steps.is_empty());
        let elements = sh("nft -j list ruleset | grep -c '\"elem\"' || true");
        assert_eq!(elements.trim(), "0", "no element stays");
        wait_for("open files", open, |now| *now <= files[10] + 4);
        let directory = host.config().netns_dir;
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        overlay.teardown().await.unwrap();
        assert_eq!(sh("nft list tables"), "");
        assert!(!directory.exists());
    });
}

#[test]
fn a_network_stays_until_its_last_task_is_gone() {
    by_each_backend("lifecycle::a_network_stays_until_its_last_task_is_gone", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(desired(&[2, 3])).await.unwrap();
        tcp_server(&host.task(3), 80, "three");
        // The managers name a network no longer as soon as its last task is to end, while the task still serves.
        let report = overlay.set_networks(Vec::new()).await.unwrap();
        assert!(report.is_clean() && report.steps.is_empty(), "{report:?}");
        // A task leaves the balancing before it goes.
        overlay.set_ready(task(2), false).await.unwrap();
        overlay.detach(task(2)).await.unwrap();
        assert_eq!(ask(host.client(), (HOST, 8080)).unwrap(), "three 192.0.2.2");
        overlay.detach(task(3)).await.unwrap();
        assert!(!links().contains("bthb"), "the bridge went with its last task: {}", links());
        assert!(overlay.reconcile().await.unwrap().is_clean());
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn taking_away_what_is_gone_already_is_no_failure() {
    by_each_backend("lifecycle::taking_away_what_is_gone_already_is_no_failure", async |host| {
        let config = host.config();
        let overlay = host.overlay().await;
        overlay.apply(desired(&[2])).await.unwrap();
        let kernel = Linux::open(&config).unwrap();
        let address = IpNet::new(address(1, 2), 24).unwrap();
        let removals = |task: TaskId, link: LinkName| {
            let route = Route { table: MAIN_TABLE, via: address.addr(), device: link.clone() };
            [
                Op::RemoveAddress { task, link: link.clone(), address },
                Op::RemoveRoute { task, route },
                Op::RemoveRule { task, rule: SourceRule::ConnectedFirst { v6: false } },
                Op::DeleteTaskLink { task, link },
            ]
        };
        // A link that is gone, then a namespace that is.
        for (t, link) in [(2, LinkName::listed("eth7")), (77, LinkName::inside(0))] {
            kernel.apply(&removals(task(t), link)).unwrap();
        }
        // What is there and refused is still told of, and so is adding to what is not there.
        let route = Route { table: MAIN_TABLE, via: [10, 1, 0, 1].into(), device: LinkName::listed("eth7") };
        assert!(kernel.apply(&[Op::AddRoute { task: task(2), route }]).is_err());
        let loopback = Op::DeleteTaskLink { task: task(2), link: LinkName::listed("lo") };
        let (done, error) = kernel.apply(&[loopback]).unwrap_err();
        assert!(done == 0 && matches!(error, KernelError::Refused { .. }), "{error:?}");
        overlay.teardown().await.unwrap();
    });
}

/// Everything on the host by which a daemon could be recognised.
fn traces(directory: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let parent = directory.parent().unwrap().to_str().unwrap();
    let ours: Vec<&str> = mounts.lines().filter(|line| line.contains(parent)).collect();
    let files: Vec<_> = std::fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    format!("{}\n{}{ours:?}\n{files:?}", links(), sh("nft list tables"))
}

#[test]
fn a_purge_leaves_nothing_behind_and_others_alone() {
    by_each_backend("lifecycle::a_purge_leaves_nothing_behind_and_others_alone", async |host| {
        let mut neighbour = host.config();
        (neighbour.table, neighbour.instance) = ("other".to_owned(), Instance::new("oth").unwrap());
        neighbour.netns_dir.set_file_name("other");
        neighbour.bpf_dir.set_file_name("other-bpf");
        let other = Overlay::open(neighbour).await.unwrap();
        other.set_networks(vec![network(9, "theirs")]).await.unwrap();
        other.attach(spec(90, &[9])).await.unwrap();
        let config = host.config();
        let before = traces(&config.netns_dir);
        assert!(purge(&config).is_empty(), "there is nothing yet");
        for round in 0..20u8 {
            let overlay = host.overlay().await;
            overlay.apply(desired(&[2, 3, 4])).await.unwrap();
            overlay.set_networks(vec![network(1, "n"), network(2, "m")]).await.unwrap();
            overlay.attach(spec(5, &[1, 2])).await.unwrap();
            if round % 2 == 0 {
                // Killed between making the file and binding the namespace to it, and with a mount of somebody in the directory.
                std::fs::write(config.netns_dir.join(task(50).to_string()), "").unwrap();
                let bind = config.netns_dir.join(task(2).to_string());
                sh(&format!("mount --bind {0} {0}", bind.display()));
            }
            drop(overlay);
            let purged = purge(&config);
            assert!(purged.failures.is_empty(), "{purged:?}");
            assert_eq!((purged.links.len(), purged.tables.len()), (7, 1), "{purged:?}");
            assert!(purged.namespaces.len() >= 4 && purged.mounts.contains(&config.netns_dir), "{purged:?}");
            assert_eq!(traces(&config.netns_dir), before);
            assert!(purge(&config).is_empty(), "a second time finds nothing");
        }
        let report = other.reconcile().await.unwrap();
        assert!(report.is_clean() && report.steps.is_empty(), "{report:?}");
        other.teardown().await.unwrap();
    });
}

#[test]
fn mounts_below_a_directory_are_unmounted() {
    on_a_host("lifecycle::mounts_below_a_directory_are_unmounted", async |_| {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("secrets of tasks");
        let beside = tempfile::tempdir().unwrap();
        for path in [&inner, &inner.join("deep"), &beside.path().to_owned()] {
            std::fs::create_dir_all(path).unwrap();
            sh(&format!("mount -t tmpfs none '{}'", path.display()));
            std::fs::create_dir_all(path.join("deep")).unwrap();
        }
        let mut purged = Purged::default();
        unmount_below(directory.path(), &mut purged);
        assert_eq!(purged.mounts, [inner.join("deep"), inner.clone()], "{purged:?}");
        assert!(purged.failures.is_empty());
        unmount_below(directory.path(), &mut purged);
        unmount_below(&directory.path().join("missing"), &mut purged);
        assert_eq!(purged.mounts.len(), 2);
        assert!(beside.path().join("deep").exists(), "a mount beside it stays");
        sh(&format!("umount '{}'", beside.path().display()));
    });
}

#[test]
fn attaching_is_idempotent_and_checked() {
    by_each_backend("lifecycle::attaching_is_idempotent_and_checked", async |host| {
        let overlay = host.overlay().await;
        assert!(matches!(overlay.attach(spec(2, &[1])).await, Err(OverlayError::UnknownNetwork { .. })));
        overlay.set_networks(vec![network(1, "n")]).await.unwrap();
        let first = overlay.attach(spec(2, &[1])).await.unwrap();
        assert_eq!(overlay.attach(spec(2, &[1])).await.unwrap(), first);
        let mut thief = spec(3, &[1]);
        thief.mode = spec(2, &[1]).mode;
        assert!(matches!(overlay.attach(thief).await, Err(OverlayError::AddressTaken { .. })));
        overlay.detach(task(2)).await.unwrap();
        overlay.detach(task(2)).await.unwrap();
        overlay.detach(task(77)).await.unwrap();
        overlay.teardown().await.unwrap();
    });
}
