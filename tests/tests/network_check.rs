//! The network doctor: what is wrong between machines is named, and gone from its report once it is mended.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Cluster, Host, Output, wait_until};
use serde_json::Value;

/// The report, whatever the exit code says.
fn check(host: &Host, words: &[&str]) -> (Output, Value) {
    let output = host.berth(&[&["network", "check", "--format", "json"], words].concat());
    let report = serde_json::from_str(&output.stdout).unwrap_or(Value::Null);
    (output, report)
}

fn problems(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().cloned().unwrap_or_default();
    let problem = |finding: &Value| finding["level"] == "problem";
    findings.iter().filter(|found| problem(found)).map(|found| found["problem"].as_str().unwrap().to_owned()).collect()
}

/// Drops packets that come in, before anything else looks at them.
fn drop_incoming(host: &Host, rule: &str) {
    let table = format!(
        "add table inet test\nadd chain inet test in {{ type filter hook input priority -350; }}\n\
         add rule inet test in {rule} drop\n"
    );
    let file = host.dir().join("drop.nft");
    std::fs::write(&file, table).unwrap();
    host.run("nft", &["-f", file.to_str().unwrap()]).ok();
}

fn mend(host: &Host) {
    host.run("nft", &["delete", "table", "inet", "test"]).ok();
}

#[test]
fn what_is_wrong_between_machines_is_named_and_gone_once_mended() {
    let cluster = Cluster::new("check", 1, 2);
    // Without a port or a network that they share the machines have nothing to say to each other.
    let report = check(cluster.host(0), &[]).1;
    assert!(report["ways"].as_array().unwrap().iter().all(|way| way["state"] == "unused"), "{report:#}");
    cluster.host(0).load(&hello());
    cluster.host(0).apply("s", "services:\n  web:\n    image: berth/hello:1\n    ports: [\"8080:80\"]\n");
    let names: Vec<&str> = (0..3).map(|at| cluster.host(at).hostname()).collect();
    let healthy = |what: &str| {
        wait_until(
            what,
            || check(cluster.host(0), &[]).1,
            |report| {
                let ways = report["ways"].as_array().cloned().unwrap_or_default();
                ways.len() == 6 && ways.iter().all(|way| way["state"] == "ok" && way["path"] == "direct")
            },
        )
    };
    let report = healthy("every way to be right, and straight: all are on one wire");
    assert_eq!((report["ways"][0]["mtu"].as_u64(), report["nodes"][0]["link_mtu"].as_u64()), (Some(1450), Some(1500)));
    let table = cluster.host(0).berth(&["network", "check"]).ok();
    assert!(table.starts_with("NODE") && table.matches(" ok ").count() >= 6, "{table}");
    let refused = cluster.host(1).berth(&["network", "check"]).fails(1);
    assert!(refused.contains("manager"), "a worker says where to ask: {refused}");
    let pair = ["--node", names[1], "--node", names[2]];
    let full = cluster.host(0).berth(&[&["network", "check"], pair.as_slice()].concat()).ok();
    assert!(full.contains("port for nodes:  answered") && full.contains("on eth0 (mtu 1500)"), "{full}");

    // UDP alone is blocked towards one machine: its packets arrive, the others' do not.
    drop_incoming(cluster.host(2), "udp dport 4789");
    let (output, report) = check(cluster.host(0), &pair);
    assert_eq!(output.code, 1, "{report:#}");
    let said = problems(&report);
    let one_way = format!("in the direction from {} to {}", names[1], names[2]);
    assert!(said.iter().any(|problem| problem.contains("4789") && problem.contains(&one_way)), "{said:#?}");
    mend(cluster.host(2));

    // Something on the way takes less than the links say.
    drop_incoming(cluster.host(1), "udp dport 4789 meta length > 1400");
    let said = problems(&check(cluster.host(0), &pair).1);
    assert!(said.len() == 1 && said[0].contains("no more than 1400 bytes"), "{said:#?}");
    mend(cluster.host(1));
    healthy("everything to be right again");
}
