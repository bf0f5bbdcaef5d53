//! One network over all machines: names, virtual addresses, published ports on every node, networks of each kind.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use berth_tests::cluster::{address, ip};
use berth_tests::image::{debian, hello};
use berth_tests::{Cluster, Host, Outside, wait_for, wait_until};

/// A service of which a task on each node says its host name and the client's address on port 80.
const WHO: &str = "
  who:
    image: berth-test/socat:1
    hostname: '{{.Node.Hostname}}'
    stop_grace_period: 1s
    networks: { back: { aliases: [answerer] } }
    ports: [\"8080:80/tcp\", \"8080:80/udp\"]
    deploy: { mode: global }
";
/// A shell on each node.
const CLIENT: &str = "
  client:
    image: berth/hello:1
    command: [sleep, 1d]
    stop_signal: SIGKILL
    networks: [back]
    deploy: { mode: global }
";

fn hostnames(answers: &[String]) -> BTreeSet<&str> {
    answers.iter().filter_map(|answer| answer.split_whitespace().next()).collect()
}

/// Asks until every node's task has answered.
fn every_node_answers(cluster: &Cluster, what: &str, mut ask: impl FnMut() -> String) {
    let mut seen = Vec::new();
    let all = cluster.hostnames();
    wait_for(&format!("an answer of each node {what}"), || {
        seen.push(ask());
        let names = hostnames(&seen);
        if all.iter().all(|name| names.contains(name.as_str())) { Ok(()) } else { Err(seen.clone()) }
    });
}

fn load_images(cluster: &Cluster) {
    cluster.load(&[debian("socat"), hello()]);
}

#[test]
fn services_reach_each_other_by_name_on_any_node() {
    let cluster = Cluster::new("names", 1, 2);
    load_images(&cluster);
    let networks = "
networks:
  back:
    driver: overlay
    enable_ipv6: true
    ipam: { config: [{ subnet: 10.99.0.0/24, ip_range: 10.99.0.128/25, gateway: 10.99.0.3 }, { subnet: 'fd00:99::/64' }] }
";
    cluster.host(0).apply("s", &format!("services:{WHO}{CLIENT}{networks}"));
    cluster.host(0).wait_running("s_who", 3);
    cluster.host(0).wait_running("s_client", 3);
    for at in 0..3 {
        for name in ["who", "s_who", "answerer", "who.s_back"] {
            every_node_answers(&cluster, &format!("to {name} from host {at}"), || {
                cluster.within("s_client", at, &format!("nc {name} 80 < /dev/null"))
            });
        }
        let own = cluster.within("s_client", at, "hostname -i");
        assert!(own.split_whitespace().any(|ip| ip.starts_with("10.99.0.")), "{own}");
        let tasks = cluster.within("s_client", at, "nslookup tasks.who 127.0.0.11");
        let v4 = tasks.lines().filter(|line| line.contains("10.99.0.") && line.contains("Address")).count();
        let v6 = tasks.lines().filter(|line| line.contains("fd00:99:") && line.contains("Address")).count();
        assert_eq!((v4, v6), (3, 3), "{tasks}");
        let vips = cluster.within("s_client", at, "nslookup who 127.0.0.11");
        let v6 =
            vips.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with("fd00:99:"))).next();
        let v6 = v6.unwrap_or_else(|| panic!("an IPv6 address of the service: {vips}")).to_owned();
        every_node_answers(&cluster, &format!("by IPv6 from host {at}"), || {
            cluster.within("s_client", at, &format!("nc {v6} 80 < /dev/null"))
        });
        // The other side sees the task itself, not a node.
        let seen = cluster.within("s_client", at, "nc who 80 < /dev/null");
        assert!(seen.contains("10.99.0.") || seen.contains("[fd00:0099:"), "{seen}");
    }
    let inspected = cluster.host(0).berth(&["network", "inspect", "s_back"]).ok();
    assert!(inspected.contains("10.99.0.0/24") && inspected.contains("10.99.0.3"), "{inspected}");
}

