//! Metrics of a real node, and what is made of them: the dashboards and alerts in deploy/ ask only for what is there, and
//! Prometheus' own tool finds no fault with any of it.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use berth_tests::image::{hello, repository};
use berth_tests::{Cluster, Host, wait_for};
use serde_json::Value;

/// What Prometheus itself makes, of metrics and of labels.
const OF_PROMETHEUS: (&[&str], &[&str]) = (&["up"], &["job", "instance", "le"]);

/// Prometheus' tool on an input; fails with what it says.
fn promtool(args: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(repository().join("deploy/prometheus"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("promtool is not installed: run `deploy/packages.sh prometheus`, or apt-get install prometheus")
        }
        spawned => spawned.unwrap(),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
}

/// One metric of a scrape.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    samples: usize,
}

/// The metrics of a text in Prometheus' format.
fn metrics(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            let new = Metric { help: help.to_owned(), ..Metric::default() };
            assert!(metrics.insert(name.to_owned(), new).is_none(), "{name} is there twice");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            metrics.get_mut(name).unwrap().kind = kind.to_owned();
        } else {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let metric = metrics.get_mut(family(name, &|name| metrics.contains_key(name)).as_str());
            let metric = metric.unwrap_or_else(|| panic!("{line} has no description"));
            metric.samples += 1;
            metric.labels.extend(selector(labels).0);
        }
    }
    metrics
}

/// The metric that a series or a query's name is of: histograms have several.
fn family(name: &str, is_metric: &dyn Fn(&str) -> bool) -> String {
    let ends = ["_bucket", "_sum", "_count"];
    let whole = ends.iter().filter_map(|end| name.strip_suffix(end)).find(|whole| is_metric(whole));
    whole.filter(|_| !is_metric(name)).unwrap_or(name).to_owned()
}

/// Names of the labels in `a="x",b=~"y"}…`, and what comes after the bracket.
fn selector(text: &str) -> (Vec<String>, &str) {
    let (mut names, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return (names, after);
        }
        let (label, value) = rest.split_once('"').unwrap_or_else(|| panic!("labels are not closed: {text}"));
        names.push(label.trim_end_matches(['=', '~', '!']).to_owned());
        let mut is_escaped = false;
        let end = value.find(|letter| {
            let ends = letter == '"' && !is_escaped;
            is_escaped = letter == '\\' && !is_escaped;
            ends
        });
        rest = &value[end.unwrap() + 1..];
    }
}

/// Names of metrics in a query, each with the labels that it is asked by.
fn asked(query: &str) -> Vec<(String, Vec<String>)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_alphabetic()) {
        let end = rest[at..].find(|letter| !is_name(letter)).map_or(rest.len(), |end| at + end);
        let name = &rest[at..end];
        let (labels, after) = rest[end..].strip_prefix('{').map_or((Vec::new(), &rest[end..]), selector);
        if ["berth_", "process_"].iter().any(|start| name.starts_with(start)) || name == "up" {
            found.push((name.to_owned(), labels));
        }
        rest = after;
    }
    found
}

/// Every text of a document that is a query: of panels, of variables, of rules.
fn queries(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(query) if name == "expr" || name == "definition" => into.push(query.clone()),
                    other => queries(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| queries(item, into)),
        _ => {}
    }
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(repository().join("deploy/grafana")).unwrap().map(|file| file.unwrap().path());
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, serde_json::from_str(&text).unwrap())
    };
    files.filter(|path| path.extension().is_some_and(|end| end == "json")).map(read).collect()
}

/// Queries of the alert rules: what stands behind `expr:`, on its line or folded below it.
fn rules() -> Vec<String> {
    let text = fs::read_to_string(repository().join("deploy/prometheus/berth.rules.yml")).unwrap();
    let mut rules = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(query) = line.trim().strip_prefix("expr: ") else { continue };
        let depth = line.len() - line.trim_start().len();
        let mut query = query.trim_start_matches(">-").to_owned();
        while let Some(more) = lines.next_if(|next| next.len() - next.trim_start().len() > depth) {
            query.push(' ');
            query.push_str(more.trim());
        }
        rules.push(query);
    }
    rules
}

/// What a node with a manager, two tasks and some history shows.
fn scrape(host: &Host) -> String {
    let token = host.berth(&["token", "create", "prometheus", "--role", "viewer"]).ok();
    let ask = |token: &str, headers: &[&str]| {
        let authorization = format!("authorization: Bearer {}", token.trim());
        let mut args = vec!["-sS", "--max-time", "10", "-H", &authorization];
        headers.iter().for_each(|header| args.extend(["-H", header]));
        args.push("http://127.0.0.1:4778/metrics");
        host.run("curl", &args).ok()
    };
    assert!(ask("berth_api_wrong", &[]).contains("\"status\":401"), "a wrong token shows nothing");
    let open = ask(&token, &["accept: application/openmetrics-text"]);
    assert!(open.ends_with("# EOF\n"), "{open}");
    wait_for("the tasks to be looked at", || {
        let text = ask(&token, &[]);
        let seen = text.lines().filter(|line| line.starts_with("berth_container_memory_bytes{")).count();
        if seen == 2 && text.contains("berth_service_replicas_running{service=\"s_web\",stack=\"s\"} 2") {
            Ok(text)
        } else {
            Err(text)
        }
    })
}

