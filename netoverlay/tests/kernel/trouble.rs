//! What goes wrong with networks over several nodes: addresses that move, tables that overflow, machines and tasks that mean
//! no good, leftovers.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use berth_netoverlay::Overlay;
use berth_netoverlay::model::{Backend, Driver, MacAddr, MacvlanMode, Mode, Proto, Service, Subnet};
use berth_netoverlay::names::task_mac;
use berth_proto::id::{ServiceId, TaskId};

use crate::host::*;
use crate::nodes::*;

/// The service `number` with one task on a node, at the address of another task.
fn at(number: u8, t: u8, address_of: u8, node: u8) -> Service {
    let mut service = spread_service(1, &[(t, node)], &[]);
    service.id = service_id(number);
    service.name = format!("s{number}");
    service.vips = [(net_id(1), vec![address(1, 100 + number)])].into();
    let addresses = vec![address(1, address_of), address6(1, address_of)];
    service.backends[0].addresses = [(net_id(1), addresses)].into();
    service
}

async fn joined(node: &Node) -> Overlay {
    let overlay = node.host.overlay().await;
    overlay.set_networks(vec![overlay_network(1), ingress_network()]).await.unwrap();
    overlay.set_nodes(node.nodes()).await.unwrap();
    // From now on what is not desired goes.
    assert!(overlay.reconcile().await.unwrap().is_clean());
    overlay
}

/// A task of network 1 with the address of another.
fn heir(t: u8, address_of: u8) -> berth_netoverlay::model::SandboxSpec {
    let mut spec = overlay_spec(t, 1);
    if let Mode::Networks(attachments) = &mut spec.mode {
        attachments[0].addresses = vec![address(1, address_of), address6(1, address_of)];
    }
    spec
}

