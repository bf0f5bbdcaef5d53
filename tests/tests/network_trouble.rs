//! What goes wrong with a network over all machines, or might: stale tables, cut wires, names that are taken, ports that are
//! held, leftovers. Each test looks at what every machine's kernel has, not only at what the managers say.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use berth_tests::cluster::ip;
use berth_tests::image::{debian, hello};
use berth_tests::outside::inside;
use berth_tests::{Cluster, Host, Link, Outside, wait_for, wait_until};
use serde_json::Value;

/// What a full look at the kernel would mend, which each node takes every 30 s, must not be what makes a test pass.
const BEFORE_THE_PERIOD: Duration = Duration::from_secs(20);
/// A connection that needs its first packet sent twice takes longer than this: TCP waits a second (RFC 6298).
const ONE_PACKET: Duration = Duration::from_millis(900);

fn load_images(cluster: &Cluster, names: &[&str]) {
    let archives: Vec<_> = std::iter::once(hello()).chain(names.iter().map(|name| debian(name))).collect();
    cluster.load(&archives);
}

/// What a shell command prints in a task.
fn within(host: &Host, task: &str, script: &str) -> String {
    host.berth(&["exec", task, "sh", "-c", script]).stdout.trim().to_owned()
}

/// IPv4 addresses of a subnet, `10.99.0.`, in a text.
fn addresses_in(text: &str, subnet: &str) -> BTreeSet<Ipv4Addr> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|word| word.starts_with(subnet));
    words.filter_map(|word| word.trim_end_matches('.').parse().ok()).collect()
}

fn addresses_of(task: &Value, subnet: &str) -> BTreeSet<Ipv4Addr> {
    addresses_in(&task["addresses"].to_string(), subnet)
}

/// Where the tables of a host's kernel lead to on a network: the node's, every task's, and the ways to other nodes.
fn led_to(host: &Host, subnet: &str) -> BTreeSet<Ipv4Addr> {
    let script = "nft list ruleset; ip neigh show nud permanent; \
                  for ns in /run/berth*/netns/*; do [ ! -e \"$ns\" ] || nsenter --net=\"$ns\" nft list ruleset; done";
    addresses_in(&host.run("sh", &["-c", script]).ok(), subnet)
}

