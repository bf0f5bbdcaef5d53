//! Virtual addresses translated by programs: what only they do. What holds for them and for the packet filter alike is tested
//! in `vip`, `reach`, `publish`, `lifecycle` and `trouble`, by each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use berth_netoverlay::model::{Desired, Mode, Network, SandboxSpec, Service, ServiceBackend, Subnet};
use berth_netoverlay::{Config, Overlay, purge};
use berth_proto::id::ServiceId;

use crate::host::*;

/// What the kernel has as the other end of a connection, whatever the socket is told.
fn remote(namespace: &Path, stream: &TcpStream) -> IpAddr {
    let local = stream.local_addr().unwrap();
    let file = if local.is_ipv4() { "tcp" } else { "tcp6" };
    let table = inside(namespace, || std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap());
    let port = format!(":{:04X}", local.port());
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.len() > 3 && row[1].ends_with(&port)).expect("the connection is listed");
    let digits = row[2].split_once(':').unwrap().0;
    let words = (0..digits.len()).step_by(8).map(|at| u32::from_str_radix(&digits[at..at + 8], 16).unwrap());
    let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_canonical(),
    }
}

/// Whether a task's connections to a virtual address are made by programs.
fn by_programs_now(namespace: &Path, vip: impl Into<SocketAddr>) -> bool {
    let vip = vip.into();
    remote(namespace, &connect(namespace, vip).unwrap().0) != vip.ip()
}

fn six(n: u8, t: u16) -> IpAddr {
    format!("fd00:{n}::{t:x}").parse().unwrap()
}

/// Network 1 with both families, and tasks on it that answer by TCP and UDP.
async fn dual(host: &Host, overlay: &Overlay, tasks: &[u8]) -> Service {
    let mut net: Network = network(1, "six");
    net.subnets.push(Subnet::with_first_gateway("fd00:1::/64".parse().unwrap()).unwrap());
    overlay.set_networks(vec![net]).await.unwrap();
    let mut web = service(1, tasks, &[]);
    web.vips.insert(net_id(1), vec![address(1, 200), six(1, 0x200)]);
    for (backend, t) in web.backends.iter_mut().zip(tasks) {
        let both = vec![address(1, *t), six(1, (*t).into())];
        backend.addresses.insert(net_id(1), both.clone());
        overlay.attach(dual_spec(*t, both)).await.unwrap();
        tcp_server(&host.task(*t), 80, &format!("t{t}"));
        udp_server(&host.task(*t), 80, &format!("t{t}"));
    }
    web
}

fn dual_spec(t: u8, addresses: Vec<IpAddr>) -> SandboxSpec {
    let mut spec = spec(t, &[1]);
    if let Mode::Networks(list) = &mut spec.mode {
        list[0].addresses = addresses;
    }
    spec
}

