//! Starting, restarting, dying, ending.

use std::io::{Read, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;

use berth_tunnel::model::Desired;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::hosts::*;

fn field(pid: i32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn gone(pid: i32) -> bool {
    matches!(state(pid), None | Some('Z' | 'X'))
}

#[test]
fn a_process_outlives_its_starter_and_is_taken_over() {
    on_two_hosts("lifecycle::a_process_outlives_its_starter_and_is_taken_over", |a, b| {
        let (_, peer_b) = connect(a, b);
        let [process] = a.processes()[..] else { panic!("{:?}", a.processes()) };
        let starter = std::process::id().to_string();
        assert_ne!(field(process, "PPid"), starter, "it is nobody's child here");
        assert_eq!(field(process, "CapEff"), "0000000000000000", "it has nothing to be robbed of");
        assert_eq!(field(process, "NoNewPrivs"), "1");
        let session = nix::unistd::getsid(Some(Pid::from_raw(process))).unwrap();
        assert_ne!(session, nix::unistd::getsid(None).unwrap());
        // Each pass of these tests opens everything anew, as a daemon that has just started.
        assert_eq!(a.apply(&a.desired(&[peer_b], 1)), [""; 0], "all is as it should be");
        assert_eq!(a.processes(), [process]);
        assert_eq!(deliver(a, b, 1, b"still").0, b"still");
    });
}

#[test]
fn a_process_that_died_or_hangs_is_replaced() {
    on_two_hosts("lifecycle::a_process_that_died_or_hangs_is_replaced", |a, b| {
        let (_, peer_b) = connect(a, b);
        let wanted = a.desired(&[peer_b], 1);
        assert_eq!(deliver(a, b, 1, b"first").0, b"first");
        for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
            let [process] = a.processes()[..] else { panic!("{:?}", a.processes()) };
            kill(Pid::from_raw(process), signal).unwrap();
            wait_for("the signal", || state(process), |state| matches!(state, None | Some('Z' | 'T')));
            let steps = a.apply(&wanted);
            assert!(steps.iter().any(|step| step.starts_with("make tunnel")), "{steps:?}");
            assert!(gone(process));
            // Also from b, which knows nothing of it: the new process has shaken hands with everybody.
            let met =
                || a.observed().devices.into_values().all(|found| found.tunnel.unwrap().peers.values().all(|p| p.met));
            wait_for("a handshake that nobody asked for", met, |met| *met);
            assert_eq!(deliver(a, b, 1, b"forth").0, b"forth");
            assert_eq!(deliver(b, a, 1, b"back").0, b"back");
            assert_eq!(a.apply(&wanted), [""; 0]);
        }
    });
}

#[test]
fn drift_is_mended() {
    on_two_hosts("lifecycle::drift_is_mended", |a, b| {
        let (_, peer_b) = connect(a, b);
        let wanted = a.desired(&[peer_b], 1);
        let (device, own, other) = ("bthw000001", a.inner(1), b.inner(1));
        for damage in [
            format!("ip -n a link set {device} down"),
            format!("ip -n a link set {device} mtu 1300"),
            format!("ip -n a addr del {own}/128 dev {device}"),
            format!("ip -n a addr add fdbe::77/128 dev {device} nodad"),
            format!("ip -n a -6 route del {other}"),
            format!("ip -n a -6 route add fdbe::78/128 dev {device} proto 66"),
            "ip -n a -6 route del unreachable fdbe::/16".to_owned(),
            format!("ip -n a link del {device}"),
        ] {
            sh(&damage);
            let steps = a.apply(&wanted);
            assert!(!steps.is_empty(), "{damage}");
            assert_eq!(a.apply(&wanted), [""; 0], "{damage}: mended by {steps:?}");
            assert_eq!(deliver(a, b, 1, b"mended").0, b"mended", "{damage}");
            assert!(a.carries(1));
        }
    });
}

/// A process that nobody can find any more must not live on.
#[test]
fn a_process_ends_with_its_socket() {
    on_two_hosts("lifecycle::a_process_ends_with_its_socket", |a, b| {
        connect(a, b);
        let [process] = a.processes()[..] else { panic!("{:?}", a.processes()) };
        let socket = a.sockets().join("bthw000001.sock");
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&a.sockets()), 0o700, "only root gets at the sockets");
        std::fs::remove_file(socket).unwrap();
        wait_for("the process", || gone(process), |gone| *gone);
        wait_for("the device", || a.observed().devices.len(), |devices| *devices == 0);
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    on_two_hosts("lifecycle::a_port_that_is_taken_is_named", |a, _| {
        let holder = a.inside(|| std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 51821)).unwrap());
        a.add_key(1);
        let wanted = a.desired(&[], 1);
        let report = a.reconcile(&wanted);
        let [failure] = &report.failures[..] else { panic!("{report:?}") };
        assert_eq!(failure.to_string(), "cannot give tunnel bthw000001 its key and port 51821");
        let why = std::error::Error::source(&failure.source).unwrap().to_string();
        assert!(why.contains("in use"), "{why}");
        drop(holder);
        a.apply(&wanted);
    });
}