#[test]
fn a_published_port_answers_on_every_node_and_the_client_keeps_its_address() {
    let cluster = Cluster::new("mesh", 1, 2);
    load_images(&cluster);
    cluster.host(0).apply("s", &format!("services:{WHO}{CLIENT}\nnetworks: {{ back: {{}} }}\n"));
    cluster.host(0).wait_running("s_who", 3);
    cluster.host(0).wait_running("s_client", 3);
    let outside = cluster.outside();
    let ends_with_client = |answer: String| {
        assert!(answer.ends_with(&outside.address().to_string()), "the client's address: {answer:?}");
        answer
    };
    for at in 0..3 {
        let to = SocketAddr::new(ip(at), 8080);
        every_node_answers(&cluster, &format!("by TCP at {to}"), || ends_with_client(outside.ask(to).unwrap()));
        // A datagram may be lost, or find a busy machine.
        every_node_answers(&cluster, &format!("by UDP at {to}"), || {
            outside.ask_udp(to).map(ends_with_client).unwrap_or_default()
        });
        // This node and its tasks: by 127.0.0.1, by its own address, by another node's.
        for other in ["127.0.0.1".to_owned(), address(at), address((at + 1) % 3)] {
            every_node_answers(&cluster, &format!("from host {at} to {other}"), || {
                cluster.host(at).run("busybox", &["nc", "-w", "5", &other, "8080"]).stdout
            });
        }
        every_node_answers(&cluster, &format!("from a task on host {at}"), || {
            cluster.within("s_client", at, &format!("nc {} 8080 < /dev/null", address(at)))
        });
    }
    // One node's task alone: every node leads there; none: every node refuses at once.
    cluster.host(0).berth(&["node", "drain", cluster.host(1).hostname()]).ok();
    cluster.host(0).berth(&["node", "drain", cluster.host(2).hostname()]).ok();
    cluster.host(0).wait_running("s_who", 1);
    for at in 0..3 {
        let to = SocketAddr::new(ip(at), 8080);
        let answer = wait_until(
            "the last task",
            || outside.ask(to).unwrap_or_default(),
            |a| a.contains(cluster.host(0).hostname()),
        );
        ends_with_client(answer);
    }
    cluster.host(0).berth(&["service", "rm", "s_who"]).ok();
    for at in 0..3 {
        wait_for("a refusal", || {
            let answer = outside.ask(SocketAddr::new(ip(at), 8080));
            if answer.is_err() { Ok(()) } else { Err(answer.map_err(|e| e.to_string())) }
        });
    }
}

/// Requests to every node all the time.
fn under_load<T>(cluster: &Cluster, outside: &Outside, work: impl FnOnce() -> T) -> (T, berth_tests::outside::Answers) {
    let to: Vec<SocketAddr> = (0..3).map(|at| SocketAddr::new(ip(at), 8080)).collect();
    for to in &to {
        wait_until(
            "the service to answer",
            || outside.load(&[*to], 1).stop_after(1),
            |answers| answers.failed.is_empty(),
        );
    }
    let load = outside.load(&to, 4);
    let result = work();
    load.wait_for(2_000);
    let _ = cluster;
    (result, load.stop())
}

fn rolling(version: u32, order: &str) -> String {
    format!(
        "services:
  web:
    image: berth-test/nginx:1
    environment: {{ V: '{version}' }}
    ports: [\"8080:80\"]
    stop_grace_period: 10s
    healthcheck: {{ test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_period: 20s, start_interval: 100ms }}
    deploy:
      replicas: 6
      placement: {{ preferences: [{{ spread: node.labels.host }}] }}
      update_config: {{ order: {order}, parallelism: 2, monitor: 100ms }}
"
    )
}

#[test]
fn a_rolling_update_behind_a_published_port_loses_no_request() {
    let cluster = Cluster::new("rolling", 1, 2);
    cluster.host(0).load(&debian("nginx"));
    cluster.host(0).apply("s", &rolling(1, "start-first"));
    cluster.host(0).wait_running("s_web", 6);
    let outside = cluster.outside();
    let ((), answers) = under_load(&cluster, &outside, || {
        for (version, order) in [(2, "start-first"), (3, "stop-first"), (4, "start-first")] {
            cluster.host(0).apply("s", &rolling(version, order));
        }
        cluster.host(0).berth(&["scale", "s_web=3"]).ok();
        cluster.host(0).berth(&["scale", "s_web=6"]).ok();
        cluster.host(0).berth(&["node", "drain", cluster.host(2).hostname()]).ok();
        wait_until(
            "the drain",
            || cluster.placed(0, "s_web"),
            |placed| placed.len() == 6 && !placed.iter().any(|node| node == cluster.host(2).hostname()),
        );
    });
    let failed: Vec<&String> = answers.failed.iter().map(|(_, how)| how).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}",
        failed.len(),
        answers.answered + failed.len(),
        &failed[..failed.len().min(10)]
    );
    eprintln!("{} requests, none failed", answers.answered);
}