#[test]
fn an_address_that_moves_is_reached_where_it_is_and_only_there() {
    // Node 0 looks on; the address goes from a task on node 1 to one of another service on node 2, and back.
    const MOVED: u8 = 50;
    on_nodes("trouble::an_address_that_moves_is_reached_where_it_is_and_only_there", 3, async |node| {
        let overlay = joined(&node).await;
        if node.at == 0 {
            overlay.attach(overlay_spec(2, 1)).await.unwrap();
        } else {
            overlay.attach(heir(node.at + 10, MOVED)).await.unwrap();
            tcp_server(&node.host.task(node.at + 10), 80, &format!("node{}", node.at));
        }
        let watcher = spread_service(1, &[(2, 0)], &[]);
        let tell = async |services: Vec<Service>| {
            let all = services.into_iter().chain([watcher.clone()]).map(|service| node.sees(service));
            let report = overlay.set_services(all.collect()).await.unwrap();
            assert!(report.is_clean(), "{report:?}");
        };
        let (old, new) = (at(3, 11, MOVED, 1), at(4, 12, MOVED, 2));
        // What the looker-on hears, in every order, and where the address is then.
        let stories: [(&[&[&Service]], u8); 5] = [
            (&[&[&old]], 1),
            (&[&[&old, &new], &[&new]], 2),
            (&[&[&old, &new], &[&old]], 1),
            (&[&[], &[&new]], 2),
            (&[&[&new, &old], &[&new]], 2),
        ];
        for (round, (heard, place)) in stories.into_iter().enumerate() {
            for services in heard {
                tell(services.iter().copied().cloned().collect()).await;
            }
            node.step(&format!("told {round}"));
            if node.at == 0 {
                let own = node.host.task(2);
                for to in [address(1, MOVED), address6(1, MOVED)] {
                    let said = ask(&own, (to, 80)).unwrap_or_else(|error| panic!("round {round}: {to}: {error}"));
                    assert!(said.starts_with(&format!("node{place}")), "round {round}: {to}: {said}");
                }
                let fdb = sh("bridge fdb show");
                let mac = task_mac(task(11), net_id(1), Some(address(1, MOVED))).to_string();
                let ways: Vec<&str> = fdb.lines().filter(|l| l.starts_with(&mac) && l.contains(" dst ")).collect();
                let via = underlay(place).to_string();
                assert!(ways.len() == 1 && ways[0].contains(&via), "round {round}: it is at {via}: {ways:?}");
                let report = overlay.reconcile().await.unwrap();
                assert!(report.steps.is_empty(), "round {round}: {:#?}", report.steps);
            }
            node.step(&format!("asked {round}"));
        }
        // It comes to the looker-on itself, and goes away again.
        let here = at(5, 13, MOVED, 0);
        tell(vec![here]).await;
        if node.at == 0 {
            overlay.attach(heir(13, MOVED)).await.unwrap();
            tcp_server(&node.host.task(13), 80, "node0");
            let said = ask(&node.host.task(2), (address(1, MOVED), 80)).unwrap();
            assert!(said.starts_with("node0"), "{said}");
            overlay.detach(task(13)).await.unwrap();
        }
        node.step("here");
        tell(vec![old.clone()]).await;
        node.step("away");
        if node.at == 0 {
            let said = ask(&node.host.task(2), (address(1, MOVED), 80)).unwrap();
            assert!(said.starts_with("node1"), "{said}");
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn nothing_is_reached_by_forging_where_it_comes_from() {
    // Task 2 on node 0 sends in the name of task 3 on node 1, and beside it task 4 goes on to speak with task 3.
    on_nodes("trouble::nothing_is_reached_by_forging_where_it_comes_from", 2, async |node| {
        let overlay = joined(&node).await;
        for t in if node.at == 0 { vec![2, 4] } else { vec![3] } {
            overlay.attach(overlay_spec(t, 1)).await.unwrap();
            tcp_server(&node.host.task(t), 80, &format!("t{t}"));
        }
        let service = spread_service(1, &[(2, 0), (3, 1), (4, 0)], &[]);
        overlay.set_services(vec![node.sees(service)]).await.unwrap();
        node.step("up");
        if node.at == 0 {
            assert!(ask(&node.host.task(4), (address(1, 3), 80)).unwrap().starts_with("t3 "));
            let victim = task_mac(task(3), net_id(1), Some(address(1, 3)));
            for round in 0..5 {
                forge(&node.host.task(2), victim);
                for to in [address(1, 3), address6(1, 3)] {
                    let said = ask(&node.host.task(4), (to, 80)).unwrap_or_else(|e| panic!("round {round}: {to}: {e}"));
                    assert!(said.starts_with("t3 "), "round {round}: {said}");
                }
            }
            let fdb = sh("bridge fdb show");
            let on_ports = fdb.lines().filter(|line| line.starts_with(&victim.to_string()) && line.contains("bthv"));
            assert_eq!(on_ports.count(), 0, "the bridge was not led to believe it: {fdb}");
            let steps = overlay.reconcile().await.unwrap().steps;
            assert!(steps.is_empty(), "{steps:#?}");
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

/// A task takes somebody else's hardware address, calls out to everybody, and takes its own again.
fn forge(namespace: &Path, from: MacAddr) {
    let enter = format!("nsenter --net={}", namespace.display());
    let own = sh(&format!("{enter} ip -br link show eth0"));
    let own = own.split_whitespace().find(|word| word.len() == 17 && word.contains(':')).unwrap().to_owned();
    sh(&format!("{enter} ip link set eth0 address {from}"));
    let socket = inside(namespace, || UdpSocket::bind("0.0.0.0:0").unwrap());
    for nobody in 90..93 {
        // Whether there is an answer is of no interest: the question for its address went out at once.
        let _ = socket.send_to(b"?", (address(1, nobody), 9));
    }
    sh(&format!("{enter} ip link set eth0 address {own}"));
}

/// A frame of network 1 with a datagram to port 9999 of a task, as a tunnel's packet (RFC 7348).
fn tunnelled(vni: u32, to: IpAddr, mac: MacAddr, text: &str) -> Vec<u8> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (address(1, 77), to) else { panic!("IPv4 only") };
    let mut packet = vec![8, 0, 0, 0];
    packet.extend((vni << 8).to_be_bytes());
    packet.extend(mac.0);
    packet.extend([2, 0, 0, 0, 0, 77, 8, 0]);
    let length = u16::try_from(text.len()).unwrap();
    let mut header = vec![0x45, 0];
    header.extend((28 + length).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(header);
    packet.extend(7777u16.to_be_bytes());
    packet.extend(9999u16.to_be_bytes());
    packet.extend((8 + length).to_be_bytes());
    packet.extend([0, 0]);
    packet.write_all(text.as_bytes()).unwrap();
    packet
}

#[test]
fn a_tunnels_packet_is_taken_from_nodes_alone() {
    // Node 0 has task 2. Node 1 is another node, with a task of a network that node 0 is not on. Machine 2 is no node.
    on_nodes("trouble::a_tunnels_packet_is_taken_from_nodes_alone", 3, async |node| {
        let overlay = node.host.overlay().await;
        let (own, other) = (overlay_network(1), overlay_network(2));
        let known = node.nodes_without(&[2]);
        let service = spread_service(1, &[(2, 0), (3, 1)], &[]);
        let (to, mac) = (address(1, 2), task_mac(task(2), net_id(1), Some(address(1, 2))));
        let hears = |text: &str| tunnelled(4097, to, mac, text);
        let mut listener = None;
        match node.at {
            0 => {
                overlay.set_networks(vec![own, ingress_network()]).await.unwrap();
                overlay.set_nodes(known).await.unwrap();
                overlay.attach(overlay_spec(2, 1)).await.unwrap();
                overlay.set_services(vec![node.sees(service)]).await.unwrap();
                let socket = inside(&node.host.task(2), || UdpSocket::bind("0.0.0.0:9999").unwrap());
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                listener = Some(socket);
            }
            1 => {
                overlay.set_networks(vec![other, ingress_network()]).await.unwrap();
                overlay.set_nodes(known).await.unwrap();
                overlay.attach(overlay_spec(5, 2)).await.unwrap();
            }
            _ => {}
        }
        node.step("up");
        let end = SocketAddr::new(underlay(0), 4789);
        if node.at == 2 {
            let socket = UdpSocket::bind((underlay(2), 0)).unwrap();
            for _ in 0..20 {
                socket.send_to(&hears("stranger"), end).unwrap();
            }
        }
        node.step("a stranger has sent");
        if node.at == 1 {
            // Its packets leave with the node's address.
            let socket = inside(&node.host.task(5), || UdpSocket::bind("0.0.0.0:0").unwrap());
            for _ in 0..20 {
                // The node may say at once that it lets nothing through.
                let _ = socket.send_to(&hears("a task of a node"), end);
            }
        }
        node.step("a task has sent");
        if node.at == 1 {
            // What tells that the packets were right.
            UdpSocket::bind((underlay(1), 0)).unwrap().send_to(&hears("node"), end).unwrap();
        }
        if let Some(socket) = listener {
            let mut buffer = [0; 64];
            let (length, _) = socket.recv_from(&mut buffer).expect("the other node's packet");
            assert_eq!(String::from_utf8_lossy(&buffer[..length]), "node", "nobody else's packet comes first");
            let peek = sh("nft list table inet berth");
            assert!(peek.contains("tunnels are for nodes of the cluster"), "{peek}");
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_gets_at_nothing_of_other_nodes_by_the_network_between_them() {
    on_nodes("trouble::a_task_gets_at_nothing_of_other_nodes_by_the_network_between_them", 2, async |node| {
        let overlay = joined(&node).await;
        let (own, there) = (node.at + 2, (node.at + 1) % 2);
        overlay.attach(overlay_spec(own, 1)).await.unwrap();
        let service = spread_service(1, &[(2, 0), (3, 1)], &[port(Proto::Tcp, 8080, 80)]);
        overlay.set_services(vec![node.sees(service)]).await.unwrap();
        // A program of the node, for everybody who may reach it.
        tcp_server(crate::host::node(), 9000, "node");
        let _local = std::net::TcpListener::bind("127.0.0.1:9001").unwrap();
        node.step("up");
        let ns = node.host.task(own);
        assert!(ask(&ns, (underlay(there), 9000)).is_ok(), "as from any machine, with the node's address");
        for entrance in peer(there).ingress {
            assert!(is_dropped(&ns, (entrance.addr(), 9000)), "{entrance}");
        }
        // By routes of its own it gets no further.
        let enter = format!("nsenter --net={}", ns.display());
        let gateway = address(1, 1);
        sh(&format!(
            "{enter} sh -ec 'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip addr del 127.0.0.1/8 dev lo; \
             ip route add 127.0.0.1 via {gateway} dev eth0 src {}'",
            address(1, own)
        ));
        assert!(is_dropped(&ns, ([127, 0, 0, 1], 9001)));
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_network_of_thousands_stays_reachable() {
    const REMOTE: u16 = 1_500;
    const LOCAL: u16 = 300;
    let id = |n: u16| TaskId::from_random(0x5000_0000_0000_0000_0000 + u128::from(n));
    // Those that are elsewhere have a range of their own: one task there answers for all of it.
    let v4 = |n: u16| -> IpAddr { [10, 1, if n < LOCAL { 8 } else { 16 } + (n >> 8) as u8, n as u8].into() };
    on_nodes("trouble::a_network_of_thousands_stays_reachable", 2, async |node| {
        let mut network = overlay_network(1);
        network.subnets[0] = Subnet::with_first_gateway("10.1.0.0/16".parse().unwrap()).unwrap();
        let overlay = node.host.overlay().await;
        overlay.set_networks(vec![network, ingress_network()]).await.unwrap();
        overlay.set_nodes(node.nodes()).await.unwrap();
        let stations = if node.at == 0 { 0..LOCAL } else { LOCAL..LOCAL + 1 };
        for n in stations {
            let mut spec = spec(2, &[1]);
            spec.task = id(n);
            if let Mode::Networks(attachments) = &mut spec.mode {
                attachments[0].addresses = vec![v4(n)];
            }
            overlay.attach(spec).await.unwrap();
        }
        let netns = |n: u16| node.host.config().netns_dir.join(id(n).to_string());
        let all_of_one = task_mac(id(LOCAL), net_id(1), Some(v4(LOCAL)));
        let backend = |n: u16| Backend {
            task: id(n),
            node: Some(node_id(u8::from(n >= LOCAL))),
            addresses: [(net_id(1), vec![v4(n)])].into(),
            // One task stands for all that are elsewhere.
            macs: if n >= LOCAL { [(net_id(1), all_of_one)].into() } else { BTreeMap::new() },
            outside: Vec::new(),
            ..service(1, &[2], &[]).backends.remove(0)
        };
        let mut crowd = service(1, &[], &[]);
        crowd.vips = BTreeMap::new();
        crowd.backends = (0..LOCAL + REMOTE).map(backend).collect();
        let report = overlay.set_services(vec![node.sees(crowd)]).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        if node.at == 1 {
            let enter = format!("nsenter --net={}", netns(LOCAL).display());
            sh(&format!("{enter} ip route add local 10.1.16.0/21 dev lo"));
            let socket = inside(&netns(LOCAL), || UdpSocket::bind("0.0.0.0:80").unwrap());
            let answer = move || {
                let mut buffer = [0; 16];
                while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(b"!", peer);
                }
            };
            std::thread::spawn(answer);
        }
        node.step("up");
        if node.at == 0 {
            let overflows =
                || sh("head -2 /proc/1/net/stat/arp_cache; awk 'NR>1 {print $NF}' /proc/1/net/stat/arp_cache");
            let before = overflows();
            for from in [0, LOCAL / 2, LOCAL - 1] {
                // A port that nobody listens on refuses: the packet got there, and the answer came back.
                let is_reached = |n: &u16| is_refused(&netns(from), (v4(*n), 81));
                let unreached: Vec<u16> = (0..LOCAL + REMOTE).filter(|n| !is_reached(n)).collect();
                assert!(unreached.is_empty(), "from {from}: {} of them: {unreached:?}", unreached.len());
            }
            for from in (0..LOCAL).step_by(7) {
                assert!(is_refused(&netns(from), (v4(LOCAL + from), 81)), "from {from}");
            }
            let steps = overlay.reconcile().await.unwrap().steps;
            assert!(steps.is_empty(), "{steps:#?}");
            eprintln!("neighbour tables of the machine before:\n{before}and after:\n{}", overflows());
        }
        node.step("asked");
        overlay.teardown().await.unwrap();
    });
}

/// Everything in the host's namespace that a daemon could leave there.
fn traces() -> Vec<String> {
    let tables = sh(
        "nft list tables; ip rule; ip -6 rule; bridge fdb show; ip neigh show nud permanent; ip -6 neigh show nud permanent",
    );
    let routes = sh("ip route show table all; ip -6 route show table all");
    let links = sh("ip -o link | cut -d: -f2 | sort");
    let lines = [tables, routes, links].concat();
    // The machine's own link settles its own addresses meanwhile; what leads on by it counts.
    let counts = |line: &&str| !line.contains("dev up0") || line.contains(" via ");
    let mut lines: Vec<String> = lines.lines().filter(counts).map(|line| line.trim().to_owned()).collect();
    lines.sort();
    lines
}

/// A service of which one task is here, one behind a tunnel and one on a node of the same link.
fn scattered(n: u8, t: u8) -> Service {
    let mut service = spread_service(n, &[(t, 0), (t + 1, 1), (t + 2, 2)], &[port(Proto::Udp, 9000, 90)]);
    service.id = ServiceId::from_random(u128::from(n) * 256 + u128::from(t));
    service.backends[0].node = None;
    service
}

#[test]
fn many_rounds_of_every_kind_leave_nothing_behind() {
    on_a_host("trouble::many_rounds_of_every_kind_leave_nothing_behind", async |host| {
        let mut nodes = berth_netoverlay::model::Nodes { own: Some(peer(0)), ..Default::default() };
        nodes.own.as_mut().unwrap().address = HOST.into();
        for at in 1..3 {
            let address = [192, 0, 2, 10 + at].into();
            nodes.peers.insert(node_id(at), berth_netoverlay::model::Peer { address, direct: at == 2, ..peer(at) });
        }
        let overlay = host.overlay().await;
        overlay.apply(Default::default()).await.unwrap();
        overlay.teardown().await.unwrap();
        let before = traces();
        let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let overlay = host.overlay().await;
        overlay.apply(Default::default()).await.unwrap();
        let mut files = Vec::new();
        let mut wire = network(9, "wire");
        wire.driver = Driver::Macvlan { parent: "up0".to_owned(), mode: MacvlanMode::Bridge };
        for round in 0..rounds(100) {
            let (n, t) = ((round / 25 % 3 + 1) as u8, (round % 5 * 3 + 2) as u8);
            if round % 25 == 0 {
                overlay.set_nodes(nodes.clone()).await.unwrap();
                let networks = vec![overlay_network(n), network(8, "local"), wire.clone(), ingress_network()];
                overlay.set_networks(networks).await.unwrap();
            }
            let mut spec = overlay_spec(t, n);
            if let Mode::Networks(attachments) = &mut spec.mode {
                let other = if round % 2 == 0 { 8 } else { 9 };
                let Mode::Networks(mut more) = crate::host::spec(t, &[other]).mode else { panic!("networks") };
                attachments.append(&mut more);
            }
            spec.ports = vec![port(Proto::Tcp, 8080, 80)];
            overlay.attach(spec).await.unwrap();
            let report = overlay.set_service(scattered(n, t)).await.unwrap();
            assert!(report.is_clean(), "round {round}: {report:?}");
            if round % 50 == 0 {
                // Nobody answers: a flow is tracked all the same.
                let socket = inside(host.client(), || UdpSocket::bind("0.0.0.0:0").unwrap());
                socket.send_to(b"?", (HOST, 9000)).unwrap();
            }
            overlay.detach(task(t)).await.unwrap();
            overlay.remove_service(scattered(n, t).id).await.unwrap();
            if round % 25 == 24 {
                overlay.set_networks(vec![]).await.unwrap();
                overlay.set_nodes(Default::default()).await.unwrap();
            }
            files.push(open());
        }
        overlay.set_networks(vec![]).await.unwrap();
        overlay.set_nodes(Default::default()).await.unwrap();
        let steps = overlay.reconcile().await.unwrap().steps;
        assert!(steps.is_empty(), "{steps:?}");
        wait_for("open files", open, |now| *now <= files[10] + 6);
        assert_eq!(std::fs::read_dir(host.config().netns_dir).unwrap().count(), 0, "namespaces");
        let left = || sh("cat /proc/net/nf_conntrack");
        wait_for("tracked connections", left, |left| !left.contains("udp"));
        overlay.teardown().await.unwrap();
        wait_for("traces", traces, |now| *now == before);
    });
}

#[test]
fn a_datagram_flow_moves_on_when_the_node_of_its_task_is_lost() {
    // Clients of node 0; the tasks are on nodes 1 and 2.
    on_nodes("trouble::a_datagram_flow_moves_on_when_the_node_of_its_task_is_lost", 3, async |node| {
        let overlay = joined(&node).await;
        if node.at > 0 {
            overlay.attach(overlay_spec(node.at + 2, 1)).await.unwrap();
            udp_server(&node.host.task(node.at + 2), 80, &format!("node{}", node.at));
        } else {
            overlay.attach(overlay_spec(9, 1)).await.unwrap();
        }
        let mut service = spread_service(1, &[(3, 1), (4, 2)], &[port(Proto::Udp, 8080, 80)]);
        // Of no service, but the others must know where it is.
        let caller = Service { id: service_id(2), vips: BTreeMap::new(), ..spread_service(1, &[(9, 0)], &[]) };
        overlay.set_services(vec![node.sees(service.clone()), node.sees(caller.clone())]).await.unwrap();
        node.step("up");
        if node.at == 0 {
            let outside = inside(node.host.client(), || UdpSocket::bind("0.0.0.0:0").unwrap());
            let within = inside(&node.host.task(9), || UdpSocket::bind("0.0.0.0:0").unwrap());
            let flows = [(outside, SocketAddr::new(HOST.into(), 8080)), (within, SocketAddr::new(address(1, 200), 80))];
            let first: Vec<String> = flows.iter().map(|(socket, to)| ask_udp(socket, *to).unwrap()).collect();
            for (socket, to) in &flows {
                let again = ask_udp(socket, *to).unwrap();
                assert!(first.contains(&again), "a flow stays with its task: {again} of {first:?}");
            }
            // One after the other is lost as the managers say it, without a word from the node itself.
            for lost in [1, 2, 1] {
                service.backends.iter_mut().for_each(|backend| backend.ready = backend.node != Some(node_id(lost)));
                let services = vec![node.sees(service.clone()), node.sees(caller.clone())];
                let report = overlay.set_services(services).await.unwrap();
                assert!(report.is_clean(), "{report:?}");
                for (socket, to) in &flows {
                    // Flows are forgotten a moment later, and a datagram that was on its way then gets no answer.
                    let ask = || ask_udp_within(socket, *to, Duration::from_millis(300)).unwrap_or_default();
                    let place = format!("node{}", 3 - lost);
                    wait_for(&format!("{to} to lead on to {place}"), ask, |said| said.starts_with(&place));
                }
            }
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_client_whose_first_packet_went_to_a_dead_task_gets_to_the_next_one() {
    let name = "trouble::a_client_whose_first_packet_went_to_a_dead_task_gets_to_the_next_one";
    by_each_backend(name, async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        for t in [2, 3, 4] {
            overlay.attach(spec(t, &[1])).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        // Task 3 answers nobody any more, and its node has not been missed yet.
        let enter = format!("nsenter --net={}", host.task(3).display());
        sh(&format!(
            "{enter} nft 'add table inet dead; add chain inet dead in {{ type filter hook input priority 0; policy drop; }}'"
        ));
        let ports = [port(Proto::Tcp, 8080, 80)];
        overlay.set_service(service(1, &[3], &ports)).await.unwrap();
        let clients = [(host.task(2), address(1, 200), 80), (host.client().to_owned(), HOST.into(), 8080)];
        let calls = clients.map(|(from, to, port)| std::thread::spawn(move || ask(&from, (to, port))));
        let asked = |namespace: &Path| {
            let enter = format!("nsenter --net={}", namespace.display());
            sh(&format!("{enter} cat /proc/net/nf_conntrack")).matches("SYN_SENT").count()
        };
        wait_for("both to have asked", || (asked(&host.task(2)), asked(node())), |(vip, port)| *vip > 0 && *port > 0);
        overlay.set_service(service(1, &[4], &ports)).await.unwrap();
        for call in calls {
            assert!(call.join().unwrap().unwrap().starts_with("t4 "), "asked again, it is another's");
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_client_may_use_one_source_port_to_several_nodes_at_once() {
    // The client machine of node 0 calls two nodes from one port: both lead to the one task, which tells them apart.
    on_nodes("trouble::a_client_may_use_one_source_port_to_several_nodes_at_once", 2, async |node| {
        let overlay = joined(&node).await;
        if node.at == 0 {
            overlay.attach(overlay_spec(2, 1)).await.unwrap();
            udp_server(&node.host.task(2), 80, "t2");
        }
        let service = spread_service(1, &[(2, 0)], &[port(Proto::Udp, 8080, 80)]);
        overlay.set_services(vec![node.sees(service)]).await.unwrap();
        node.step("up");
        // Each node's own client has 192.0.2.2, and takes the same port: to the task they are one peer, called by two nodes.
        let socket = inside(node.host.client(), || UdpSocket::bind("0.0.0.0:7000").unwrap());
        for round in 0..20 {
            let said = ask_udp(&socket, (HOST, 8080)).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(said, "t2 192.0.2.2");
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}