/// What a starter is told when there is no device to be had.
#[test]
fn a_process_that_cannot_start_says_why() {
    on_two_hosts("lifecycle::a_process_that_cannot_start_says_why", |a, _| {
        a.add_key(1);
        sh("ip -n a link add bthw000001 type veth peer name other");
        let output = a.inside(|| {
            std::process::Command::new(program())
                .args(["bthw000001", "--directory"])
                .arg(std::env::temp_dir())
                .output()
                .unwrap()
        });
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("/dev/net/tun"), "{said}");
        // A link of another kind under our name is in the way, and goes.
        a.apply(&a.desired(&[], 1));
        a.apply(&Desired::default());
    });
}

#[test]
fn nonsense_on_the_port_harms_nobody() {
    on_two_hosts("lifecycle::nonsense_on_the_port_harms_nobody", |a, b| {
        connect(a, b);
        assert_eq!(deliver(a, b, 1, b"before").0, b"before");
        let stranger = b.socket(std::net::Ipv4Addr::UNSPECIFIED);
        for kind in 0..6 {
            for len in (0..200).chain([1400]) {
                let mut packet = vec![0; len];
                // Types of the protocol, and numbers of sessions that are there.
                packet.iter_mut().take(1).for_each(|byte| *byte = kind);
                packet.iter_mut().skip(5).take(1).for_each(|byte| *byte = 1);
                stranger.send_to(&packet, ("192.0.2.1", 51821)).unwrap();
            }
        }
        assert_eq!(deliver(a, b, 1, b"after").0, b"after");
        assert_eq!(deliver(b, a, 1, b"and back").0, b"and back");
        assert!(a.carries(1));
    });
}

#[test]
fn nonsense_on_the_socket_harms_nobody() {
    on_two_hosts("lifecycle::nonsense_on_the_socket_harms_nobody", |a, b| {
        connect(a, b);
        let ask = |request: &[u8]| {
            let mut stream = std::os::unix::net::UnixStream::connect(a.sockets().join("bthw000001.sock")).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(request).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer
        };
        assert_eq!(ask(b"hello\n\n"), "errno=22\n\n");
        assert_eq!(ask(b"set=1\nfwmark=1\n\n"), "errno=22\n\n");
        assert_eq!(ask(b"\xff\xfe"), "");
        let other = "11".repeat(32);
        assert_eq!(ask(format!("set=1\nprivate_key={other}\nlisten_port=9\n\n").as_bytes()), "errno=16\n\n");
        assert_eq!(deliver(a, b, 1, b"well").0, b"well");
    });
}

/// A daemon that finds WireGuard in the kernel where there was none deletes the link, and knows nothing of processes.
#[test]
fn a_process_ends_with_its_device_even_without_a_key() {
    on_two_hosts("lifecycle::a_process_ends_with_its_device_even_without_a_key", |a, _| {
        a.inside(|| {
            let mut command = std::process::Command::new(program());
            std::fs::create_dir(a.sockets()).unwrap();
            assert!(command.args(["bthw000001", "--directory"]).arg(a.sockets()).status().unwrap().success());
        });
        let [process] = a.processes()[..] else { panic!("{:?}", a.processes()) };
        sh("ip -n a link del bthw000001");
        wait_for("the process", || gone(process), |gone| *gone);
        assert_eq!(a.left(), "", "and its socket went with it");
    });
}