/// Waits until no table of any of these hosts leads anywhere but to running tasks, their services and gateways.
fn wait_true_tables(cluster: &Cluster, hosts: &[usize], services: &[&str], subnet: &str, kept: &[&str]) {
    let begin = Instant::now();
    loop {
        let mut allowed: BTreeSet<Ipv4Addr> = kept.iter().map(|address| address.parse().unwrap()).collect();
        for service in services {
            let tasks = cluster.host(0).tasks(service);
            let running = tasks.iter().filter(|task| task["state"] == "running");
            allowed.extend(running.flat_map(|task| addresses_of(task, subnet)));
            let inspected = cluster.host(0).berth(&["service", "inspect", service]).ok();
            allowed.extend(addresses_in(&inspected, subnet));
        }
        let astray: BTreeMap<usize, Vec<Ipv4Addr>> = hosts
            .iter()
            .map(|at| (*at, led_to(cluster.host(*at), subnet).difference(&allowed).copied().collect::<Vec<_>>()))
            .filter(|(_, astray)| !astray.is_empty())
            .collect();
        if astray.is_empty() {
            return;
        }
        assert!(begin.elapsed() < BEFORE_THE_PERIOD, "tables lead to nobody: {astray:?}; running: {allowed:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn tables_lead_to_running_tasks_alone_however_often_those_are_replaced() {
    let cluster = Cluster::new("churn", 1, 2);
    load_images(&cluster, &["nginx"]);
    let host = cluster.host(0);
    host.apply(
        "s",
        "
services:
  web:
    image: berth-test/nginx:1
    networks: [back]
    ports: ['8080:80']
    stop_grace_period: 5s
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_period: 20s, start_interval: 100ms }
    deploy:
      replicas: 4
      restart_policy: { delay: 0s }
      placement: { preferences: [{ spread: node.labels.host }] }
      update_config: { order: start-first, parallelism: 2, monitor: 50ms }
  fixed:
    image: berth/hello:1
    stop_signal: SIGKILL
    networks: { back: { ipv4_address: 10.99.0.77 } }
    ports: [{ target: 80, published: 8081, mode: host }]
    deploy: { restart_policy: { delay: 0s }, update_config: { monitor: 10ms } }
  caller:
    image: berth/hello:1
    stop_signal: SIGKILL
    networks: [back]
    command:
      - sh
      - -c
      - 'while true; do if wget -q -O /dev/null http://web/; then echo x >> /tmp/good; else date >> /tmp/bad; fi; done'
    deploy: { mode: global }
networks:
  back: { ipam: { config: [{ subnet: 10.99.0.0/24 }] } }
",
    );
    host.wait_running("s_web", 4);
    host.wait_running("s_caller", 3);
    let outside = cluster.outside();
    let to: Vec<SocketAddr> = (0..3).map(|at| SocketAddr::new(ip(at), 8080)).collect();
    let callers: Vec<String> =
        (0..3).map(|at| cluster.task_on("s_caller", at)["id"].as_str().unwrap().into()).collect();
    let counts = |file: &str| -> Vec<usize> {
        let count =
            |id: &String| within(host, id, &format!("cat /tmp/{file} 2>/dev/null | wc -l")).parse().unwrap_or(0);
        callers.iter().map(count).collect()
    };
    let services = ["s_web", "s_fixed", "s_caller"];
    let true_tables = || wait_true_tables(&cluster, &[0, 1, 2], &services, "10.99.0.", &["10.99.0.1"]);
    wait_until("the callers to be answered", || counts("good"), |good| good.iter().all(|count| *count > 0));
    for id in &callers {
        within(host, id, "rm -f /tmp/bad");
    }
    let load = outside.load(&to, 2);
    for round in 0..3 {
        host.berth(&["service", "update", "--force", "s_web"]).ok();
        host.wait_running("s_web", 4);
        host.berth(&["service", "update", "--force", "s_fixed"]).ok();
        true_tables();
        eprintln!("round {round}: replaced, {} requests without an answer", counts("bad").iter().sum::<usize>());
    }
    load.wait_for(500);
    let answers = load.stop();
    assert!(answers.failed.is_empty(), "{:#?}", &answers.failed[..answers.failed.len().min(5)]);
    let bad = counts("bad");
    assert_eq!(bad, [0, 0, 0], "callers in the network, {:?} requests each", counts("good"));
    let rejected: Vec<Value> =
        host.tasks("s_fixed").into_iter().filter(|t| t["state"] == "rejected" || t["state"] == "failed").collect();
    assert!(rejected.is_empty(), "an address that goes from task to task is had each time: {rejected:#?}");
    // Killed at once, several times: requests under way are lost, later ones are not.
    for _ in 0..3 {
        for task in host.wait_running("s_web", 4).iter().take(2) {
            let pid = host.pid(task);
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            let id = task["id"].as_str().unwrap().to_owned();
            let ended = || host.tasks("s_web").iter().any(|t| t["id"] == id.as_str() && t["state"] == "running");
            wait_until("the task to have ended", ended, |running| !running);
        }
    }
    host.wait_running("s_web", 4);
    true_tables();
    let answers = outside.load(&to, 2).stop_after(200);
    assert!(answers.failed.is_empty(), "{:#?}", answers.failed);
    for id in &callers {
        within(host, id, "rm -f /tmp/bad");
    }
    let before = counts("good");
    let go_on = |good: &Vec<usize>| good.iter().zip(&before).all(|(now, before)| now > &(before + 20));
    wait_until("the callers to be answered on", || counts("good"), go_on);
    assert_eq!(counts("bad"), [0, 0, 0]);
}

/// Namespaces of tasks on a host.
fn namespaces(host: &Host) -> BTreeSet<String> {
    let listed = host.run("sh", &["-c", "ls /run/berth*/netns 2>/dev/null || true"]).ok();
    listed.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_node_that_was_cut_off_comes_back_without_its_old_tasks_being_called() {
    let cluster = Cluster::new("parted", 1, 2);
    load_images(&cluster, &["nginx"]);
    let host = cluster.host(0);
    let hosts: Vec<&str> = (0..3).map(|at| cluster.host(at).hostname()).collect();
    host.apply(
        "s",
        &format!(
            "
services:
  web:
    image: berth/hello:1
    stop_signal: SIGKILL
    networks: [back]
    ports: ['8080:80']
    deploy:
      replicas: 4
      restart_policy: {{ delay: 0s }}
      placement: {{ constraints: ['node.hostname!={}'], preferences: [{{ spread: node.labels.host }}] }}
  steady:
    image: berth-test/nginx:1
    networks: [back]
    ports: ['8081:80']
    deploy: {{ placement: {{ constraints: ['node.hostname=={}'] }} }}
networks:
  back: {{ ipam: {{ config: [{{ subnet: 10.99.0.0/24 }}] }} }}
",
            hosts[0], hosts[1]
        ),
    );
    host.wait_running("s_web", 4);
    host.wait_running("s_steady", 1);
    let outside = cluster.outside();
    let steady: Vec<SocketAddr> = [0, 1].map(|at| SocketAddr::new(ip(at), 8081)).into();
    let calls = outside.load(&steady, 1);
    let on_cut = cluster.placed(0, "s_web").iter().filter(|name| *name == hosts[2]).count();
    assert!(on_cut >= 1);
    let old = namespaces(cluster.host(2));
    assert!(old.len() >= on_cut, "{old:?}");
    cluster.link(2, Link::Cut);
    wait_until(
        "its tasks to be replaced",
        || cluster.placed(0, "s_web"),
        |placed| placed.len() == 4 && placed.iter().all(|name| name == hosts[1]),
    );
    let replaced: BTreeSet<Ipv4Addr> =
        host.wait_running("s_web", 4).iter().flat_map(|task| addresses_of(task, "10.99.0.")).collect();
    assert_eq!(replaced.len(), 4, "{replaced:?}");
    wait_true_tables(&cluster, &[0, 1], &["s_web", "s_steady"], "10.99.0.", &["10.99.0.1"]);
    // What is called meanwhile are the new ones, also when the old ones have been away for long.
    let web: Vec<SocketAddr> = [0, 1].map(|at| SocketAddr::new(ip(at), 8080)).into();
    let meanwhile = outside.load(&web, 2);
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(8) {
        meanwhile.wait_for(1);
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.link(2, Link::Whole);
    cluster.wait_ready(3);
    wait_until("its old tasks to end", || namespaces(cluster.host(2)), |now| now.is_disjoint(&old));
    let during = meanwhile.stop();
    assert!(during.failed.is_empty(), "{:#?}", &during.failed[..during.failed.len().min(5)]);
    wait_true_tables(&cluster, &[0, 1, 2], &["s_web", "s_steady"], "10.99.0.", &["10.99.0.1"]);
    // The node itself is an entrance again.
    let back = SocketAddr::new(ip(2), 8080);
    wait_for("the node to lead to the tasks", || {
        let answers = outside.load(&[back], 1).stop_after(1);
        if answers.failed.is_empty() { Ok(()) } else { Err(answers) }
    });
    let answers = outside.load(&[back], 2).stop_after(100);
    assert!(answers.failed.is_empty(), "{:#?}", answers.failed);
    let calls = calls.stop();
    assert!(calls.failed.is_empty(), "others never suffered: {:#?}", &calls.failed[..calls.failed.len().min(5)]);
    eprintln!("{} calls between the others, {} to the service, none failed", calls.answered, during.answered);
}

/// A name server outside, which knows every name, and remembers who it was asked for.
fn name_server(namespace: &std::path::Path, at: IpAddr) -> Arc<Mutex<BTreeSet<String>>> {
    let socket = inside(namespace, || UdpSocket::bind((at, 53)).unwrap());
    let asked: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let known = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some((answer, name)) = answer(&buffer[..length]) else { continue };
            known.lock().unwrap().insert(name);
            let _ = socket.send_to(&answer, peer);
        }
    });
    asked
}

