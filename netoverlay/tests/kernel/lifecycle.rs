//! Restart, drift, removal.

use std::io::{Read, Write};
use std::sync::Arc;

use berth_netoverlay::OverlayError;
use berth_netoverlay::model::{Desired, Proto};
use hickory_proto::rr::RecordType;

use crate::dns::{addresses, ask_name};
use crate::host::*;

fn desired(tasks: &[u8]) -> Desired {
    let web = service(1, tasks, &[port(Proto::Tcp, 8080, 80)]);
    Desired {
        networks: [(net_id(1), network(1, "n"))].into(),
        sandboxes: tasks.iter().map(|t| (task(*t), Arc::new(spec(*t, &[1])))).collect(),
        services: [(web.id, Arc::new(web))].into(),
    }
}

fn links() -> String {
    sh("ip -o link | cut -d: -f2 | cut -d@ -f1 | sort | tr -d '\n'")
}

#[test]
fn a_restart_disturbs_nothing() {
    on_a_host("lifecycle::a_restart_disturbs_nothing", async |host| {
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
    on_a_host("lifecycle::drift_is_mended", async |host| {
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
    on_a_host("lifecycle::what_is_not_desired_goes_away", async |host| {
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
fn two_hundred_rounds_leave_nothing_behind() {
    on_a_host("lifecycle::two_hundred_rounds_leave_nothing_behind", async |host| {
        let before = links();
        let overlay = host.overlay().await;
        overlay.apply(Desired::default()).await.unwrap();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut files = Vec::new();
        for round in 0..200u8 {
            let (n, t) = (round / 20 % 3 + 1, round % 5 + 2);
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
fn attaching_is_idempotent_and_checked() {
    on_a_host("lifecycle::attaching_is_idempotent_and_checked", async |host| {
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
