//! Autoscaling: bounds, targets that can be measured, durations, the schedule.

use std::time::Duration;

use super::Checker;
use super::service::MAX_TASKS;
use crate::spec::{Autoscale, Pace, RequestTarget, ServiceMode, ServiceSpec, Window, zone};

/// Most percent of a reservation that can be a target.
pub const MAX_PERCENT: u32 = 1_000;
/// Longest that a load may have to be seen, or that changes may lie apart.
pub const MAX_PACE: Duration = Duration::from_secs(3_600);
/// Most windows of a schedule.
pub const MAX_WINDOWS: usize = 100;
const MAX_TEXT: usize = 1_024;

pub(super) fn check(spec: &ServiceSpec, check: &mut Checker) {
    let Some(autoscale) = &spec.autoscale else { return };
    match spec.mode {
        ServiceMode::Replicated { replicas } => {
            let Autoscale { min, max, .. } = *autoscale;
            // A wrong range is said below.
            let within = min > max || (min..=max).contains(&replicas);
            check.rule("mode.replicas", within, || {
                format!("{replicas} is not between the {min} and {max} that autoscale asks for")
            });
        }
        other => check.within("autoscale", |check| {
            check.refuse(format!("only replicated services are scaled by their load, this is {}", other.as_str()));
        }),
    }
    check.within("autoscale", |check| {
        bounds(autoscale.min, autoscale.max, check);
        resources(spec, autoscale, check);
        if let Some(requests) = &autoscale.requests {
            check.within("requests", |check| self::requests(requests, check));
        }
        for (field, pace) in [("stabilization", autoscale.stabilization), ("cooldown", autoscale.cooldown)] {
            check.within(field, |check| self::pace(pace, check));
        }
        schedule(autoscale, check);
        let has_target = autoscale.cpu.is_some() || autoscale.memory.is_some() || autoscale.requests.is_some();
        if !has_target && autoscale.schedule.is_empty() {
            check.refuse_with(
                "says nothing that the number of replicas follows",
                "set cpu, memory, requests or schedule",
            );
        }
    });
}

/// A service without a replica has no load that would bring it back: none is fine only where there may be none at all.
fn bounds(min: u64, max: u64, check: &mut Checker) {
    check.rule("min", min > 0 || max == 0, || "must be at least 1, or max be 0 too".to_owned());
    check.rule("max", max >= min, || format!("{max} is less than min, which is {min}"));
    check.rule("max", max <= MAX_TASKS, || format!("{max} is over the limit of {MAX_TASKS}"));
}

fn holds(min: u64, max: u64) -> bool {
    (min > 0 || max == 0) && (min..=MAX_TASKS).contains(&max)
}

fn resources(spec: &ServiceSpec, autoscale: &Autoscale, check: &mut Checker) {
    let (limits, reserved) = (&spec.task.resources.limits, &spec.task.resources.reservations);
    let cpu = reserved.nano_cpus > 0 || limits.nano_cpus.is_some();
    let memory = reserved.memory > 0 || limits.memory.is_some();
    for (field, percent, is_known) in [("cpu", autoscale.cpu, cpu), ("memory", autoscale.memory, memory)] {
        let Some(percent) = percent else { continue };
        check.rule(field, (1..=MAX_PERCENT).contains(&percent), || {
            format!("{percent} is not between 1 and {MAX_PERCENT} percent")
        });
        if !is_known {
            check.within(field, |check| {
                check.refuse_with(
                    format!("is a share of the {field} that a replica reserves, or may use, but neither is set"),
                    format!("set a reservation or a limit of {field}"),
                );
            });
        }
    }
}

fn requests(requests: &RequestTarget, check: &mut Checker) {
    check.rule("target", requests.target > 0, || "must be at least 1 request per second".to_owned());
    check.rule("metric", is_metric(&requests.metric), || {
        format!("{:?} is not the name of a Prometheus metric, such as http_requests_total", requests.metric)
    });
    check.rule("port", requests.port > 0, || "must be between 1 and 65535".to_owned());
    let is_path = |path: &str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    check.rule("path", is_path(&requests.path) && requests.path.len() <= MAX_TEXT, || {
        format!("{:?} is not a path such as /metrics", requests.path)
    });
}

/// Prometheus' data model: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
fn is_metric(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.len() <= MAX_TEXT && name.chars().all(fits) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn pace(pace: Pace, check: &mut Checker) {
    for (field, duration) in [("up", pace.up), ("down", pace.down)] {
        check.rule(field, duration <= MAX_PACE, || "may be one hour at most".to_owned());
    }
}

fn schedule(autoscale: &Autoscale, check: &mut Checker) {
    let windows = &autoscale.schedule;
    check.rule("schedule", windows.len() <= MAX_WINDOWS, || format!("has more than {MAX_WINDOWS} windows"));
    check.each("schedule", windows, |check, window: &Window| {
        check.rule("days", window.days.is_sorted_by(|a, b| a < b), || {
            "must name each day once, in the order of the week".to_owned()
        });
        if window.from == window.to {
            check.within("to", |check| check.refuse_with("is when it begins", "use 00:00 and 24:00 for the whole day"));
        }
        check.rule("from", window.from.minutes() < 24 * 60, || "is the end of the day".to_owned());
        if zone(window.timezone.as_deref()).is_none() {
            let name = window.timezone.as_deref().unwrap_or_default();
            check.within("timezone", |check| {
                check.refuse_with(
                    format!("{name:?} is not a known time zone"),
                    "name one as Europe/Berlin; without it, it is UTC",
                );
            });
        }
        if window.min.is_none() && window.max.is_none() {
            check.refuse("changes neither min nor max");
        }
        // What is wrong with the bounds outside of windows was said.
        if holds(autoscale.min, autoscale.max) {
            bounds(window.min.unwrap_or(autoscale.min), window.max.unwrap_or(autoscale.max), check);
        }
    });
}
