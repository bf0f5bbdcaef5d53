//! How many requests a second are answered, and how long one takes: `wrk` over loopback.

use std::process::Command;

use berth_tests::image::repository;
use berth_tests::{Host, Output};

use crate::world::{ADDRESS, World};

const ROUNDS: usize = 5;
const SECONDS: u32 = 5;
/// Connections that ask as fast as they are answered.
const CONNECTIONS: u32 = 16;

/// What is asked for; the first is the lower bound: a constant answer, to anybody.
fn paths(world: &World) -> [(&'static str, String); 7] {
    [
        ("/healthz: a constant answer", "/healthz".to_owned()),
        ("list of services, 100 of 1,000", "/api/v1/services?limit=100".to_owned()),
        ("list of tasks, 100 of 10,000", "/api/v1/tasks?limit=100".to_owned()),
        ("the same, maybe a little old", "/api/v1/tasks?limit=100&stale=true".to_owned()),
        ("a service", format!("/api/v1/services/{}", world.service)),
        ("a service by name", "/api/v1/services/service500".to_owned()),
        ("a task, with its history", format!("/api/v1/tasks/{}", world.task)),
    ]
}

/// Installs Debian's `wrk`, while there is a network to do so.
pub fn install() {
    Output::of(Command::new(repository().join("deploy/packages.sh")).arg("wrk"), None).ok();
}

/// Prints the figures. The rounds of all paths alternate, so that what else the machine does hits all of them.
pub fn run(host: &Host, world: &World) {
    let paths = paths(world);
    let mut rounds: Vec<Vec<Round>> = paths.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, path), rounds) in paths.iter().zip(&mut rounds) {
            rounds.push(Round::of(host, path, &world.token));
        }
    }
    println!("{CONNECTIONS} connections, each asks again when it is answered; rounds of {SECONDS} s");
    let bound = Figures::of(&rounds[0]);
    for ((name, _), rounds) in paths.iter().zip(&rounds) {
        let figures = Figures::of(rounds);
        println!(
            "{name:<44} n={ROUNDS:<4} median {:>9.0} requests/s  p50 {:>7.2} ms  p99 {:>7.2} ms  spread {:.0}-{:.0}",
            figures.rate, figures.p50, figures.p99, figures.least, figures.most,
        );
        let (rate, p50) = (figures.rate / bound.rate, figures.p50 / bound.p50);
        println!("  / the constant answer = {rate:.2} of its requests a second, {p50:.2} of its p50");
    }
}

/// What `wrk` said once.
struct Round {
    rate: f64,
    p50: f64,
    p99: f64,
}

impl Round {
    fn of(host: &Host, path: &str, token: &str) -> Self {
        let (connections, duration) = (format!("-c{CONNECTIONS}"), format!("-d{SECONDS}s"));
        let (header, url) = (format!("Authorization: Bearer {token}"), format!("http://{ADDRESS}{path}"));
        let said = host.run("wrk", &["-t1", &connections, &duration, "--latency", "-H", &header, &url]).ok();
        assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{path}: {said}");
        let after = |key: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(key));
            line.map(str::trim).unwrap_or_else(|| panic!("no {key} in {said}"))
        };
        let rate = after("Requests/sec:").parse().expect("a number");
        Self { rate, p50: milliseconds(after("50%")), p99: milliseconds(after("99%")) }
    }
}

/// As `wrk` writes times: `123.00us`, `1.23ms`, `1.23s`.
fn milliseconds(text: &str) -> f64 {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3), ("m", 6e4)];
    let read = units.iter().find_map(|(unit, size)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * size));
    read.unwrap_or_else(|| panic!("{text:?} is no time"))
}

/// Medians of the rounds, and how far their rates are apart.
struct Figures {
    rate: f64,
    p50: f64,
    p99: f64,
    least: f64,
    most: f64,
}

impl Figures {
    fn of(rounds: &[Round]) -> Self {
        let sorted = |figure: fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let median = |figure: fn(&Round) -> f64| sorted(figure)[rounds.len() / 2];
        let rates = sorted(|round| round.rate);
        let (rate, p50, p99) = (median(|round| round.rate), median(|round| round.p50), median(|round| round.p99));
        Self { rate, p50, p99, least: rates[0], most: rates[rates.len() - 1] }
    }
}
