//! Networks over several nodes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use berth_netoverlay::Overlay;
use berth_netoverlay::model::{Proto, PublishedPort, Service};
use berth_netoverlay::plan::{PROBE_MARK, PROBE_PORT};

use crate::host::*;
use crate::nodes::*;

/// Node `n` has task `n + 2` on network 1, which serves TCP and UDP on port 80.
async fn one_task_each(node: &Node, ports: &[PublishedPort]) -> (Overlay, Service) {
    let overlay = node.host.overlay().await;
    overlay.set_networks(vec![overlay_network(1), ingress_network()]).await.unwrap();
    overlay.set_nodes(node.nodes()).await.unwrap();
    let t = node.at + 2;
    overlay.attach(overlay_spec(t, 1)).await.unwrap();
    tcp_server(&node.host.task(t), 80, &format!("t{t}"));
    udp_server(&node.host.task(t), 80, &format!("t{t}"));
    let tasks: Vec<(u8, u8)> = (0..node.count).map(|at| (at + 2, at)).collect();
    let service = spread_service(1, &tasks, ports);
    let report = overlay.set_services(vec![node.sees(service.clone())]).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    let report = overlay.reconcile().await.unwrap();
    assert!(report.steps.is_empty(), "listing finds what was made: {:#?}", report.steps);
    node.step("up");
    (overlay, service)
}

#[test]
fn tasks_on_different_nodes_reach_each_other() {
    on_nodes("tunnel::tasks_on_different_nodes_reach_each_other", 3, async |node| {
        let (overlay, _) = one_task_each(&node, &[]).await;
        let own = node.host.task(node.at + 2);
        for other in 0..node.count {
            let t = other + 2;
            let greeting = |from: IpAddr| format!("t{t} {from}");
            assert_eq!(ask(&own, (address(1, t), 80)).unwrap(), greeting(address(1, node.at + 2)));
            assert_eq!(ask(&own, (address6(1, t), 80)).unwrap(), greeting(address6(1, node.at + 2)));
            let socket = inside(&own, || UdpSocket::bind("0.0.0.0:0").unwrap());
            assert_eq!(ask_udp(&socket, (address(1, t), 80)).unwrap(), greeting(address(1, node.at + 2)));
        }
        for vip in [address(1, 200), address6(1, 200)] {
            let seen: BTreeSet<String> = (0..60).map(|_| ask(&own, (vip, 80)).unwrap()).collect();
            assert_eq!(seen.len(), 3, "every node's task by {vip}: {seen:?}");
        }
        let large = sh(&format!("nsenter --net={} ip -o link show eth0", own.display()));
        assert!(large.contains("mtu 1450"), "{large}");
        node.step("asked");
        overlay.teardown().await.unwrap();
        node.step("gone");
        let left = sh("ip -o link; ip rule; ip -6 rule; ip route show table all; nft list tables");
        let has = |text: &str| left.contains(text);
        assert!(!has("bth") && !has("4789") && !has("4779") && !has("berth"), "{left}");
    });
}