/// An answer to a question (RFC 1035): 203.0.113.9 to one for an IPv4 address, nothing to others.
fn answer(question: &[u8]) -> Option<(Vec<u8>, String)> {
    let (mut at, mut labels) = (12, Vec::new());
    while *question.get(at)? > 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(question.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let kind = question.get(at + 1..at + 3)?;
    let has_answer = kind == [0, 1];
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(has_answer), 0, 0, 0, 0]);
    answer.extend(&question[12..at + 5]);
    if has_answer {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 203, 0, 113, 9]);
    }
    Some((answer, labels.join(".")))
}

#[test]
fn names_stay_within_their_stack_and_shadow_the_worlds_only_inside() {
    let cluster = Cluster::new("shadows", 1, 1);
    load_images(&cluster, &[]);
    let host = cluster.host(0);
    let outside = cluster.outside();
    let asked = name_server(&outside.namespace(), outside.address());
    host.berth(&["network", "create", "--driver", "overlay", "shared"]).ok();
    for stack in ["one", "two"] {
        host.apply(
            stack,
            &format!(
                "
services:
  web: {{ image: berth/hello:1, environment: {{ GREETING: {stack} }}, networks: [own, shared], stop_signal: SIGKILL }}
  google: {{ image: berth/hello:1, environment: {{ GREETING: inner-{stack} }}, networks: {{ own: {{ aliases: [www.example.com] }} }}, stop_signal: SIGKILL }}
  inner: {{ image: berth/hello:1, command: [sleep, 1d], networks: [own], dns: ['{dns}'], stop_signal: SIGKILL }}
  closed: {{ image: berth/hello:1, command: [sleep, 1d], networks: [closed], dns: ['{dns}'], stop_signal: SIGKILL }}
networks:
  own: {{}}
  closed: {{ internal: true }}
  shared: {{ external: true }}
",
                dns = outside.address()
            ),
        );
    }
    host.apply(
        "three",
        &format!(
            "
services:
  both: {{ image: berth/hello:1, command: [sleep, 1d], networks: [shared], dns: ['{}'], stop_signal: SIGKILL }}
networks: {{ shared: {{ external: true }} }}
",
            outside.address()
        ),
    );
    for service in ["one_web", "two_web", "one_inner", "two_inner", "one_closed", "three_both", "one_google"] {
        host.wait_running(service, 1);
    }
    let run = |service: &str, script: &str| within(host, service, script);
    // A task that runs may not listen yet.
    let get = |service: &str, name: &str| {
        let ask = || host.berth(&["exec", service, "wget", "-O", "-", &format!("http://{name}/")]);
        let answer = wait_until(&format!("{name} to answer {service}"), ask, |answer| answer.code == 0);
        answer.stdout.trim().to_owned()
    };
    for (own, other) in [("one", "two"), ("two", "one")] {
        let inner = format!("{own}_inner");
        for name in ["web".to_owned(), format!("{own}_web"), format!("web.{own}_own")] {
            for _ in 0..6 {
                let said = get(&inner, &name);
                assert!(said.starts_with(&format!("{own},")), "{name} from {own}: {said}");
            }
        }
        // The other stack's services are names of the world here: asked for outside.
        let across = run(&inner, &format!("nslookup {other}_web. 127.0.0.11"));
        assert!(across.contains("203.0.113.9"), "{across}");
        // Names of the world that a service has are the service's, and only inside its network.
        for name in ["google", "www.example.com"] {
            let said = get(&inner, name);
            assert!(said.starts_with(&format!("inner-{own},")), "{name} from {own}: {said}");
        }
        let unknown = run(&inner, "nslookup unknown.example.com 127.0.0.11");
        assert!(unknown.contains("203.0.113.9"), "what is not known is asked for outside: {unknown}");
    }
    let outer = run("three_both", "nslookup www.example.com 127.0.0.11; nslookup google. 127.0.0.11");
    assert_eq!(outer.matches("203.0.113.9").count(), 2, "outside of those networks the world's names stand: {outer}");
    // On the shared network both stacks' services have the short name; the full ones tell them apart.
    let seen: BTreeSet<String> = (0..30).map(|_| get("three_both", "web")).collect();
    let stacks: BTreeSet<&str> = seen.iter().filter_map(|said| said.split(',').next()).collect();
    eprintln!("`web` on the shared network is answered by {stacks:?}");
    assert!(stacks.is_subset(&BTreeSet::from(["one", "two"])) && !stacks.is_empty(), "{seen:?}");
    for stack in ["one", "two"] {
        let said = get("three_both", &format!("{stack}_web"));
        assert!(said.starts_with(&format!("{stack},")), "{said}");
    }
    // The short name of a service's own stack comes first where it is on both.
    for stack in ["one", "two"] {
        let seen: BTreeSet<String> = (0..20).map(|_| get(&format!("{stack}_web"), "web")).collect();
        assert!(seen.iter().all(|said| said.starts_with(&format!("{stack},"))), "{stack}: {seen:?}");
    }
    asked.lock().unwrap().clear();
    let closed = run("one_closed", "nslookup secret.example.com 127.0.0.11");
    assert!(!closed.contains("203.0.113.9"), "{closed}");
    let heard = asked.lock().unwrap().clone();
    assert!(!heard.iter().any(|name| name.contains("secret")), "nothing leaves an internal network: {heard:?}");
}

