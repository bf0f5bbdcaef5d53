//! Services that are scaled by their load, on a machine with real containers: what they use, and the requests that they count.
#![allow(clippy::unwrap_used)]

use berth_tests::image::hello;
use berth_tests::{Host, wait_until};
use serde_json::Value;

/// A service that goes on with `busy` until it is told to rest.
fn yaml(name: &str, busy: &str, target: &str) -> String {
    format!(
        "services:
  {name}:
    image: berth/hello:1
    command: [sh, -c, '{busy}']
    stop_signal: SIGKILL
    deploy: {{resources: {{reservations: {{cpus: '0.05'}}, limits: {{cpus: '0.15'}}}}}}
    x-berth:
      autoscale: {{max: 3, {target}, stabilization: {{down: 5s}}, cooldown: 5s}}
"
    )
}

fn desired(host: &Host, service: &str) -> Value {
    host.service(service)
}

fn is(count: u64) -> impl Fn(&Value) -> bool {
    move |service| service["replicas"]["desired"] == count && service["replicas"]["running"] == count
}

/// The load of every replica ends, also of one that has only just come.
fn rest(host: &Host, service: &str) {
    for task in host.wait_running(service, 3) {
        host.berth(&["exec", task["id"].as_str().unwrap(), "touch", "/tmp/rest"]).ok();
    }
}

#[test]
fn a_busy_loop_makes_a_service_grow_to_its_most_and_its_end_shrink_to_its_least() {
    let host = Host::start("busy");
    host.load(&hello());
    // Nearly three times what it reserves.
    host.apply("s", &yaml("web", "while [ ! -e /tmp/rest ]; do :; done; sleep 1d", "cpu: 50"));
    let grown = wait_until("three replicas", || desired(&host, "s_web"), is(3));
    let reason = grown["autoscale"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("cpu ") && reason.contains(" % of 50 %: ") && reason.ends_with("→ 3 replicas"),
        "{reason}"
    );
    let outside = host.berth(&["scale", "s_web=9"]).fails(1);
    assert!(outside.contains("between 1 and 3 replicas: 9 is outside"), "{outside}");
    assert!(host.berth(&["service", "ls"]).ok().contains("3/3 (auto 1-3)"));
    let said = host.berth(&["service", "ps", "s_web"]);
    assert!(said.stderr.contains("is scaled by its load between 1 and 3"), "{said:?}");
    rest(&host, "s_web");
    let shrunk = wait_until("one replica", || desired(&host, "s_web"), is(1));
    assert!(shrunk["autoscale"]["reason"].as_str().unwrap().ends_with("→ 1 replicas"), "{shrunk:#}");
}

#[test]
fn requests_that_a_service_counts_make_it_grow_and_shrink() {
    let host = Host::start("requests");
    host.load(&hello());
    // A page that says a hundred requests more each second, on a port that is not published.
    let busy = "mkdir -p /tmp/www; count() { echo \"hits_total{code=\\\"200\\\"} $n\" > /tmp/next; mv /tmp/next /tmp/www/metrics; };
      n=0; count; httpd -p 9100 -h /tmp/www;
      while [ ! -e /tmp/rest ]; do n=$$((n+100)); count; sleep 1; done; sleep 1d"
        .replace("$n", "$$n");
    let target = "requests: {target: 20, metric: hits_total, port: 9100}";
    host.apply("s", &yaml("web", &busy, target));
    let grown = wait_until("three replicas", || desired(&host, "s_web"), is(3));
    let reason = grown["autoscale"]["reason"].as_str().unwrap();
    assert!(reason.contains(" requests/s of 20: "), "{reason}");
    rest(&host, "s_web");
    wait_until("one replica", || desired(&host, "s_web"), is(1));
}
