//! Encrypted networks: nothing readable on the wire, nothing lost while keys change and daemons die, nothing left behind.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use berth_tests::cluster::ip;
use berth_tests::frames::{Frames, MAX_FRAME};
use berth_tests::image::{debian, hello};
use berth_tests::outside::inside;
use berth_tests::{Cluster, Host, wait_for, wait_until};

/// On each node a task that says a word and its host name on port 80, and a shell.
fn stack(word: &str, network: &str) -> String {
    format!(
        "services:
  who:
    image: berth-test/socat:1
    hostname: '{word}-{{{{.Node.Hostname}}}}'
    stop_signal: SIGKILL
    networks: [back]
    deploy: {{ mode: global }}
  client:
    image: berth/hello:1
    command: [sleep, 1d]
    stop_signal: SIGKILL
    networks: [back]
    deploy: {{ mode: global }}
networks:
  back: {network}
"
    )
}

fn load_images(cluster: &Cluster) {
    cluster.load(&[debian("socat"), hello()]);
}

/// Asks from every node until every node's task has answered.
fn all_reach_all(cluster: &Cluster, stack: &str) {
    for at in 0..3 {
        let mut seen = BTreeSet::new();
        wait_for(&format!("an answer of each node to host {at}"), || {
            let answer = cluster.within(&format!("{stack}_client"), at, "nc -w 5 who 80 < /dev/null");
            seen.extend(answer.split_whitespace().next().map(str::to_owned));
            if seen.len() == 3 { Ok(()) } else { Err(seen.clone()) }
        });
    }
}

fn is_encrypted(host: &Host, network: &str) -> bool {
    host.berth(&["network", "inspect", network]).json()[0]["allocation"]["encrypted"].as_bool().unwrap_or_default()
}