#[test]
fn tasks_of_a_network_made_a_moment_ago_reach_each_other_with_their_first_packet() {
    let cluster = Cluster::new("fresh", 1, 2);
    load_images(&cluster, &[]);
    let host = cluster.host(0);
    for round in 0..20 {
        let (network, service) = (format!("n{round}"), format!("w{round}"));
        host.berth(&["network", "create", "--driver", "overlay", &network]).ok();
        let create = ["service", "create", "--detach", "--name", &service, "--mode", "global", "--network", &network];
        host.berth(&[&create[..], &["--stop-signal", "SIGKILL", "berth/hello:1"]].concat()).ok();
        let tasks = host.wait_running(&service, 3);
        let namespace = |task: &Value| -> PathBuf { format!("/proc/{}/ns/net", host.pid(task)).into() };
        for from in &tasks {
            for to in &tasks {
                let address = *addresses_of(to, "10.").first().unwrap_or_else(|| panic!("no address: {to:#}"));
                let to = SocketAddr::new(address.into(), 80);
                let connected = inside(&namespace(from), || TcpStream::connect_timeout(&to, ONE_PACKET));
                // A web server that does not listen yet refuses: the packet got there.
                let is_reached = connected.as_ref().err().is_none_or(|e| e.kind() == io::ErrorKind::ConnectionRefused);
                assert!(is_reached, "round {round}: {} to {to}: {connected:?}", from["node"]);
            }
        }
        host.berth(&["service", "rm", &service]).ok();
        wait_for("the network to be free", || {
            let removed = host.berth(&["network", "rm", &network]);
            if removed.code == 0 { Ok(()) } else { Err(removed) }
        });
    }
}

