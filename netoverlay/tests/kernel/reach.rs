//! Who reaches whom.

use std::net::{IpAddr, SocketAddr};

use berth_netoverlay::model::{Driver, MacvlanMode, Mode, Proto, Subnet};
use berth_proto::validate::network_options;

use crate::host::*;

#[test]
fn tasks_of_one_network_reach_each_other_and_the_outside() {
    on_a_host("reach::tasks_of_one_network_reach_each_other_and_the_outside", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "shop_default")]).await.unwrap();
        for t in [2, 3] {
            overlay.attach(spec(t, &[1])).await.unwrap();
        }
        tcp_server(&host.task(3), 80, "three");
        assert_eq!(ask(&host.task(2), (address(1, 3), 80)).unwrap(), "three 10.1.0.2");
        tcp_server(host.client(), 7000, "outside");
        assert_eq!(
            ask(&host.task(2), (HOST_CLIENT, 7000)).unwrap(),
            "outside 192.0.2.1",
            "the node's address is taken"
        );
        overlay.teardown().await.unwrap();
    });
}

const HOST_CLIENT: IpAddr = IpAddr::V4(CLIENT);

#[test]
fn networks_are_apart_and_internal_ones_have_no_outside() {
    by_each_backend("reach::networks_are_apart_and_internal_ones_have_no_outside", async |host| {
        let overlay = host.overlay().await;
        let mut inner = network(3, "inner");
        inner.internal = true;
        overlay.set_networks(vec![network(1, "a"), network(2, "b"), inner]).await.unwrap();
        for (t, n) in [(2, 1), (3, 2), (4, 3), (5, 3)] {
            overlay.attach(spec(t, &[n])).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        tcp_server(host.client(), 7000, "outside");
        tcp_server(node(), 7001, "node");
        assert!(is_dropped(&host.task(2), (address(2, 3), 80)), "one bridge network from another");
        assert_eq!(ask(&host.task(4), (address(3, 5), 80)).unwrap(), "t5 10.3.0.4");
        assert!(is_dropped(&host.task(4), (HOST_CLIENT, 7000)), "internal to the outside");
        assert!(is_dropped(&host.task(4), ([10, 3, 0, 1], 7001)), "internal to the node");
        assert_eq!(ask(&host.task(2), ([10, 1, 0, 1], 7001)).unwrap(), "node 10.1.0.2", "a bridge network to the node");
        // An internal task that is given a route does not get out either.
        inside(&host.task(4), || sh("ip route add default via 10.3.0.1"));
        assert!(is_dropped(&host.task(4), (HOST_CLIENT, 7000)), "internal to the outside with a route of its own");
        // Somebody outside with a route to the task network does not reach unpublished ports.
        sh("ip -n client route add 10.1.0.0/24 via 192.0.2.1");
        assert!(is_dropped(host.client(), (address(1, 2), 80)), "unpublished from outside");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn tasks_of_a_network_without_icc_are_strangers() {
    by_each_backend("reach::tasks_of_a_network_without_icc_are_strangers", async |host| {
        let overlay = host.overlay().await;
        let mut apart = network(1, "apart");
        apart.options.insert(network_options::ICC.to_owned(), "false".to_owned());
        overlay.set_networks(vec![apart.clone()]).await.unwrap();
        for t in [2, 3] {
            overlay.attach(spec(t, &[1])).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        overlay.set_service(service(1, &[3], &[port(Proto::Tcp, 8080, 80)])).await.unwrap();
        tcp_server(host.client(), 7000, "outside");
        let direct = || is_dropped(&host.task(2), (address(1, 3), 80));
        assert!(direct(), "frames do not pass");
        assert!(is_dropped(&host.task(2), (address(1, 200), 80)), "nor by the virtual address");
        inside(&host.task(2), || sh("ip route add 10.1.0.3/32 via 10.1.0.1"));
        assert!(direct(), "nor do packets by way of the node");
        assert!(ask(&host.task(2), (HOST_CLIENT, 7000)).is_ok(), "the outside");
        assert!(ask(&host.task(2), (HOST, 8080)).unwrap().starts_with("t3 "), "a published port, as from anywhere");
        inside(&host.task(2), || sh("ip route del 10.1.0.3/32"));
        overlay.reconcile().await.unwrap();
        assert!(overlay.reconcile().await.unwrap().steps.is_empty(), "it is listed as it was made");
        // Drift, and the option taken away.
        sh(
            "ip -o link show type veth | grep -o 'bthv[a-z0-9]*' | while read l; do ip link set $l type bridge_slave isolated off; done",
        );
        assert!(!overlay.reconcile().await.unwrap().steps.is_empty());
        assert!(direct(), "mended");
        apart.options.clear();
        overlay.set_networks(vec![apart]).await.unwrap();
        // The task may still hold that nobody answers for the address.
        let other = || ask(&host.task(2), (address(1, 3), 80)).ok();
        assert_eq!(wait_for("the other task", other, Option::is_some).unwrap(), "t3 10.1.0.2");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn links_have_the_payload_size_of_their_network() {
    on_a_host("reach::links_have_the_payload_size_of_their_network", async |host| {
        let overlay = host.overlay().await;
        let mut small = network(1, "small");
        small.mtu = Some(1300);
        overlay.set_networks(vec![small]).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        let outside = sh("ip -o link show type bridge; ip -o link show type veth");
        let within = inside(&host.task(2), || sh("ip -o link show eth0"));
        assert!(outside.matches("mtu 1300").count() == 2 && within.contains("mtu 1300"), "{outside}{within}");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_on_several_networks_has_the_right_default_route() {
    by_each_backend("reach::a_task_on_several_networks_has_the_right_default_route", async |host| {
        let overlay = host.overlay().await;
        let mut inner = network(3, "inner");
        inner.internal = true;
        overlay.set_networks(vec![network(1, "a"), network(2, "b"), inner]).await.unwrap();
        let mut both = spec(2, &[3, 1, 2]);
        if let Mode::Networks(list) = &mut both.mode {
            list[0].gateway_priority = 100; // internal: has no way out, whatever its priority
            list[2].gateway_priority = 10;
        }
        let routes = overlay.routes().await.unwrap();
        assert!(routes.contains(&"192.0.2.0/24".parse().unwrap()), "the node's own: {routes:?}");
        assert!(!routes.contains(&"10.1.0.0/24".parse().unwrap()), "not the networks': {routes:?}");
        overlay.attach(both).await.unwrap();
        for (t, n) in [(3, 1), (4, 2), (5, 3)] {
            overlay.attach(spec(t, &[n])).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        let routes = inside(&host.task(2), || sh("ip route show default"));
        assert!(routes.contains("via 10.2.0.1 dev eth2"), "{routes}");
        assert_eq!(ask(&host.task(2), (address(1, 3), 80)).unwrap(), "t3 10.1.0.2");
        assert_eq!(ask(&host.task(2), (address(2, 4), 80)).unwrap(), "t4 10.2.0.2");
        assert_eq!(ask(&host.task(2), (address(3, 5), 80)).unwrap(), "t5 10.3.0.2");
        // Asked on its other network it answers by that one.
        tcp_server(&host.task(2), 81, "both");
        let mut port = port(berth_netoverlay::model::Proto::Tcp, 8081, 81);
        port.host_ip = Some(HOST.into());
        let mut published = service(1, &[2], &[port]);
        published.backends[0].addresses = [(net_id(1), vec![address(1, 2)])].into();
        overlay.set_service(published).await.unwrap();
        assert_eq!(ask(host.client(), (HOST, 8081)).unwrap(), "both 192.0.2.2");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn ipv6_works_beside_ipv4() {
    by_each_backend("reach::ipv6_works_beside_ipv4", async |host| {
        let overlay = host.overlay().await;
        let mut net = network(1, "six");
        net.subnets.push(Subnet::with_first_gateway("fd00:1::/64".parse().unwrap()).unwrap());
        overlay.set_networks(vec![net]).await.unwrap();
        for t in [2u8, 3] {
            let mut spec = spec(t, &[1]);
            if let Mode::Networks(list) = &mut spec.mode {
                list[0].addresses.push(format!("fd00:1::{t}").parse().unwrap());
            }
            overlay.attach(spec).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        let to: SocketAddr = "[fd00:1::3]:80".parse().unwrap();
        assert_eq!(ask(&host.task(2), to).unwrap(), "t3 fd00:1::2");
        tcp_server(host.client(), 7000, "outside");
        let out: SocketAddr = "[2001:db8::2]:7000".parse().unwrap();
        assert_eq!(ask(&host.task(2), out).unwrap(), "outside 2001:db8::1");
        let mut web = service(1, &[2, 3], &[port(berth_netoverlay::model::Proto::Tcp, 8080, 80)]);
        web.vips.insert(net_id(1), vec![address(1, 200), "fd00:1::200".parse().unwrap()]);
        for (backend, t) in web.backends.iter_mut().zip([2, 3]) {
            let both = vec![address(1, t), format!("fd00:1::{t}").parse().unwrap()];
            backend.outside.clone_from(&both);
            backend.addresses.insert(net_id(1), both);
        }
        overlay.set_service(web).await.unwrap();
        let vip: SocketAddr = "[fd00:1::200]:80".parse().unwrap();
        assert!(ask(&host.task(2), vip).unwrap().starts_with('t'));
        let published: SocketAddr = "[2001:db8::1]:8080".parse().unwrap();
        assert!(ask(host.client(), published).unwrap().ends_with(" 2001:db8::2"), "client address kept");
        let local: SocketAddr = "[::1]:8080".parse().unwrap();
        assert!(is_refused(node(), local), "::1 cannot be translated: refused, so that localhost goes on to 127.0.0.1");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_on_two_networks_leads_nobody_from_one_into_the_other() {
    on_a_host("reach::a_task_on_two_networks_leads_nobody_from_one_into_the_other", async |host| {
        let overlay = host.overlay().await;
        let mut private = network(2, "private");
        private.internal = true;
        overlay.set_networks(vec![network(1, "open"), private]).await.unwrap();
        sh("test $(cat /proc/sys/net/ipv4/ip_forward) = 1");
        // One made ahead of time, before the node forwarded, and some made after.
        for (t, networks) in [(2, &[1][..]), (3, &[2]), (4, &[1, 2]), (5, &[1, 2]), (6, &[1, 2])] {
            overlay.attach(spec(t, networks)).await.unwrap();
        }
        tcp_server(&host.task(3), 80, "secret");
        for between in [4, 5, 6] {
            inside(&host.task(2), || sh(&format!("ip route replace 10.2.0.3/32 via {}", address(1, between))));
            // The way back too, so that nothing but forwarding is missing.
            inside(&host.task(3), || sh(&format!("ip route replace 10.1.0.2/32 via {}", address(2, between))));
            assert!(is_dropped(&host.task(2), (address(2, 3), 80)), "by task {between}");
        }
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn host_and_none_modes() {
    by_each_backend("reach::host_and_none_modes", async |host| {
        let overlay = host.overlay().await;
        let mut on_host = spec(2, &[]);
        on_host.mode = Mode::Host;
        let sandbox = overlay.attach(on_host).await.unwrap();
        assert_eq!(sandbox.netns, None);
        assert!(sandbox.files.resolv_conf.contains("nameserver 192.0.2.2"));
        let mut alone = spec(3, &[]);
        alone.mode = Mode::None;
        let sandbox = overlay.attach(alone).await.unwrap();
        let links = inside(sandbox.netns.as_deref().unwrap(), || sh("ip -o link"));
        assert!(links.lines().count() == 1 && links.contains("lo:") && links.contains("UP"), "{links}");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_macvlan_task_is_a_machine_on_the_nodes_link() {
    on_a_host("reach::a_macvlan_task_is_a_machine_on_the_nodes_link", async |host| {
        let overlay = host.overlay().await;
        let mut lan = network(1, "lan");
        lan.subnets = vec![Subnet { range: "192.0.2.0/24".parse().unwrap(), gateway: [192, 0, 2, 2].into() }];
        lan.driver = Driver::Macvlan { parent: "up0".to_owned(), mode: MacvlanMode::Bridge };
        overlay.set_networks(vec![lan.clone()]).await.unwrap();
        let on_lan = |t: u8| {
            let mut spec = spec(t, &[1]);
            if let Mode::Networks(list) = &mut spec.mode {
                list[0].addresses = vec![[192, 0, 2, t].into()];
            }
            spec
        };
        for t in [50, 51] {
            overlay.attach(on_lan(t)).await.unwrap();
            tcp_server(&host.task(t), 80, &format!("t{t}"));
        }
        assert_eq!(ask(host.client(), ([192, 0, 2, 50], 80)).unwrap(), "t50 192.0.2.2", "from a machine on the link");
        assert_eq!(ask(&host.task(51), ([192, 0, 2, 50], 80)).unwrap(), "t50 192.0.2.51", "from another task");
        tcp_server(host.client(), 7000, "outside");
        assert_eq!(ask(&host.task(50), (CLIENT, 7000)).unwrap(), "outside 192.0.2.50", "with its own address");
        let report = overlay.reconcile().await.unwrap();
        assert!(report.steps.is_empty(), "listing finds what was made: {:#?}", report.steps);
        // The next daemon takes it over.
        drop(overlay);
        let overlay = host.overlay().await;
        overlay.set_networks(vec![lan.clone()]).await.unwrap();
        overlay.attach(on_lan(50)).await.unwrap();
        overlay.attach(on_lan(51)).await.unwrap();
        assert_eq!(ask(host.client(), ([192, 0, 2, 50], 80)).unwrap(), "t50 192.0.2.2");
        lan.driver = Driver::Macvlan { parent: "eth9".to_owned(), mode: MacvlanMode::Bridge };
        overlay.set_networks(vec![lan]).await.unwrap();
        let error = overlay.attach(on_lan(52)).await.unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("eth9"), "{text}");
        overlay.teardown().await.unwrap();
    });
}