#[test]
fn networks_of_every_kind_are_made_and_shown() {
    let cluster = Cluster::new("kinds", 1, 1);
    load_images(&cluster);
    let host: &Host = cluster.host(0);
    host.berth(&[
        "network",
        "create",
        "--driver",
        "overlay",
        "--subnet",
        "10.98.0.0/24",
        "--label",
        "a=b",
        "--attachable",
        "made",
    ])
    .ok();
    let listed = host.berth(&["network", "ls"]).ok();
    assert!(listed.contains("made") && listed.contains("ingress") && listed.contains("overlay"), "{listed}");
    let again = host.berth(&["network", "create", "--subnet", "10.98.0.128/25", "other"]).fails(1);
    assert!(again.contains("10.98.0.0/24") && again.contains("made"), "an overlap names the other network: {again}");
    let yaml = "
services:
  on-made: { image: berth/hello:1, networks: { made: { ipv4_address: 10.98.0.77, aliases: [fixed] } }, stop_signal: SIGKILL }
  inside: { image: berth/hello:1, networks: [private], stop_signal: SIGKILL }
  bridged: { image: berth/hello:1, networks: [local], stop_signal: SIGKILL }
  hosted: { image: berth/hello:1, network_mode: host, environment: { PORT: '8099' }, stop_signal: SIGKILL }
  alone: { image: berth/hello:1, network_mode: none, command: [sleep, 1d], stop_signal: SIGKILL }
  lan: { image: berth/hello:1, networks: { wire: { ipv4_address: 10.77.0.150 } }, stop_signal: SIGKILL }
  both: { image: berth/hello:1, networks: [made, private], command: [sleep, 1d], stop_signal: SIGKILL }
networks:
  made: { external: true }
  private: { internal: true }
  local: { driver: bridge }
  wire: { driver: macvlan, driver_opts: { parent: eth0 }, ipam: { config: [{ subnet: 10.77.0.0/24, ip_range: 10.77.0.144/28, gateway: 10.77.0.253 }] } }
";
    host.apply("s", yaml);
    for service in ["on-made", "inside", "bridged", "hosted", "alone", "lan", "both"] {
        host.wait_running(&format!("s_{service}"), 1);
    }
    let run = |service: &str, script: &str| host.berth(&["exec", &format!("s_{service}"), "sh", "-c", script]);
    assert!(run("on-made", "hostname -i").ok().contains("10.98.0.77"));
    let both = run("both", "wget -qO- http://fixed/; wget -qO- http://inside/; ip route").ok();
    assert_eq!(both.matches("Hello, replica").count(), 2, "a task on two networks reaches both: {both}");
    assert!(both.contains("default via 10.98.0.1"), "the way out is the network that has one: {both}");
    // Nothing leaves an internal network.
    let outside = cluster.outside();
    let out = format!("nc -w 2 {} 80 < /dev/null; ip route | grep default", outside.address());
    assert!(!run("inside", &out).stdout.contains("default"));
    let on_the_wire = outside.load(&[SocketAddr::new("10.77.0.150".parse().unwrap(), 80)], 1).stop_after(1);
    assert!(on_the_wire.failed.is_empty(), "a macvlan task is a machine on the wire: {on_the_wire:?}");
    let links = run("alone", "ip -o link").ok();
    assert_eq!(links.lines().count(), 1, "only loopback: {links}");
    let used = host.berth(&["network", "rm", "made"]).fails(1);
    assert!(used.contains("s_on-made") || used.contains("s_both"), "who uses it: {used}");
    host.berth(&["stack", "rm", "s"]).ok();
    wait_for("the network to be free", || {
        let removed = host.berth(&["network", "rm", "made"]);
        if removed.code == 0 { Ok(()) } else { Err(removed) }
    });
}
