//! How fast packets go from container to container.

use std::process::Stdio;

use berth_tests::cluster::address;
use berth_tests::image::debian;
use berth_tests::{Cluster, Output, wait_until};
use serde_json::Value;

const ROUNDS: usize = 5;
/// Seconds of each run; the first one does not count.
const SECONDS: &str = "3";

/// Gigabits a second, the median with its spread.
struct Rates(Vec<f64>);

impl Rates {
    fn print(&self, what: &str, bare: Option<&Self>) {
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share).round() as usize];
        let ratio = bare.map(|bare| format!("  of the bare link {:.2}", at(0.5) / bare.0[bare.0.len() / 2]));
        println!(
            "{what:<44} n={:<4} median {:>6.2} Gbit/s  {:.2}-{:.2}{}",
            self.0.len(),
            at(0.5),
            at(0.0),
            at(1.0),
            ratio.unwrap_or_default()
        );
    }
}

fn gigabits(output: &Output) -> f64 {
    rate(output).unwrap_or_else(|| panic!("no rate: {output:#?}"))
}

/// Gigabits a second; `None` when nothing was measured. That it reached nobody is no failure to iperf3 when it reports as JSON.
fn rate(output: &Output) -> Option<f64> {
    let report: Value = serde_json::from_str(&output.stdout).ok()?;
    Some(report["end"]["sum_received"]["bits_per_second"].as_f64()? / 1e9)
}

/// Rounds of the two in turn, so that what else the machine does hits both.
pub fn run() {
    let cluster = Cluster::new("throughput", 1, 2);
    cluster.host(0).load(&debian("iperf3"));
    let yaml = |name: &str, options: &str| {
        format!(
            "services:
  {name}:
    image: berth-test/iperf3:1
    stop_signal: SIGKILL
    networks: [net]
    deploy: {{ mode: global }}
networks: {{ net: {{ driver: overlay, driver_opts: {{ {options} }} }} }}
"
        )
    };
    cluster.host(0).apply("plain", &yaml("perf", ""));
    cluster.host(0).wait_running("plain_perf", 3);
    let task = |at: usize| cluster.task_on("plain_perf", at);
    let to = task(1)["addresses"][0].as_str().expect("an address").split('/').next().expect("bare").to_owned();
    let from = task(0)["id"].as_str().expect("an id").to_owned();
    for streams in ["1", "4"] {
        let (mut bare, mut ours, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            bare.push(by_link(&cluster, streams));
            let arguments = ["iperf3", "-c", &to, "-J", "-t", SECONDS, "-O", "1", "-P", streams];
            ours.push(gigabits(&cluster.host(0).berth(&[&["exec", &from], arguments.as_slice()].concat())));
            own.push(within_one_host(&cluster, &from, streams));
        }
        let sorted = |mut rates: Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            Rates(rates)
        };
        let (bare, ours, own) = (sorted(bare), sorted(ours), sorted(own));
        bare.print(&format!("bare link between two hosts, {streams} streams"), None);
        ours.print(&format!("container to container on two hosts, {streams}"), Some(&bare));
        own.print(&format!("container to itself by its address, {streams}"), Some(&bare));
    }
}

fn by_link(cluster: &Cluster, streams: &str) -> f64 {
    let mut server =
        cluster.host(1).command("iperf3").args(["-s"]).stdout(Stdio::null()).spawn().expect("iperf3 is installed");
    let arguments = ["-c", &address(1), "-J", "-t", SECONDS, "-O", "1", "-P", streams];
    let reached = || cluster.host(0).run("iperf3", &arguments);
    let output = wait_until("the server to listen", reached, |output| rate(output).is_some());
    server.kill().and_then(|()| server.wait()).expect("it is ours to end");
    gigabits(&output)
}

/// What the machine's processors give without any wire: an upper bound for containers.
fn within_one_host(cluster: &Cluster, task: &str, streams: &str) -> f64 {
    let arguments = ["exec", task, "iperf3", "-c", "127.0.0.1", "-J", "-t", SECONDS, "-O", "1", "-P", streams];
    gigabits(&cluster.host(0).berth(&arguments))
}
