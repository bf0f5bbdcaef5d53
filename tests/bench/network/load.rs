//! Requests to a published port on every node, all the time, while tasks are replaced and a host is lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use berth_tests::cluster::ip;
use berth_tests::image::debian;
use berth_tests::outside::Answers;
use berth_tests::{Cluster, wait_until};

use super::figures::Samples;

fn web(version: u32, order: &str) -> String {
    format!(
        "services:
  web:
    image: berth-test/nginx:1
    environment: {{ V: '{version}' }}
    ports: [\"8080:80\"]
    healthcheck: {{ test: [CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/'], start_period: 20s, start_interval: 100ms }}
    deploy:
      replicas: 6
      restart_policy: {{ delay: 0s }}
      placement: {{ preferences: [{{ spread: node.labels.host }}] }}
      update_config: {{ order: {order}, parallelism: 2, monitor: 100ms }}
"
    )
}

fn ports(hosts: impl IntoIterator<Item = usize>) -> Vec<SocketAddr> {
    hosts.into_iter().map(|at| SocketAddr::new(ip(at), 8080)).collect()
}

fn said(what: &str, answers: &Answers) {
    let failed = answers.failed.len();
    println!("{what}: {} requests, {failed} failed", answers.answered + failed);
    answers.failed.iter().take(5).for_each(|(_, how)| println!("  {how}"));
    Samples::new("  an answer", answers.times.iter().copied()).print();
}

/// Updates one after the other until 10,000 requests were made.
pub fn rolling() {
    let cluster = Cluster::new("rolling", 1, 2);
    cluster.host(0).load(&debian("nginx"));
    cluster.host(0).apply("s", &web(0, "start-first"));
    cluster.host(0).wait_running("s_web", 6);
    let outside = cluster.outside();
    for to in ports(0..3) {
        let ask = || outside.load(&[to], 1).stop_after(1);
        wait_until("the service to answer", ask, |answers| answers.failed.is_empty());
    }
    let load = outside.load(&ports(0..3), 4);
    let mut version = 0;
    while load.count() < 20_000 || version < 4 {
        version += 1;
        let order = if version % 2 == 0 { "stop-first" } else { "start-first" };
        cluster.host(0).apply("s", &web(version, order));
    }
    said(&format!("{version} rolling updates of 6 tasks by 2 under load"), &load.stop());
}

/// A worker loses power: how long requests to the others fail.
pub fn loss() {
    let mut gaps = Vec::new();
    for round in 0..5 {
        let mut cluster = Cluster::new("loss", 1, 2);
        cluster.host(0).load(&debian("nginx"));
        cluster.host(0).apply("s", &web(round, "start-first"));
        cluster.host(0).wait_running("s_web", 6);
        let outside = cluster.outside();
        let load = outside.load(&ports([0, 1]), 8);
        load.wait_for(500);
        let lost = Instant::now();
        cluster.power_off(2);
        let host = cluster.host(2).hostname().to_owned();
        wait_until(
            "the tasks to run elsewhere",
            || cluster.try_placed(0, "s_web"),
            |placed| placed.len() == 6 && !placed.contains(&host),
        );
        load.wait_for(load.count() + 500);
        let answers = load.stop();
        let last = answers.failed.last().map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(lost));
        said("a host lost under load", &answers);
        gaps.push(last);
    }
    Samples::new("host lost -> the last request that failed began", gaps).print();
}
