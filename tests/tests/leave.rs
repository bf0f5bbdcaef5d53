//! Nodes that go: by themselves, or because they were removed while nobody could tell them.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_tests::image::hello;
use berth_tests::{Cluster, Host, Link, wait_until};

/// Exit code of a daemon whose node was removed.
const REMOVED: Option<i32> = Some(3);

/// Three replicas on three nodes; each is replaced before it stops.
const SPREAD: &str = "services:
  web:
    image: berth/hello:1
    stop_signal: SIGKILL
    volumes: [/scratch]
    deploy:
      replicas: 3
      update_config: { order: start-first }
      restart_policy: { delay: 0s }
      placement: { preferences: [{ spread: node.labels.host }] }
";

/// A cluster of one manager and workers, with [`SPREAD`] running.
fn spread(name: &str, workers: usize) -> Cluster {
    let cluster = Cluster::new(name, 1, workers);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", SPREAD);
    cluster.host(0).wait_running("s_web", 3);
    cluster
}

fn state_of(cluster: &Cluster, name: &str) -> Option<String> {
    let nodes = cluster.nodes(0);
    let found = nodes.iter().find(|node| node["hostname"] == name)?;
    Some(found["state"].as_str().unwrap_or_default().to_owned())
}

/// Neither processes nor anything in the kernel, and no data.
fn assert_clean(host: &Host) {
    assert_eq!(host.processes(), [] as [i32; 0], "{}", host.daemon_log());
    assert_eq!(host.run("nft", &["list", "tables"]).ok(), "");
    let links = host.run("ip", &["-o", "link"]).ok();
    assert!(!links.contains("bridge") && !links.contains("bth"), "{links}");
    let data = host.data_dir();
    let mounts = host.run("cat", &["/proc/self/mounts"]).ok();
    assert!(!mounts.contains(data.to_str().unwrap()), "{mounts}");
    assert!(!data.exists(), "{:?}", fs::read_dir(&data).map(Iterator::count));
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn a_worker_leaves_its_tasks_move_and_it_may_join_again() {
    let mut cluster = spread("leaves", 2);
    let name = cluster.host(1).hostname().to_owned();
    assert!(cluster.placed(0, "s_web").contains(&name));
    let identity = cluster.host(1).dir().join("identity");
    copy(&cluster.host(1).data_dir().join("identity"), &identity);

    let looking = AtomicBool::new(true);
    let (said, fewest) = std::thread::scope(|scope| {
        let fewest = scope.spawn(|| {
            let mut fewest = usize::MAX;
            while looking.load(Ordering::Relaxed) {
                fewest = fewest.min(cluster.placed(0, "s_web").len());
            }
            fewest
        });
        let said = cluster.host(1).berth(&["cluster", "leave"]);
        looking.store(false, Ordering::Relaxed);
        (said, fewest.join().unwrap())
    });
    assert!(said.clone().ok().contains("has left the cluster"), "{said:?}");
    assert!(fewest >= 3, "replicas were missing meanwhile: {fewest}");
    assert_eq!(cluster.host_mut(1).wait_ended(), Some(0));
    assert_clean(cluster.host(1));
    assert_eq!((cluster.nodes(0).len(), state_of(&cluster, &name)), (2, None));
    assert!(!cluster.placed(0, "s_web").contains(&name));

    // What it was is good for nothing any more.
    copy(&identity, &cluster.host(1).data_dir().join("identity"));
    assert_eq!(cluster.host_mut(1).run_daemon(), REMOVED);
    let log = cluster.host(1).daemon_log();
    assert!(log.contains("was removed from its cluster") && log.contains("berth reset"), "{log}");
    let data = cluster.host(1).data_dir();
    cluster.host(1).berth(&["reset", "--force", "--data-dir", data.to_str().unwrap()]).ok();
    assert_clean(cluster.host(1));

    // As a machine that was never there.
    cluster.rejoin(1, "worker");
    cluster.wait_ready(3);
    cluster.host(0).apply("g", "services:\n  all: { image: berth/hello:1, deploy: { mode: global } }\n");
    assert!(cluster.placed(0, "g_all").contains(&name));
}

#[test]
fn a_manager_leaves_only_where_it_can_be_done_without() {
    let mut cluster = Cluster::new("managers", 2, 0);
    let name = cluster.host(1).hostname().to_owned();
    let refused = cluster.host(1).berth(&["cluster", "leave"]).fails(1);
    assert!(refused.contains("is a manager") && refused.contains(&format!("berth node demote {name}")), "{refused}");
    // With --force it is demoted first: the other one can decide alone.
    cluster.host(1).berth(&["cluster", "leave", "--force"]).ok();
    assert_eq!(cluster.host_mut(1).wait_ended(), Some(0));
    assert_clean(cluster.host(1));
    assert_eq!(cluster.nodes(0).len(), 1);
    for args in [&["cluster", "leave"][..], &["cluster", "leave", "--force"]] {
        let refused = cluster.host(0).berth(args).fails(1);
        assert!(refused.contains("is the only manager") && refused.contains("berth reset"), "{refused}");
    }
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", "services:\n  web: { image: berth/hello:1 }\n");
    cluster.rejoin(1, "manager");
    cluster.wait_ready(2);
}

#[test]
fn a_node_that_was_removed_while_it_was_cut_off_ends_its_containers_when_it_is_back() {
    let mut cluster = spread("removed", 2);
    let name = cluster.host(2).hostname().to_owned();
    cluster.link(2, Link::Cut);
    wait_until("the node to be down", || state_of(&cluster, &name), |state| state.as_deref() == Some("down"));
    cluster.host(0).berth(&["node", "rm", "--force", &name]).ok();
    cluster.host(0).wait_running("s_web", 3);
    assert!(cluster.host(2).processes().len() > 1, "nobody has told it: its container runs on");

    cluster.link(2, Link::Whole);
    assert_eq!(cluster.host_mut(2).wait_ended(), REMOVED);
    assert_eq!(cluster.host(2).processes(), [] as [i32; 0]);
    let log = cluster.host(2).daemon_log();
    for part in ["its containers are ended", "was removed from its cluster", "berth reset", "berth daemon --join"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(cluster.host(2).data_dir().join("agent").exists(), "its data is left for whoever wants it");
    assert_eq!(cluster.host_mut(2).run_daemon(), REMOVED, "it says so each time");
    assert_eq!(cluster.nodes(0).len(), 2);
}

#[test]
fn a_manager_that_was_removed_while_it_was_off_ends_its_containers_when_it_is_back() {
    let mut cluster = Cluster::new("exmanager", 3, 0);
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", SPREAD);
    cluster.host(0).wait_running("s_web", 3);
    let (gone, at) = (2, 0);
    let name = cluster.host(gone).hostname().to_owned();
    cluster.host_mut(gone).kill_daemon();
    wait_until("the node to be down", || state_of(&cluster, &name), |state| state.as_deref() == Some("down"));
    assert!(!cluster.host(gone).processes().is_empty(), "its containers outlive it");
    cluster.host(at).berth(&["node", "rm", "--force", &name]).ok();
    assert_eq!(cluster.host_mut(gone).run_daemon(), REMOVED);
    assert_eq!(cluster.host(gone).processes(), [] as [i32; 0]);
    assert_eq!(cluster.nodes(at).len(), 2);
}

#[test]
fn leaving_goes_on_whatever_kills_the_daemon_in_between() {
    let mut cluster = Cluster::new("killed", 1, 2);
    cluster.host(0).load(&hello());
    let bound = cluster.host(1).hostname().to_owned();
    let yaml = format!(
        "services:\n  web:\n    image: berth/hello:1\n    stop_signal: SIGKILL\n    deploy:\n      update_config: {{ order: \
         start-first }}\n      placement: {{ constraints: [node.hostname == {bound}] }}\n"
    );
    cluster.host(0).apply("s", &yaml);

    // Its task has no place elsewhere.
    let stuck = cluster.host(1).berth(&["cluster", "leave", "--timeout", "1s"]).fails(1);
    assert!(stuck.contains("s_web.1") && stuck.contains("stays drained") && stuck.contains("--force"), "{stuck}");
    assert_eq!(state_of(&cluster, &bound).as_deref(), Some("ready"));
    cluster.host_mut(1).kill_daemon();
    cluster.host_mut(1).start_daemon();
    cluster.host(1).berth(&["cluster", "leave", "--force"]).ok();
    assert_eq!(cluster.host_mut(1).wait_ended(), Some(0));
    assert_clean(cluster.host(1));
    assert_eq!(cluster.nodes(0).len(), 2);

    // Killed while it takes away what it had.
    cluster.host(0).apply("t", "services:\n  all: { image: berth/hello:1, deploy: { mode: global } }\n");
    cluster.host_mut(2).kill_daemon();
    assert!(!cluster.host(2).processes().is_empty());
    fs::write(cluster.host(2).data_dir().join("left"), "").unwrap();
    assert_eq!(cluster.host_mut(2).run_daemon(), Some(0));
    assert_clean(cluster.host(2));
}

#[test]
fn without_any_manager_a_node_leaves_and_says_what_is_left_to_do() {
    let mut cluster = Cluster::new("alone", 1, 1);
    let name = cluster.host(1).hostname().to_owned();
    cluster.link(1, Link::Cut);
    let left = cluster.host(1).berth(&["cluster", "leave", "--force"]);
    assert!(left.code == 0 && left.stderr.contains("berth node rm --force"), "{left:?}");
    assert_eq!(cluster.host_mut(1).wait_ended(), Some(0));
    assert_clean(cluster.host(1));
    wait_until("the node to be down", || state_of(&cluster, &name), |state| state.as_deref() == Some("down"));
    cluster.host(0).berth(&["node", "rm", &name]).ok();
}

#[test]
fn data_is_lost_only_when_it_is_said_so_and_join_says_how() {
    let mut cluster = Cluster::new("volumes", 1, 1);
    let said = cluster.host(1).berth(&["cluster", "join", "--token", "BERTH-1-x-y", "10.77.0.1"]).fails(1);
    assert!(
        said.contains("berth daemon --join 10.77.0.1 --token BERTH-1-x-y") && said.contains("cluster leave"),
        "{said}"
    );
    cluster.host(0).load(&hello());
    let (name, yaml) =
        (cluster.host(1).hostname().to_owned(), "volumes: { data: {} }\nservices:\n  db:\n    image: berth/hello:1\n");
    let place = format!(
        "    volumes: [data:/data]\n    deploy: {{ placement: {{ constraints: [node.hostname == {name}] }} }}\n"
    );
    cluster.host(0).apply("s", &format!("{yaml}{place}"));
    cluster.host(0).berth(&["stack", "rm", "-y", "s"]).ok();
    let refused = cluster.host(1).berth(&["cluster", "leave"]).fails(1);
    assert!(refused.contains("s_data") && refused.contains("--yes"), "{refused}");
    cluster.host(1).berth(&["cluster", "leave", "--yes"]).ok();
    assert_eq!(cluster.host_mut(1).wait_ended(), Some(0));
    assert_clean(cluster.host(1));
}