#[test]
fn nodes_that_know_each_other_by_ipv6() {
    on_nodes("tunnel::nodes_that_know_each_other_by_ipv6", 2, async |node| {
        let (overlay, _) = one_task_each(&node, &[port(Proto::Tcp, 8080, 80)]).await;
        let own = node.host.task(node.at + 2);
        for direct in [false, true] {
            let mut nodes = node.nodes();
            nodes.own.as_mut().unwrap().address = underlay6(node.at);
            for (other, peer) in &mut nodes.peers {
                let at = (0..node.count).find(|at| node_id(*at) == *other).unwrap();
                (peer.address, peer.direct) = (underlay6(at), direct);
            }
            overlay.set_nodes(nodes).await.unwrap();
            node.step(&format!("set {direct}"));
            let report = overlay.reconcile().await.unwrap();
            assert!(report.steps.is_empty(), "listing finds what was made: {:#?}", report.steps);
            for t in (0..node.count).map(|other| other + 2) {
                let from = node.at + 2;
                assert_eq!(ask(&own, (address(1, t), 80)).unwrap(), format!("t{t} {}", address(1, from)));
                assert_eq!(ask(&own, (address6(1, t), 80)).unwrap(), format!("t{t} {}", address6(1, from)));
            }
            let seen: BTreeSet<String> = (0..40).map(|_| ask(node.host.client(), (HOST, 8080)).unwrap()).collect();
            assert_eq!(seen, ["t2 192.0.2.2", "t3 192.0.2.2"].map(str::to_owned).into());
            let links = sh("ip -d -o link show type vxlan");
            assert!(links.contains("local 2001:db8:100::") && links.contains("mtu 1430"), "{links}");
            node.step(&format!("asked {direct}"));
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn nodes_on_one_link_send_straight() {
    on_nodes("tunnel::nodes_on_one_link_send_straight", 3, async |node| {
        let (overlay, _) = one_task_each(&node, &[]).await;
        let own = node.host.task(node.at + 2);
        let every = |how: &str| {
            for t in (0..node.count).map(|other| other + 2) {
                // One datagram each, which nobody sends again: the change loses none.
                for (to, from) in [(address(1, t), address(1, node.at + 2)), (address6(1, t), address6(1, node.at + 2))]
                {
                    let any: IpAddr = if to.is_ipv6() { [0; 16].into() } else { [0; 4].into() };
                    let socket = inside(&own, || UdpSocket::bind((any, 0)).unwrap());
                    let told = ask_udp(&socket, (to, 80)).unwrap_or_else(|e| panic!("{how}: {to}: {e}"));
                    assert_eq!(told, format!("t{t} {from}"), "{how}");
                }
                assert_eq!(
                    ask(&own, (address(1, t), 80)).unwrap(),
                    format!("t{t} {}", address(1, node.at + 2)),
                    "{how}"
                );
                assert_eq!(
                    ask(&own, (address6(1, t), 80)).unwrap(),
                    format!("t{t} {}", address6(1, node.at + 2)),
                    "{how}"
                );
            }
        };
        every("by tunnels");
        node.step("tunnels");
        // One after the other, as nodes find it out.
        for ahead in 0..node.count {
            let mut nodes = node.nodes();
            nodes.peers.values_mut().for_each(|peer| peer.direct = node.at <= ahead);
            overlay.set_nodes(nodes).await.unwrap();
            node.step(&format!("set {ahead} ahead"));
            every(&format!("{ahead} ahead"));
            node.step(&format!("asked {ahead} ahead"));
        }
        // Both ways straight, then the first node alone by tunnels: each direction of a pair is chosen by its sender.
        for (round, by_tunnel) in [(0, None), (1, Some(0)), (2, None)] {
            let mut nodes = node.nodes();
            nodes.peers.values_mut().for_each(|peer| peer.direct = by_tunnel != Some(node.at));
            overlay.set_nodes(nodes).await.unwrap();
            node.step(&format!("set {round}"));
            let report = overlay.reconcile().await.unwrap();
            assert!(report.steps.is_empty(), "listing finds what was made: {:#?}", report.steps);
            every(&format!("round {round}"));
            let route = sh(&format!(
                "ip route get {} from {} iif $(ip -o link | grep -o 'bthb[a-z0-9]*' | head -1)",
                address(1, 2 + (node.at + 1) % 3),
                address(1, node.at + 2)
            ));
            assert_eq!(route.contains("dev wire"), by_tunnel != Some(node.at), "{route}");
            node.step(&format!("asked {round}"));
        }
        // Nobody else gets to a task so: the node itself is no task of the network.
        assert!(is_dropped(crate::host::node(), (address(1, 2 + (node.at + 1) % 3), 80)));
        node.step("dropped");
        overlay.set_nodes(node.nodes()).await.unwrap();
        let routes = sh("ip route");
        assert!(!routes.contains("10.1.0.2 via") && !routes.contains("10.1.0.3 via"), "{routes}");
        node.step("tunnels again");
        every("by tunnels again");
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

/// A link by which packets that nodes send each other come in as they would by an encrypted one: a device of another
/// hardware address on the wire.
fn secure_link(node: &Node) {
    sh(&format!(
        "ip link add link wire name bthw000001 type macvlan mode bridge && ip -6 addr add {}/64 dev bthw000001 nodad && \
         ip link set bthw000001 up",
        secure(node.at)
    ));
}

#[test]
fn encrypted_networks_go_by_encrypted_links_alone() {
    on_nodes("tunnel::encrypted_networks_go_by_encrypted_links_alone", 3, async |node| {
        secure_link(&node);
        let overlay = node.host.overlay().await;
        overlay.set_networks([overlay_network(1), ingress_network()].map(encrypted).into()).await.unwrap();
        overlay.set_nodes(node.nodes()).await.unwrap();
        let t = node.at + 2;
        overlay.attach(overlay_spec(t, 1)).await.unwrap();
        tcp_server(&node.host.task(t), 80, &format!("t{t}"));
        let tasks: Vec<(u8, u8)> = (0..node.count).map(|at| (at + 2, at)).collect();
        let service = node.sees(spread_service(1, &tasks, &[port(Proto::Tcp, 8080, 80)]));
        let report = overlay.set_services(vec![service]).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        node.step("up");
        let own = node.host.task(t);
        let (next, after) = (2 + (node.at + 1) % 3, 2 + (node.at + 2) % 3);
        assert!(is_dropped(&own, (address(1, next), 80)), "without a link nothing goes");
        node.step("nothing goes");
        let through = |secure: fn(u8) -> IpAddr| {
            let mut nodes = node.nodes();
            for at in (0..node.count).filter(|at| *at != node.at) {
                let peer = nodes.peers.get_mut(&node_id(at)).unwrap();
                // A route straight to the other node is none for an encrypted network.
                (peer.secure, peer.direct) = (Some(secure(at)), true);
            }
            nodes.secure_ports = [51820, 51821].into();
            nodes
        };
        overlay.set_nodes(through(secure)).await.unwrap();
        node.step("links");
        let report = overlay.reconcile().await.unwrap();
        assert!(report.steps.is_empty(), "listing finds what was made: {:#?}", report.steps);
        for other in [next, after] {
            let greeting = |from: IpAddr| format!("t{other} {from}");
            assert_eq!(ask(&own, (address(1, other), 80)).unwrap(), greeting(address(1, t)));
            assert_eq!(ask(&own, (address6(1, other), 80)).unwrap(), greeting(address6(1, t)));
        }
        let seen: BTreeSet<String> = (0..60).map(|_| ask(node.host.client(), (HOST, 8080)).unwrap()).collect();
        assert_eq!(seen, ["t2", "t3", "t4"].map(|task| format!("{task} 192.0.2.2")).into());
        let mtu = sh(&format!("nsenter --net={} ip -o link show eth0", own.display()));
        assert!(mtu.contains("mtu 1350"), "{mtu}");
        let route = sh(&format!(
            "ip route get {} from {} iif $(ip -o link | grep -o 'bthb[a-z0-9]*' | head -1)",
            address(1, next),
            address(1, t)
        ));
        assert!(!route.contains("dev wire"), "{route}");
        node.step("asked");
        // The first node sends in the clear, as somebody on the wire could: nobody takes it.
        if node.at == 0 {
            overlay.set_nodes(through(underlay6)).await.unwrap();
            assert!(is_dropped(&own, (address(1, next), 80)) && is_dropped(&own, (address6(1, after), 80)));
        }
        node.step("not in the clear");
        // And back to the clear as a whole, when the network is no encrypted one any more.
        overlay.set_networks(vec![overlay_network(1), ingress_network()]).await.unwrap();
        overlay.set_nodes(node.nodes()).await.unwrap();
        node.step("plain");
        assert_eq!(ask(&own, (address(1, next), 80)).unwrap(), format!("t{next} {}", address(1, t)));
        let mtu = sh(&format!("nsenter --net={} ip -o link show eth0", own.display()));
        assert!(mtu.contains("mtu 1450"), "{mtu}");
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn probes_reach_other_nodes_by_the_tunnel_and_straight() {
    on_nodes("tunnel::probes_reach_other_nodes_by_the_tunnel_and_straight", 3, async |node| {
        let (overlay, _) = one_task_each(&node, &[]).await;
        let at = |at: u8| SocketAddr::from(([10, 255, 0, at + 2], PROBE_PORT));
        let ear = UdpSocket::bind(at(node.at)).unwrap();
        ear.set_read_timeout(Some(PATIENCE)).unwrap();
        let others: Vec<u8> = (0..node.count).filter(|other| *other != node.at).collect();
        let marked = UdpSocket::bind((at(node.at).ip(), 0)).unwrap();
        nix::sys::socket::setsockopt(&marked, nix::sys::socket::sockopt::Mark, &PROBE_MARK).unwrap();
        node.step("bound");
        let dropped = "nft list table inet berth | grep -c 'udp dport 4779'";
        assert_eq!(sh(dropped).trim(), "1");
        // Without the wire's own address the answer is known to have come by the tunnel.
        for (how, socket) in [("tunnel", &ear), ("straight", &marked)] {
            let device = |mark: &str| sh(&format!("ip route get {} {mark}", at(others[0]).ip()));
            let route = if how == "tunnel" { device("") } else { device(&format!("mark {PROBE_MARK}")) };
            assert_eq!(route.contains("dev wire"), how == "straight", "{route}");
            for other in &others {
                socket.send_to(how.as_bytes(), at(*other)).unwrap();
            }
            let mut heard = BTreeSet::new();
            while heard.len() < others.len() {
                let mut text = [0; 16];
                let (len, from) = ear.recv_from(&mut text).unwrap();
                assert_eq!(&text[..len], how.as_bytes());
                heard.insert(from.ip());
            }
            assert_eq!(heard, others.iter().map(|other| at(*other).ip()).collect(), "{how}");
            node.step(how);
        }
        // Mended like the rest.
        sh("ip rule del pref 901; ip route flush table 4779");
        let report = overlay.reconcile().await.unwrap();
        assert_eq!(report.steps.len(), 1, "{:#?}", report.steps);
        assert!(overlay.reconcile().await.unwrap().steps.is_empty());
        let ground = overlay.ground(underlay(node.at)).await.unwrap().unwrap();
        assert_eq!((ground.below.link.as_str(), ground.below.mtu), ("wire", 1500));
        assert_eq!(ground.tunnel.unwrap().1, 1450);
        assert!(overlay.ground([203, 0, 113, 9].into()).await.unwrap().is_none());
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_published_port_answers_on_every_node_and_keeps_the_clients_address() {
    let name = "tunnel::a_published_port_answers_on_every_node_and_keeps_the_clients_address";
    on_nodes(name, 3, async |node| {
        let ports = [port(Proto::Tcp, 8080, 80), port(Proto::Udp, 8080, 80)];
        let (overlay, mut service) = one_task_each(&node, &ports).await;
        let client = node.host.client();
        let every = |to: SocketAddr, from: &std::path::Path, source: &str| {
            let ask = || ask(from, to).unwrap_or_else(|e| panic!("node {}: {to}: {e}", node.at));
            let seen: BTreeSet<String> = (0..60).map(|_| ask()).collect();
            let wanted = ["t2", "t3", "t4"].map(|t| format!("{t} {source}"));
            if source.is_empty() {
                assert_eq!(seen.iter().map(|s| &s[..2]).collect::<BTreeSet<_>>().len(), 3, "{seen:?}");
            } else {
                assert_eq!(seen, wanted.into(), "to {to}");
            }
        };
        // The clients of all nodes have one address and soon the same ports: connections are told apart by node too.
        every((HOST, 8080).into(), client, "192.0.2.2");
        every(SocketAddr::new("2001:db8::1".parse().unwrap(), 8080), client, "2001:db8::2");
        // This node itself, by 127.0.0.1 and by its addresses; its tasks; other nodes.
        every(([127, 0, 0, 1], 8080).into(), crate::host::node(), "");
        every((HOST, 8080).into(), crate::host::node(), "");
        for other in 0..node.count {
            every((underlay(other), 8080).into(), crate::host::node(), "");
            every((underlay(other), 8080).into(), &node.host.task(node.at + 2), "");
        }
        let udp: BTreeSet<String> = (0..60)
            .map(|_| {
                let socket = inside(client, || UdpSocket::bind("0.0.0.0:0").unwrap());
                ask_udp(&socket, (HOST, 8080)).unwrap()
            })
            .collect();
        assert_eq!(udp, ["t2 192.0.2.2", "t3 192.0.2.2", "t4 192.0.2.2"].map(str::to_owned).into());
        node.step("all");
        // Two of three go: the rest serves clients of every node; then none does, and they are refused.
        for gone in [vec![2, 3], vec![2, 3, 4]] {
            for backend in &mut service.backends {
                backend.ready = !gone.iter().any(|t| task(*t) == backend.task);
            }
            overlay.set_services(vec![node.sees(service.clone())]).await.unwrap();
            node.step(&format!("{} gone", gone.len()));
            if gone.len() == 2 {
                let seen: BTreeSet<String> = (0..20).map(|_| ask(client, (HOST, 8080)).unwrap()).collect();
                assert_eq!(seen, ["t4 192.0.2.2".to_owned()].into());
            } else {
                assert!(is_refused(client, (HOST, 8080)), "from outside");
                assert!(is_refused(crate::host::node(), ([127, 0, 0, 1], 8080)), "from the node");
            }
            node.step(&format!("{} seen", gone.len()));
        }
        overlay.teardown().await.unwrap();
    });
}