#[test]
fn a_socket_is_connected_to_a_backend_and_told_the_virtual_address() {
    by_programs("ebpf::a_socket_is_connected_to_a_backend_and_told_the_virtual_address", async |host| {
        let overlay = host.overlay().await;
        let web = dual(&host, &overlay, &[2, 3]).await;
        overlay.set_service(web).await.unwrap();
        let mapped = Ipv4Addr::new(10, 1, 0, 200).to_ipv6_mapped().into();
        for vip in [address(1, 200), six(1, 0x200), mapped] {
            let (stream, greeting) = connect(&host.task(2), (vip, 80)).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), SocketAddr::new(vip, 80), "{greeting}");
            let backends = [address(1, 2), address(1, 3), six(1, 2), six(1, 3)];
            let remote = remote(&host.task(2), &stream);
            assert!(backends.contains(&remote), "{vip} leads to {remote}");
        }
        let (stream, _) = connect(&host.task(2), (address(1, 3), 80)).unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), address(1, 3), "called by its own address it has that one");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn only_tasks_of_the_network_are_translated_for() {
    by_programs("ebpf::only_tasks_of_the_network_are_translated_for", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a"), network(2, "b")]).await.unwrap();
        // The same address is one service's on one network and another's on the other.
        let vip: IpAddr = [10, 99, 0, 1].into();
        for n in [1, 2] {
            let mut service = service(n, &[n + 1], &[]);
            service.vips = [(net_id(n), vec![vip])].into();
            overlay.set_service(service).await.unwrap();
            for t in [n + 1, n + 3] {
                overlay.attach(spec(t, &[n])).await.unwrap();
                tcp_server(&host.task(t), 80, &format!("t{t}"));
            }
        }
        for n in [1u8, 2] {
            for _ in 0..10 {
                let said = ask(&host.task(n + 3), (vip, 80)).unwrap();
                assert_eq!(said, format!("t{} 10.{n}.0.{}", n + 1, n + 3));
            }
            assert!(by_programs_now(&host.task(n + 3), (vip, 80)));
        }
        // Others who use that address have business of their own with it.
        sh("ip addr add 10.99.0.1/32 dev lo");
        tcp_server(node(), 80, "node");
        assert_eq!(ask(node(), (vip, 80)).unwrap(), "node 10.99.0.1");
        inside(host.client(), || sh("ip addr add 10.99.0.1/32 dev lo"));
        tcp_server(host.client(), 80, "client");
        assert_eq!(ask(host.client(), (vip, 80)).unwrap(), "client 10.99.0.1");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn datagrams_stay_with_a_backend_and_answers_come_from_the_virtual_address() {
    by_each_backend("ebpf::datagrams_stay_with_a_backend_and_answers_come_from_the_virtual_address", async |host| {
        let overlay = host.overlay().await;
        let web = dual(&host, &overlay, &[2, 3, 4]).await;
        overlay.set_service(web).await.unwrap();
        let [four, six] = [("0.0.0.0:0", address(1, 200)), ("[::]:0", six(1, 0x200))].map(|(own, vip)| {
            let socket = inside(&host.task(4), || UdpSocket::bind(own).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            (socket, SocketAddr::new(vip, 80))
        });
        let ask = |(socket, vip): &(UdpSocket, SocketAddr)| {
            socket.send_to(b"?", vip).unwrap();
            let mut buffer = [0; 256];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from, *vip, "the answer is the virtual address's");
            String::from_utf8_lossy(&buffer[..len]).split(' ').next().unwrap().to_owned()
        };
        for flow in [&four, &six] {
            let first = ask(flow);
            assert!((0..20).all(|_| ask(flow) == first), "a socket stays with {first}");
        }
        // Called by its own address, a backend answers by that; called by the virtual one, by that.
        for t in [2, 3, 4, 2, 3, 4] {
            four.0.send_to(b"?", (address(1, t), 80)).unwrap();
            assert_eq!(four.0.recv_from(&mut [0; 256]).unwrap().1, SocketAddr::new(address(1, t), 80));
            ask(&four);
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn the_next_datagram_goes_to_another_backend_when_the_first_is_gone() {
    by_programs("ebpf::the_next_datagram_goes_to_another_backend_when_the_first_is_gone", async |host| {
        let overlay = host.overlay().await;
        let web = dual(&host, &overlay, &[2, 3]).await;
        overlay.set_service(web).await.unwrap();
        let socket = inside(&host.task(2), || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        for left in [2u8, 3, 2] {
            for t in [2, 3] {
                overlay.set_ready(task(t), t == left).await.unwrap();
            }
            // At once: nothing has to be forgotten first.
            socket.send_to(b"?", (address(1, 200), 80)).unwrap();
            let mut buffer = [0; 256];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from.ip(), address(1, 200));
            assert!(String::from_utf8_lossy(&buffer[..len]).starts_with(&format!("t{left} ")));
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn without_a_backend_the_call_itself_is_refused() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket};
    by_programs("ebpf::without_a_backend_the_call_itself_is_refused", async |host| {
        let overlay = host.overlay().await;
        let mut web = dual(&host, &overlay, &[2]).await;
        web.backends[0].ready = false;
        overlay.set_service(web).await.unwrap();
        let at_once = |family| socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        let refused = Err(nix::errno::Errno::ECONNREFUSED);
        inside(&host.task(2), || {
            use std::os::fd::AsRawFd;
            let four = at_once(AddressFamily::Inet);
            assert_eq!(connect(four.as_raw_fd(), &SockaddrIn::new(10, 1, 0, 200, 80)), refused);
            let (six, SocketAddr::V6(vip)) = (at_once(AddressFamily::Inet6), SocketAddr::new(six(1, 0x200), 80)) else {
                panic!("an address of IPv6");
            };
            assert_eq!(connect(six.as_raw_fd(), &SockaddrIn6::from(vip)), refused);
        });
        overlay.teardown().await.unwrap();
    });
}

fn wanted(tasks: &[u8]) -> Desired {
    Desired {
        networks: [(net_id(1), network(1, "a"))].into(),
        sandboxes: tasks.iter().map(|t| (task(*t), spec(*t, &[1]).into())).collect(),
        services: [(service_id(1), Arc::new(service(1, tasks, &[])))].into_iter().collect(),
        ..Desired::default()
    }
}

#[test]
fn programs_outlive_the_daemon_and_are_mended_by_the_next() {
    by_programs("ebpf::programs_outlive_the_daemon_and_are_mended_by_the_next", async |host| {
        let vip = (address(1, 200), 80);
        let overlay = host.overlay().await;
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        [2, 3].iter().for_each(|t| tcp_server(&host.task(*t), 80, &format!("t{t}")));
        drop(overlay);
        assert!(by_programs_now(&host.task(2), vip), "nobody is there and it goes on");
        let overlay = host.overlay().await;
        let steps = overlay.apply(wanted(&[2, 3])).await.unwrap().steps;
        assert!(steps.iter().all(|step| step.starts_with("open the name server")), "{steps:?}");
        // The directory of this version is the only one.
        let pins = std::fs::read_dir(host.config().bpf_dir).unwrap().next().unwrap().unwrap().path();
        for pin in ["connect4", "getpeername6", "services", "slots", "tasks", "members"] {
            std::fs::remove_file(pins.join(pin)).unwrap();
            assert!(ask(&host.task(2), vip).is_ok(), "without {pin}");
            let report = overlay.reconcile().await.unwrap();
            assert!(report.is_clean() && !report.steps.is_empty(), "{pin}: {report:?}");
            assert!(by_programs_now(&host.task(2), vip), "mended: {pin}");
            let again = overlay.reconcile().await.unwrap();
            assert!(again.steps.is_empty(), "{pin}: {:?}", again.steps);
        }
        // Another version's.
        sh(&format!("mv {} {}/v0", pins.display(), host.config().bpf_dir.display()));
        assert!(!overlay.reconcile().await.unwrap().steps.is_empty());
        assert!(by_programs_now(&host.task(2), vip) && !host.config().bpf_dir.join("v0").exists());
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_daemon_that_is_told_to_do_without_removes_them() {
    by_programs("ebpf::a_daemon_that_is_told_to_do_without_removes_them", async |host| {
        let vip = (address(1, 200), 80);
        let overlay = host.overlay().await;
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        [2, 3].iter().for_each(|t| tcp_server(&host.task(*t), 80, &format!("t{t}")));
        let (kept, _) = connect(&host.task(2), vip).unwrap();
        drop(overlay);
        let without = Config { service_backend: Some(ServiceBackend::Nft), ..host.config() };
        let overlay = Overlay::open(without).await.unwrap();
        assert!(by_programs_now(&host.task(2), vip), "a start changes nothing");
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        assert!(!by_programs_now(&host.task(2), vip), "the packet filter does it now");
        assert!(!host.config().bpf_dir.join("v1").exists());
        assert!(overlay.reconcile().await.unwrap().steps.is_empty());
        assert_ne!(remote(&host.task(2), &kept), address(1, 200), "and what was connected stays so");
        drop(overlay);
        let overlay = Overlay::open(Config { service_backend: None, ..host.config() }).await.unwrap();
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        assert!(by_programs_now(&host.task(2), vip), "as this kernel allows");
        overlay.teardown().await.unwrap();
        assert!(!host.config().bpf_dir.exists(), "nothing is left");
    });
}

#[test]
fn where_programs_cannot_be_the_packet_filter_does_it_all() {
    by_programs("ebpf::where_programs_cannot_be_the_packet_filter_does_it_all", async |host| {
        let nowhere = Config { bpf_dir: "/proc/nowhere".into(), ..host.config() };
        assert!(Overlay::open(nowhere.clone()).await.is_err(), "asked for, they are not left out without a word");
        let overlay = Overlay::open(Config { service_backend: None, ..nowhere }).await.unwrap();
        let report = overlay.apply(wanted(&[2, 3])).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        tcp_server(&host.task(2), 80, "t2");
        tcp_server(&host.task(3), 80, "t3");
        assert!(!by_programs_now(&host.task(2), (address(1, 200), 80)));
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_change_among_a_thousand_services_is_written_and_listed() {
    by_programs("ebpf::a_change_among_a_thousand_services_is_written_and_listed", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        tcp_server(&host.task(3), 80, "t3");
        let numbered = |n: u16, backends: &[u8]| {
            let mut service = service(1, backends, &[]);
            let [high, low] = n.to_be_bytes();
            service.id = ServiceId::from_random(u128::from(n));
            service.vips = [(net_id(1), vec![[10, 99, high, low].into()])].into();
            service
        };
        let many: Vec<u8> = (3..19).collect();
        overlay.set_services((0..1000).map(|n| numbered(n, &many)).collect()).await.unwrap();
        for round in 0..50u16 {
            let last = if round % 2 == 0 { &[3][..] } else { &many };
            overlay.set_service(numbered(round * 20, last)).await.unwrap();
        }
        let reached = |n: u16| ask(&host.task(2), ([10, 99, n.to_be_bytes()[0], n.to_be_bytes()[1]], 80));
        assert_eq!(reached(0).unwrap(), "t3 10.1.0.2");
        overlay.remove_service(ServiceId::from_random(40)).await.unwrap();
        let report = overlay.reconcile().await.unwrap();
        assert!(report.steps.is_empty(), "listing finds what was written: {:?}", report.steps);
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_gets_at_nothing_of_the_programs() {
    by_programs("ebpf::a_task_gets_at_nothing_of_the_programs", async |host| {
        let vip = (address(1, 200), 80);
        let overlay = host.overlay().await;
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        [2, 3].iter().for_each(|t| tcp_server(&host.task(*t), 80, &format!("t{t}")));
        // Root of user, cgroup and mount namespaces of its own: neither by their names nor by their
        // numbers (bpf(2): programs, maps, links).
        let tries = r#"
            for my $kind (13, 14, 30) {
                my $attributes = pack("Lx60", 1);
                die "object $kind is opened" if syscall(321, $kind, $attributes, 12) >= 0;
                die "object $kind: $!" unless $!{EPERM};
            }"#;
        let pins = host.config().bpf_dir;
        let script = format!("! ls {0} && ! rm -r {0}/v1 && perl -MErrno -e '{tries}'", pins.display());
        sh(&format!("chmod 755 {}", pins.parent().unwrap().display()));
        let attacker =
            "setpriv --reuid 65534 --clear-groups --bounding-set -all unshare --user --map-root-user --cgroup --mount";
        let enter = format!("nsenter --net={}", host.task(2).display());
        std::fs::write(pins.with_file_name("attack"), script).unwrap();
        sh(&format!("{enter} {attacker} sh -ec '. {}'", pins.with_file_name("attack").display()));
        assert!(by_programs_now(&host.task(2), vip), "it goes on");
        // Deep in control groups of its own it is translated for as anywhere; in a network namespace of its own not at all.
        let groups = pins.with_file_name("groups");
        let group = groups.join("berth-test-attacker/deeper");
        // Mounted by somebody who is in a cgroup namespace: otherwise the options of the machine's own mounts would be reset.
        sh(&format!(
            "mkdir {0} && unshare --cgroup mount -t cgroup2 none {0} && mkdir -p {1}",
            groups.display(),
            group.display()
        ));
        let call = "exec 3<>/dev/tcp/10.1.0.200/80 && head -n 1 <&3 && cat /proc/self/net/tcp";
        let said = sh(&format!(
            "bash -c 'echo $$ > {}/cgroup.procs && exec {enter} unshare --cgroup bash -c \"{call}\"'",
            group.display()
        ));
        assert!(said.starts_with('t') && !said.contains("C800010A:0050"), "not the virtual address: {said}");
        let alone = format!("{enter} unshare --net bash -c '! (exec 3<>/dev/tcp/10.1.0.200/80) 2>/dev/null'");
        sh(&alone);
        let gone = || std::fs::remove_dir(&group).and_then(|()| std::fs::remove_dir(group.parent().unwrap())).is_ok();
        wait_for("the control groups to be empty", gone, |gone| *gone);
        sh(&format!("umount {}", groups.display()));
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn two_daemons_on_one_machine_translate_side_by_side() {
    by_programs("ebpf::two_daemons_on_one_machine_translate_side_by_side", async |host| {
        let overlay = host.overlay().await;
        overlay.apply(wanted(&[2, 3])).await.unwrap();
        let mut config = host.config();
        (config.table, config.instance) = ("other".to_owned(), berth_netoverlay::names::Instance::new("oth").unwrap());
        config.netns_dir.set_file_name("other");
        config.bpf_dir.set_file_name("other-bpf");
        let other = Overlay::open(config.clone()).await.unwrap();
        // The same virtual address on a network of the same number: the other daemon's are other tasks.
        let web = Service { vips: [(net_id(2), vec![address(1, 200)])].into(), ..service(2, &[4], &[]) };
        let theirs = Desired {
            sandboxes: [(task(4), spec(4, &[2]).into())].into(),
            networks: [(net_id(2), network(2, "b"))].into(),
            services: [(service_id(2), Arc::new(web))].into_iter().collect(),
            ..Desired::default()
        };
        other.apply(theirs).await.unwrap();
        let four = config.netns_dir.join(task(4).to_string());
        [2, 3].iter().for_each(|t| tcp_server(&host.task(*t), 80, &format!("t{t}")));
        tcp_server(&four, 80, "t4");
        let vip = (address(1, 200), 80);
        assert!(by_programs_now(&host.task(2), vip) && by_programs_now(&four, vip));
        assert_eq!(ask(&four, vip).unwrap(), "t4 10.2.0.4");
        drop(other);
        let purged = purge(&config);
        assert!(purged.failures.is_empty() && purged.programs == [config.bpf_dir.clone()], "{purged:?}");
        assert!(by_programs_now(&host.task(2), vip), "what is left of one is taken away, the other goes on");
        overlay.teardown().await.unwrap();
    });
}