/// Looks at all that comes in on a host's wire for a word.
struct Reader {
    end: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Reader {
    fn of(host: &Host, word: &'static str) -> Self {
        let namespace = format!("/proc/{}/ns/net", host.namespace_pid());
        let frames = inside(namespace.as_ref(), || Frames::of("eth0").unwrap());
        let end = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut found) = (vec![0; MAX_FRAME], 0);
            loop {
                match frames.receive(&mut buffer) {
                    Some(len) => {
                        found += usize::from(buffer[..len].windows(word.len()).any(|part| part == word.as_bytes()))
                    }
                    None if stop.load(Ordering::Relaxed) => return found,
                    None => std::thread::yield_now(),
                }
            }
        });
        Self { end, thread }
    }

    /// In how many frames it was.
    fn found(self) -> usize {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// What of encrypted links is on a machine.
fn left(host: &Host) -> String {
    let processes = host.tunnels();
    let script =
        "ip -o link show type tun; ip -o link show type wireguard 2> /dev/null; ip -6 route | grep fdbe || true";
    let links = host.run("sh", &["-c", script]).stdout;
    if processes.is_empty() { links } else { format!("{processes:?} {links}") }
}

/// What a process takes of memory, in KiB, shared parts counted by halves and thirds.
fn share_of_memory(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn services_talk_on_any_node_and_nobody_on_the_wire_understands() {
    let cluster = Cluster::new("secret", 1, 2);
    load_images(&cluster);
    let host = cluster.host(0);
    let said = host.apply("s", &stack("whispered", "{ driver_opts: { encrypted: \"\" } }"));
    assert!(!said.contains("encrypted"), "there is nothing to warn about: {said}");
    host.wait_running("s_who", 3);
    host.wait_running("s_client", 3);
    let readers: Vec<Reader> = (0..3).map(|at| Reader::of(cluster.host(at), "whispered-")).collect();
    all_reach_all(&cluster, "s");
    assert!(is_encrypted(host, "s_back") && !is_encrypted(host, "ingress"));
    assert_eq!(readers.into_iter().map(Reader::found).sum::<usize>(), 0, "nothing can be read on the wire");
    for at in 0..3 {
        for pid in cluster.host(at).tunnels() {
            eprintln!("the process of host {at}'s link takes {} KiB", share_of_memory(pid));
        }
    }
    // The same in the clear is read, or the readers would be blind.
    host.apply("p", &stack("shouted", "{}"));
    host.wait_running("p_who", 3);
    host.wait_running("p_client", 3);
    let readers: Vec<Reader> = (0..3).map(|at| Reader::of(cluster.host(at), "shouted-")).collect();
    all_reach_all(&cluster, "p");
    assert!(readers.into_iter().map(Reader::found).sum::<usize>() > 0, "readers see what is to be seen");
    host.berth(&["stack", "rm", "s"]).ok();
    for at in 0..3 {
        wait_until(
            "nothing of links on a node without encrypted networks",
            || left(cluster.host(at)),
            String::is_empty,
        );
    }
}

#[test]
fn published_ports_are_encrypted_when_the_cluster_says_so_and_a_reset_leaves_nothing() {
    let mut cluster = Cluster::new("default", 1, 2);
    load_images(&cluster);
    let yaml = "services:
  who:
    image: berth-test/socat:1
    hostname: 'murmured-{{.Node.Hostname}}'
    stop_signal: SIGKILL
    ports: [\"8080:80/tcp\", \"8080:80/udp\"]
    deploy: { mode: global }
";
    let host = cluster.host(0);
    host.apply("s", yaml);
    host.wait_running("s_who", 3);
    let nothing = host.berth(&["cluster", "update"]).fails(2);
    assert!(nothing.contains("nothing to change"), "{nothing}");
    let outside = cluster.outside();
    let client = outside.address().to_string();
    for on in [true, false, true] {
        host.berth(&["cluster", "update", &format!("--encrypt-networks={on}")]).ok();
        wait_until("the ingress network to follow", || is_encrypted(host, "ingress"), |is| *is == on);
        for at in 0..3 {
            let has_links = |left: &String| left.is_empty() != on;
            wait_until("links to come or go", || left(cluster.host(at)), has_links);
        }
        for at in 0..3 {
            let to = SocketAddr::new(ip(at), 8080);
            for ask in [&(|| outside.ask(to)) as &dyn Fn() -> std::io::Result<String>, &|| outside.ask_udp(to)] {
                let mut seen = BTreeSet::new();
                wait_for(&format!("each node's task at host {at}, encrypted: {on}"), || {
                    if let Ok(answer) = ask() {
                        assert!(answer.is_empty() || answer.ends_with(&client), "the client's address: {answer}");
                        seen.insert(answer);
                    }
                    if seen.iter().filter(|answer| !answer.is_empty()).count() == 3 {
                        Ok(())
                    } else {
                        Err(seen.clone())
                    }
                });
            }
        }
    }
    // The last one is on: a machine that goes keeps nothing of it.
    cluster.host_mut(2).kill_daemon();
    let gone = cluster.host(2);
    assert!(!gone.tunnels().is_empty(), "links outlive the daemon");
    let told = gone.berth(&["reset", "--force", "--data-dir", gone.data_dir().to_str().unwrap()]).ok();
    assert!(told.contains("encrypted link"), "{told}");
    assert_eq!(left(gone), "");
    cluster.host(0).berth(&["cluster", "update", "--encrypt-networks=false"]).ok();
    for at in 0..2 {
        wait_until("the other machines to have none either", || left(cluster.host(at)), String::is_empty);
    }
}

/// The newest link of a host: names count up with keys.
fn newest(host: &Host) -> String {
    let listed =
        host.run("sh", &["-c", "ip -o link show type tun; ip -o link show type wireguard 2> /dev/null"]).stdout;
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1));
    names.max().unwrap_or_default().to_owned()
}

#[test]
fn keys_change_and_daemons_die_under_load_and_no_request_is_lost() {
    let mut cluster = Cluster::new("keys", 1, 2);
    for at in 0..3 {
        let host = cluster.host_mut(at);
        host.stop_daemon();
        let args = [host.daemon_args(), vec!["--key-period".to_owned(), "4s".to_owned()]].concat();
        host.set_daemon_args(args);
        host.start_daemon();
    }
    cluster.wait_ready(3);
    cluster.host(0).load(&debian("nginx"));
    cluster.host(0).berth(&["cluster", "update", "--encrypt-networks"]).ok();
    let yaml = "services:
  web:
    image: berth-test/nginx:1
    ports: [\"8080:80\"]
    healthcheck: { test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_period: 20s, start_interval: 100ms }
    deploy: { mode: global }
";
    cluster.host(0).apply("s", yaml);
    cluster.host(0).wait_running("s_web", 3);
    let outside = cluster.outside();
    let to: Vec<SocketAddr> = (0..3).map(|at| SocketAddr::new(ip(at), 8080)).collect();
    for to in &to {
        wait_until(
            "the service to answer",
            || outside.load(&[*to], 1).stop_after(12),
            |answers| answers.failed.is_empty(),
        );
    }
    let load = outside.load(&to, 4);
    let mut before: Vec<String> = (0..3).map(|at| newest(cluster.host(at))).collect();
    for round in 0..3 {
        for (at, old) in before.iter_mut().enumerate() {
            *old = wait_until("another key", || newest(cluster.host(at)), |new| new > old);
        }
        // In the midst of a change of keys, most likely.
        cluster.host_mut(round).kill_daemon();
        cluster.host_mut(round).start_daemon();
    }
    let answers = load.stop();
    let failed: Vec<&String> = answers.failed.iter().map(|(_, how)| how).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {:#?}",
        failed.len(),
        answers.answered + failed.len(),
        &failed[..failed.len().min(10)]
    );
    eprintln!("{} requests, none failed; links now: {before:?}", answers.answered);
    cluster.host(0).berth(&["cluster", "update", "--encrypt-networks=false"]).ok();
}

#[test]
fn a_node_that_cannot_encrypt_says_so_and_sends_nothing() {
    let cluster = Cluster::new("unable", 1, 2);
    load_images(&cluster);
    let unable = cluster.host(2);
    unable.run("mount", &["--bind", "/dev/null", "/dev/net/tun"]).ok();
    cluster.host(0).berth(&["network", "create", "--driver", "overlay", "--opt", "encrypted=true", "closed"]).ok();
    let created = ["service", "create", "--detach", "--name", "who", "--mode", "global", "--network", "closed"];
    let created = [&created[..], &["--restart-condition", "none", "berth-test/socat:1"]].concat();
    cluster.host(0).berth(&created).ok();
    let reason = || {
        let tasks = cluster.host(0).tasks("who");
        let there = tasks.iter().find(|task| task["node"] == unable.hostname())?;
        Some(there.to_string())
    };
    let said =
        wait_until("the task to be refused", reason, |said| said.as_ref().is_some_and(|s| s.contains("encrypt")));
    let said = said.unwrap();
    assert!(said.contains("/dev/net/tun") && said.contains("rejected"), "{said}");
    cluster.host(0).wait_running("who", 2);
}