#[test]
fn a_network_without_addresses_left_says_so_and_gives_what_comes_free_to_who_waits() {
    let host = Host::start("full");
    host.load(&hello());
    let yaml = |replicas: u32| {
        format!(
            "
services:
  one: {{ image: berth/hello:1, command: [sleep, 1d], stop_signal: SIGKILL, networks: [small], deploy: {{ replicas: {replicas} }} }}
  two: {{ image: berth/hello:1, command: [sleep, 1d], stop_signal: SIGKILL, networks: [small] }}
networks:
  small: {{ driver: overlay, ipam: {{ config: [{{ subnet: 10.98.0.0/29 }}] }} }}
"
        )
    };
    // Five addresses: two for the services, three for tasks.
    host.apply_output("s", &yaml(4), &["--detach"]).ok();
    let running = || {
        let of = |service: &str| host.tasks(service).iter().filter(|task| task["state"] == "running").count();
        of("s_one") + of("s_two")
    };
    wait_until("as many as there is room for", running, |running| *running == 3);
    let table = host.berth(&["service", "ps", "--no-trunc", "s_one", "s_two"]).ok();
    assert!(table.contains("no address is left in 10.98.0.0/29: all 5 are in use"), "{table}");
    host.apply_output("s", &yaml(2), &["--detach"]).ok();
    host.wait_running("s_one", 2);
    host.wait_running("s_two", 1);
    let thief =
        host.berth(&["service", "create", "--detach", "--name", "thief", "--network", "s_small", "berth/hello:1"]);
    thief.ok();
    let error = || host.tasks("thief").first().map(|task| task["error"].to_string()).unwrap_or_default();
    wait_until("the next one to be told", error, |error| error.contains("no address is left"));
    host.berth(&["service", "rm", "s_two"]).ok();
    host.wait_running("thief", 1);
}

