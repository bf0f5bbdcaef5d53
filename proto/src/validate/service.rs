//! Services: mode, ports, networks, dependencies, logging, rollout.

use std::collections::BTreeSet;

use super::{Checker, autoscale, container, network, resources};
use crate::spec::{
    EndpointMode, LogSpec, Placement, Preference, PublishMode, Scope, ServiceMode, ServiceSpec, TaskSpec,
};

/// Most tasks that one service may ask for.
pub const MAX_TASKS: u64 = 1_000_000;

pub(super) fn check(spec: &ServiceSpec, check: &mut Checker) {
    check.labels("labels", &spec.labels);
    check.within("mode", |check| mode(spec.mode, check));
    autoscale::check(spec, check);
    check.within("endpoint", |check| endpoint(spec, check));
    check.within("task", |check| task(&spec.task, check));
    for (field, config) in [("update", &spec.update), ("rollback", &spec.rollback)] {
        let day = 24 * 3600;
        let holds = config.monitor.as_secs() <= day && config.delay.as_secs() <= day;
        check.rule(field, holds, || "delay and monitor may be one day at most".to_owned());
    }
    let job = matches!(spec.mode, ServiceMode::ReplicatedJob { .. });
    check.rule("task.placement.gang", job || !spec.task.placement.gang, || {
        format!("only the tasks of a replicated-job start together, this is {}", spec.mode.as_str())
    });
    if spec.depends_on.contains_key(&spec.name) {
        check.within("depends_on", |check| check.refuse("a service cannot depend on itself"));
    }
}

fn mode(mode: ServiceMode, check: &mut Checker) {
    match mode {
        ServiceMode::Replicated { replicas } => {
            check.rule("replicas", replicas <= MAX_TASKS, || format!("{replicas} is over the limit of {MAX_TASKS}"));
        }
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            check.rule("max_concurrent", max_concurrent > 0, || "must be at least 1".to_owned());
            check.rule("total_completions", total_completions <= MAX_TASKS, || {
                format!("{total_completions} is over the limit of {MAX_TASKS}")
            });
        }
        ServiceMode::Global | ServiceMode::GlobalJob => {}
    }
}

fn endpoint(spec: &ServiceSpec, check: &mut Checker) {
    let mut seen = BTreeSet::new();
    let host_network = spec.task.networks.iter().any(|network| &*network.network == "host");
    check.each("ports", &spec.endpoint.ports, |check, port| {
        check.rule("target", port.target > 0, || "must be between 1 and 65535".to_owned());
        check.rule("published", port.published != Some(0), || "must be between 1 and 65535".to_owned());
        if spec.endpoint.mode == EndpointMode::Dnsrr && port.mode == PublishMode::Ingress {
            check.refuse_with(
                "a service in dnsrr mode has no virtual address to publish through",
                "use mode: host for the port, or endpoint_mode: vip",
            );
        }
        if host_network {
            check.refuse_with("a service on the host's network publishes nothing", "remove the port");
        }
        if let Some(published) = port.published
            && !seen.insert((published, port.protocol, port.host_ip))
        {
            let protocol = format!("{:?}", port.protocol).to_lowercase();
            check.within("published", |check| check.refuse(format!("port {published}/{protocol} is published twice")));
        }
    });
}

fn task(spec: &TaskSpec, check: &mut Checker) {
    check.within("container", |check| container::check(&spec.container, check));
    check.within("resources", |check| resources::check(&spec.resources, check));
    check.within("log", |check| log(&spec.log, check));
    network::check_attachments(&spec.networks, check);
    check.within("placement", |check| placement(&spec.placement, check));
    let window = spec.restart.window.as_secs() <= 365 * 24 * 3600;
    check.rule("restart.window", window, || "may be one year at most".to_owned());
}

fn placement(placement: &Placement, check: &mut Checker) {
    let is_label = |by: &str| by.starts_with("node.labels.") || by.starts_with("engine.labels.");
    check.each("preferences", &placement.preferences, |check, Preference::Spread(by)| {
        check.rule("spread", is_label(by), || format!("{by:?} is not node.labels.NAME or engine.labels.NAME"));
    });
    check.each("affinity", &placement.affinity, |check, rule| {
        if let Scope::Attribute(by) = &rule.scope {
            let refusal = || format!("{by:?} is not node, node.labels.NAME or engine.labels.NAME");
            check.rule("scope", is_label(by), refusal);
        }
    });
}

fn log(log: &LogSpec, check: &mut Checker) {
    if !["local", "json-file", "none"].contains(&log.driver.as_str()) {
        check.within("driver", |check| {
            check.refuse_with(
                format!("log driver {:?} is not supported", log.driver),
                "local, json-file and none are; read the logs with `berth logs`",
            );
        });
    }
    for (option, value) in &log.options {
        check.within(&format!("options.{option}"), |check| match option.as_str() {
            "max-size" if value == "-1" || resources::parse_bytes(value).is_some_and(|bytes| bytes >= 4096) => {}
            "max-size" => check.refuse(format!("{value:?} is not a size of 4k or more, such as 10m")),
            "max-file" if value.parse::<u32>().is_ok_and(|count| (1..=1000).contains(&count)) => {}
            "max-file" => check.refuse(format!("{value:?} is not a number between 1 and 1000")),
            _ => check.refuse_with("is not a log option that is supported", "max-size and max-file are"),
        });
    }
}