#[test]
fn what_a_node_shows_is_well_formed_and_all_that_dashboards_and_alerts_ask_for() {
    let host = Host::start("metrics");
    host.load(&hello());
    host.apply("s", "services:\n  web: { image: berth/hello:1, deploy: { replicas: 2 } }\n");
    host.wait_running("s_web", 2);
    let text = scrape(&host);
    let said = promtool(&["check", "metrics"], &text);
    assert_eq!(said, "", "promtool finds fault with the metrics");
    let metrics = metrics(&text);
    for (name, metric) in &metrics {
        well_formed(name, metric);
    }
    for (name, at_least) in [
        ("berth_agent_containers", 2.0),
        ("berth_agent_connected", 1.0),
        ("berth_agent_tasks_started_total", 2.0),
        ("berth_raft_is_leader", 1.0),
        ("process_resident_memory_bytes", 1e6),
    ] {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
        let value: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(value >= at_least, "{line}");
    }
    let mut asked_for: Vec<(String, String)> =
        rules().into_iter().map(|query| ("berth.rules.yml".to_owned(), query)).collect();
    for (path, dashboard) in dashboards() {
        let mut found = Vec::new();
        queries(&dashboard, &mut found);
        assert!(!found.is_empty(), "{} asks for nothing", path.display());
        asked_for.extend(found.into_iter().map(|query| (name_of(&path), query)));
    }
    let mut wrong = Vec::new();
    for (place, query) in &asked_for {
        for (name, labels) in asked(query) {
            let name = family(&name, &|name| metrics.contains_key(name));
            match metrics.get(&name) {
                None if OF_PROMETHEUS.0.contains(&name.as_str()) => {}
                None => wrong.push(format!("{place}: there is no {name}: {query}")),
                // Of what has no samples just now, labels are not known.
                Some(metric) if metric.samples > 0 => {
                    let known =
                        |label: &&String| metric.labels.contains(*label) || OF_PROMETHEUS.1.contains(&label.as_str());
                    let unknown = labels.iter().filter(|label| !known(label));
                    wrong.extend(unknown.map(|label| format!("{place}: {name} has no label {label}: {query}")));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_worker_shows_what_runs_on_it_to_tokens_of_the_cluster() {
    let cluster = Cluster::new("measured", 1, 1);
    let token = cluster.host(0).berth(&["token", "create", "prometheus", "--role", "viewer"]).ok();
    let ask = |at: usize, token: &str| {
        let authorization = format!("authorization: Bearer {}", token.trim());
        let url = "http://127.0.0.1:4778/metrics";
        cluster.host(at).run("curl", &["-sS", "--max-time", "10", "-H", &authorization, url]).ok()
    };
    let of_worker = wait_for("the worker to hear of the token", || {
        let text = ask(1, &token);
        if text.contains("berth_agent_connected 1\n") { Ok(text) } else { Err(text) }
    });
    let (worker, manager) = (metrics(&of_worker), metrics(&ask(0, &token)));
    let shown: BTreeSet<&String> = worker.keys().collect();
    assert!(shown.iter().all(|name| manager.contains_key(*name)), "a manager's node shows the same of what runs there");
    for of_cluster in ["berth_raft_term", "berth_objects", "berth_service_replicas_running", "berth_node_ready"] {
        assert!(manager.contains_key(of_cluster) && !worker.contains_key(of_cluster), "{of_cluster}: {shown:?}");
    }
    assert!(ask(1, "berth_api_wrong").contains("\"status\":401"), "a wrong token shows nothing");
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What promtool does not look at.
fn well_formed(name: &str, metric: &Metric) {
    assert!(name.starts_with("berth_") || name.starts_with("process_"), "{name} is nobody's");
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{name}");
    let words = metric.help.split(' ').count();
    assert!(metric.help.ends_with('.') && !metric.help.ends_with("..") && words > 1, "{name}: {:?}", metric.help);
    match metric.kind.as_str() {
        "counter" => assert!(name.ends_with("_total"), "{name} is a counter"),
        "gauge" => assert!(!name.ends_with("_total"), "{name} is a gauge"),
        "histogram" => assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name} has no unit"),
        other => panic!("{name} is a {other}"),
    }
    for unit in ["_ms", "milli", "micro", "nano", "kilo", "mega", "percent"] {
        assert!(!name.contains(unit), "{name} is not in a base unit");
    }
}

#[test]
fn alert_rules_hold_in_prometheus_own_tool() {
    promtool(&["check", "rules", "berth.rules.yml"], "");
    promtool(&["test", "rules", "berth.rules.test.yml"], "");
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], "");
    let tests = fs::read_to_string(repository().join("deploy/prometheus/berth.rules.test.yml")).unwrap();
    let rules = fs::read_to_string(repository().join("deploy/prometheus/berth.rules.yml")).unwrap();
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        let fires = tests.split("alertname: ").skip(1).any(|test| {
            test.starts_with(&format!("{alert}\n"))
                && test.trim_start().lines().nth(1).is_some_and(|line| line.ends_with("exp_alerts:"))
        });
        assert!(fires, "no test lets {alert} fire");
    }
}

#[test]
fn dashboards_have_names_of_their_own_and_every_panel_asks_for_something() {
    let mut ids = BTreeSet::new();
    for (path, dashboard) in dashboards() {
        assert!(ids.insert(dashboard["uid"].as_str().unwrap().to_owned()), "{}", path.display());
        assert!(dashboard["title"].as_str().unwrap().starts_with("Berth / "));
        let panels = dashboard["panels"].as_array().unwrap();
        for panel in panels.iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{}: {}", path.display(), panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "it belongs to no one's data source");
        }
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
}

#[test]
fn names_and_labels_are_read_out_of_queries() {
    let query = r#"sum by (state) (rate(berth_tasks_total{job=~"$job", state!="a}\"b"}[5m])) / on (job) up == berth_x"#;
    let wanted = [
        ("berth_tasks_total".to_owned(), vec!["job".to_owned(), "state".to_owned()]),
        ("up".to_owned(), vec![]),
        ("berth_x".to_owned(), vec![]),
    ];
    assert_eq!(asked(query), wanted);
}