/// Everything in a host's namespace that a daemon could leave there.
fn traces(host: &Host) -> BTreeSet<String> {
    let script = "ip -o link | cut -d: -f2 | cut -d@ -f1; ip rule; ip -6 rule; ip route show table all; \
                  ip -6 route show table all; nft list tables; bridge fdb show; ip neigh show nud permanent; \
                  ip -6 neigh show nud permanent; ls /run/berth*/netns; ls /run/berth*/bpf; ls /run/netns 2>/dev/null || true";
    let text = host.run("sh", &["-c", script]).ok();
    // The machine's own link is none of Berth's: it may get its link-local address meanwhile.
    text.lines().filter(|line| !line.contains(" dev eth0")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn services_that_came_and_went_leave_nothing_on_any_machine() {
    let cluster = Cluster::new("swept", 1, 2);
    load_images(&cluster, &[]);
    let host = cluster.host(0);
    let outside = cluster.outside();
    let all = || [0, 1, 2].map(|at| traces(cluster.host(at)));
    let before = wait_until("the nodes' tables", all, |all| {
        all.iter().all(|traces| traces.iter().any(|trace| trace.starts_with("table inet berth")))
    });
    for round in 0..4 {
        host.apply(
            "s",
            "
services:
  web: { image: berth/hello:1, stop_signal: SIGKILL, networks: [back, front], ports: ['8080:80'], deploy: { replicas: 6 } }
  each: { image: berth/hello:1, stop_signal: SIGKILL, networks: [back, local], deploy: { mode: global } }
  lan: { image: berth/hello:1, stop_signal: SIGKILL, networks: [wire] }
  plain: { image: berth/hello:1, stop_signal: SIGKILL, ports: [{ target: 80, published: 8082, mode: host }], deploy: { mode: global } }
networks:
  back: { enable_ipv6: true }
  front: { internal: true }
  local: { driver: bridge }
  wire: { driver: macvlan, driver_opts: { parent: eth0 }, ipam: { config: [{ subnet: 10.77.0.0/24, ip_range: 10.77.0.144/28, gateway: 10.77.0.253 }] } }
",
        );
        let to: Vec<SocketAddr> = (0..3).map(|at| SocketAddr::new(ip(at), 8080)).collect();
        let answers = outside.load(&to, 2).stop_after(30);
        assert!(answers.answered > 0, "round {round}: {answers:?}");
        host.berth(&["stack", "rm", "s"]).ok();
    }
    let left = || {
        let now = all();
        let extra = |at: usize| now[at].difference(&before[at]).cloned().collect::<Vec<_>>();
        [0, 1, 2].map(extra)
    };
    wait_until("everything to be gone", left, |left| left.iter().all(Vec::is_empty));
    let missing: Vec<_> = all()
        .iter()
        .zip(&before)
        .flat_map(|(now, before)| before.difference(now).cloned().collect::<Vec<_>>())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Connects from one source port, which other connections have too.
fn connect_from(namespace: &std::path::Path, port: u16, to: SocketAddr) -> io::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt};
    use std::os::fd::AsRawFd;
    let SocketAddr::V4(to) = to else { return Err(io::ErrorKind::Unsupported.into()) };
    inside(namespace, || {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
        connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    })
}

#[test]
fn published_ports_stand_a_held_port_a_shared_source_port_and_a_lost_machine() {
    let mut cluster = Cluster::new("entrance", 1, 2);
    load_images(&cluster, &["socat", "nginx"]);
    let names: Vec<String> = (0..3).map(|at| cluster.host(at).hostname().to_owned()).collect();
    // A program of host 1 has the port already.
    let mut holder = cluster.host(1).command("busybox").args(["nc", "-l", "-p", "8080"]).spawn().unwrap();
    let listens = || cluster.host(1).run("sh", &["-c", "ss -ltn | grep -c ':8080 ' || true"]).stdout;
    wait_until("the program to listen", listens, |count| count.trim() == "1");
    let host = cluster.host(0);
    let yaml = format!(
        "
services:
  who:
    image: berth-test/socat:1
    hostname: '{{{{.Node.Hostname}}}}'
    stop_grace_period: 1s
    networks: [back]
    ports: ['8080:80/tcp', '8080:80/udp']
    deploy: {{ replicas: 2, restart_policy: {{ delay: 1s }}, placement: {{ max_replicas_per_node: 1, constraints: ['node.hostname!={}'] }} }}
  web:
    image: berth-test/nginx:1
    networks: [back]
    ports: ['8081:80']
    deploy: {{ replicas: 3, placement: {{ preferences: [{{ spread: node.labels.host }}] }} }}
networks: {{ back: {{}} }}
",
        names[0]
    );
    host.apply_output("s", &yaml, &["--detach"]).ok();
    let said = wait_until(
        "the node to say who has the port",
        || host.tasks("s_who").iter().map(|task| task["error"].to_string()).collect::<Vec<_>>(),
        |errors| errors.iter().any(|error| error.contains("8080")),
    );
    eprintln!("said of the held port: {said:?}");
    let outside = cluster.outside();
    for at in [0, 2] {
        let to = SocketAddr::new(ip(at), 8080);
        wait_until("the others to serve", || outside.ask(to).unwrap_or_default(), |answer| answer.contains(&names[2]));
    }
    let _ = holder.kill();
    let _ = holder.wait();
    host.wait_running("s_who", 2);
    host.wait_running("s_web", 3);
    let everywhere: Vec<SocketAddr> = (0..3).map(|at| SocketAddr::new(ip(at), 8080)).collect();
    for to in &everywhere {
        wait_until("every node to serve", || outside.ask(*to).unwrap_or_default(), |answer| !answer.is_empty());
    }
    // One source port to all nodes at once: each answer comes from where it was asked.
    let socket = inside(&outside.namespace(), || UdpSocket::bind("0.0.0.0:7000").unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for round in 0..10 {
        let mut answered = BTreeSet::new();
        // The server itself may lose one of several at once.
        wait_for(&format!("round {round}: an answer of each node"), || {
            for to in everywhere.iter().filter(|to| !answered.contains(*to)) {
                socket.send_to(b"?\n", to).unwrap();
            }
            let mut buffer = [0; 256];
            while answered.len() < 3
                && let Ok((_, peer)) = socket.recv_from(&mut buffer)
            {
                answered.insert(peer);
            }
            let wanted: BTreeSet<SocketAddr> = everywhere.iter().copied().collect();
            if answered == wanted { Ok(()) } else { Err(answered.clone()) }
        });
    }
    let mut streams: Vec<TcpStream> = everywhere
        .iter()
        .map(|to| connect_from(&outside.namespace(), 7001, *to).unwrap_or_else(|e| panic!("{to}: {e}")))
        .collect();
    for stream in &mut streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.trim().ends_with(&outside.address().to_string()), "{text:?}");
    }
    // A machine is lost under load.
    let web: Vec<SocketAddr> = [0, 1].map(|at| SocketAddr::new(ip(at), 8081)).into();
    let load = outside.load(&web, 4);
    load.wait_for(200);
    let flow = wait_for("a flow to the machine that is to be lost", || {
        let flow = Flow::new(&outside, everywhere[0]);
        let answer = flow.ask();
        if answer.as_ref().is_ok_and(|answer| answer.contains(&names[2])) { Ok(flow) } else { Err(answer) }
    });
    cluster.power_off(2);
    let lost = Instant::now();
    wait_until("the flow to move on", || flow.ask().unwrap_or_default(), |answer| answer.contains(&names[1]));
    let moved = lost.elapsed();
    wait_until(
        "the other tasks to take over",
        || cluster.placed(0, "s_web"),
        |placed| placed.len() == 3 && !placed.contains(&names[2]),
    );
    let taken_over = lost.elapsed();
    let so_far = load.stop();
    let last = so_far.failed.last().map(|(at, _)| at.saturating_duration_since(lost));
    eprintln!(
        "a machine lost: {} of {} requests to the others failed, the last one begun {last:?} after; the flow moved on within \
         {moved:?}; replaced within {taken_over:?}",
        so_far.failed.len(),
        so_far.failed.len() + so_far.answered
    );
    let after = outside.load(&web, 4).stop_after(200);
    assert!(after.failed.is_empty(), "once it is down nobody is sent there: {:#?}", after.failed);
}

/// Datagrams from one socket to one published port.
struct Flow {
    socket: UdpSocket,
}

impl Flow {
    fn new(outside: &Outside, to: SocketAddr) -> Self {
        let socket = inside(&outside.namespace(), || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        socket.connect(to).unwrap();
        Self { socket }
    }

    fn ask(&self) -> io::Result<String> {
        self.socket.send(b"?\n")?;
        let mut buffer = [0; 256];
        self.socket.recv(&mut buffer).map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}
