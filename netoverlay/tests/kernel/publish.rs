//! Published ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use berth_netoverlay::OverlayError;
use berth_netoverlay::model::{Mode, Proto};

use crate::host::*;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long one datagram is waited for where others follow.
const ONE_TRY: std::time::Duration = std::time::Duration::from_millis(300);

#[test]
fn clients_everywhere_reach_a_published_port() {
    on_a_host("publish::clients_everywhere_reach_a_published_port", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a"), network(2, "b")]).await.unwrap();
        for (t, n) in [(2, 1), (3, 1), (4, 2)] {
            overlay.attach(spec(t, &[n])).await.unwrap();
            tcp_server(&host.task(t), 80, "web");
        }
        let report = overlay.set_service(service(1, &[2, 3], &[port(Proto::Tcp, 8080, 80)])).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(ask(host.client(), (HOST, 8080)).unwrap(), "web 192.0.2.2", "the client's address is kept");
        assert!(ask(node(), (LOCALHOST, 8080)).unwrap().starts_with("web "), "127.0.0.1");
        assert!(ask(node(), (HOST, 8080)).unwrap().starts_with("web "), "the node's own address");
        for _ in 0..8 {
            assert!(ask(&host.task(2), (HOST, 8080)).unwrap().starts_with("web "), "hairpin, sometimes to itself");
        }
        assert!(ask(&host.task(4), (HOST, 8080)).unwrap().starts_with("web "), "from another network");
        assert!(is_refused(node(), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8080))), "::1 has no backend");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn tasks_do_not_reach_the_nodes_loopback() {
    on_a_host("publish::tasks_do_not_reach_the_nodes_loopback", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        let secret = inside(host.task(2).as_path(), || TcpListener::bind("127.0.0.1:0").unwrap());
        drop(secret);
        let _server = TcpListener::bind("127.0.0.1:9000").unwrap();
        // A task that may change its routes sends to 127.0.0.1 by the bridge.
        inside(&host.task(2), || {
            sh("echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet && ip addr del 127.0.0.1/8 dev lo \
                && ip route add 127.0.0.1 via 10.1.0.1 dev eth0 src 10.1.0.2")
        });
        assert!(is_dropped(&host.task(2), (LOCALHOST, 9000)));
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn without_a_ready_backend_connections_are_refused_at_once() {
    by_each_backend("publish::without_a_ready_backend_connections_are_refused_at_once", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        overlay.attach(spec(3, &[1])).await.unwrap();
        tcp_server(&host.task(2), 80, "web");
        let ports = [port(Proto::Tcp, 8080, 80), port(Proto::Udp, 8080, 80)];
        overlay.set_service(service(1, &[2], &ports)).await.unwrap();
        let (mut kept, _) = connect(host.client(), (HOST, 8080)).unwrap();
        overlay.set_ready(task(2), false).await.unwrap();
        assert!(is_refused(host.client(), (HOST, 8080)), "from outside");
        assert!(is_refused(node(), (LOCALHOST, 8080)), "from the node");
        assert!(is_refused(&host.task(3), (HOST, 8080)), "from a task");
        assert!(is_refused(&host.task(3), (address(1, 200), 80)), "the virtual address");
        let udp = inside(host.client(), || UdpSocket::bind("0.0.0.0:0").unwrap());
        let error = ask_udp(&udp, (HOST, 8080)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "UDP");
        // What was established before stays.
        use std::io::{Read, Write};
        kept.write_all(b"still").unwrap();
        let mut echo = [0; 5];
        kept.read_exact(&mut echo).unwrap();
        overlay.set_ready(task(2), true).await.unwrap();
        assert_eq!(ask(host.client(), (HOST, 8080)).unwrap(), "web 192.0.2.2");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn udp_clients_move_on_when_their_backend_goes() {
    by_each_backend("publish::udp_clients_move_on_when_their_backend_goes", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        for t in [2, 3, 4] {
            overlay.attach(spec(t, &[1])).await.unwrap();
            udp_server(&host.task(t), 53, &format!("t{t}"));
        }
        overlay.set_service(service(1, &[2, 3], &[port(Proto::Udp, 5300, 53)])).await.unwrap();
        let outside = inside(host.client(), || UdpSocket::bind("0.0.0.0:0").unwrap());
        let task4 = inside(&host.task(4), || UdpSocket::bind("0.0.0.0:0").unwrap());
        let by_port = ask_udp(&outside, (HOST, 5300)).unwrap();
        assert!(by_port.ends_with(" 192.0.2.2"), "{by_port}");
        ask_udp(&task4, (address(1, 200), 53)).unwrap();
        for t in [2u8, 3] {
            // The same client socket, so the same tracked connection.
            overlay.set_service(service(1, &[5 - t], &[port(Proto::Udp, 5300, 53)])).await.unwrap();
            let left = format!("t{} ", 5 - t);
            assert!(ask_udp(&outside, (HOST, 5300)).unwrap().starts_with(&left), "by the port, first was {by_port}");
            // A datagram that was on its way when its connection was forgotten gets no answer.
            let by_vip = || ask_udp_within(&task4, (address(1, 200), 53), ONE_TRY).unwrap_or_default();
            wait_for("the VIP's backend", by_vip, |answer| answer.starts_with(&left));
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_taken_port_is_an_error_that_names_port_and_owner() {
    on_a_host("publish::a_taken_port_is_an_error_that_names_port_and_owner", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        let other = TcpListener::bind("0.0.0.0:8080").unwrap();
        let mut wants = spec(2, &[1]);
        wants.ports = vec![port(Proto::Tcp, 8080, 80)];
        let error = overlay.attach(wants.clone()).await.unwrap_err();
        assert!(matches!(error, OverlayError::Port(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("8080/tcp") && text.contains(&std::process::id().to_string()), "{text}");
        assert!(!host.task(2).exists(), "nothing of the task stays behind");
        // By a service it is a report, and the other program keeps its clients.
        overlay.attach(spec(3, &[1])).await.unwrap();
        tcp_server(&host.task(3), 80, "web");
        let report = overlay.set_service(service(1, &[3], &[port(Proto::Tcp, 8080, 80)])).await.unwrap();
        assert_eq!(report.ports.len(), 1, "{report:?}");
        let accepted = std::thread::spawn(move || other.accept().map(drop));
        assert!(connect(host.client(), (HOST, 8080)).is_ok());
        accepted.join().unwrap().unwrap();
        // Once it is free, the next pass takes it, and then nobody else can.
        assert!(overlay.reconcile().await.unwrap().is_clean());
        assert_eq!(ask(host.client(), (HOST, 8080)).unwrap(), "web 192.0.2.2");
        assert!(TcpListener::bind("0.0.0.0:8080").is_err() && TcpListener::bind("127.0.0.1:8080").is_err());
        let second = overlay.attach(wants).await.unwrap_err();
        assert!(matches!(second, OverlayError::Clash(_)), "{second:?}");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_on_the_nodes_network_keeps_its_ports() {
    on_a_host("publish::a_task_on_the_nodes_network_keeps_its_ports", async |host| {
        let overlay = host.overlay().await;
        let mut on_host = spec(2, &[]);
        on_host.mode = Mode::Host;
        on_host.ports = vec![port(Proto::Tcp, 8080, 8080)];
        overlay.attach(on_host).await.unwrap();
        tcp_server(node(), 8080, "itself");
        assert_eq!(ask(host.client(), (HOST, 8080)).unwrap(), "itself 192.0.2.2");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn host_mode_and_one_address_only() {
    on_a_host("publish::host_mode_and_one_address_only", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        let mut local = spec(2, &[1]);
        local.ports = vec![port(Proto::Tcp, 8080, 80), port(Proto::Tcp, 8081, 80)];
        local.ports[0].host_ip = Some(LOCALHOST);
        overlay.attach(local.clone()).await.unwrap();
        tcp_server(&host.task(2), 80, "two");
        assert!(ask(node(), (LOCALHOST, 8080)).unwrap().starts_with("two "));
        assert!(is_refused(host.client(), (HOST, 8080)), "published on 127.0.0.1 only");
        assert_eq!(ask(host.client(), (HOST, 8081)).unwrap(), "two 192.0.2.2");
        overlay.set_ready(task(2), false).await.unwrap();
        assert!(is_refused(node(), (LOCALHOST, 8080)));
        overlay.detach(task(2)).await.unwrap();
        assert!(is_refused(host.client(), (HOST, 8081)));
        overlay.reconcile().await.unwrap();
        assert!(TcpListener::bind("0.0.0.0:8081").is_ok(), "the port is let go");
        overlay.teardown().await.unwrap();
    });
}
