//! `x-berth.autoscale`: what is read, what it begins with, what is refused and where, and that printing changes nothing.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use berth_compose::convert;
use berth_proto::spec::*;
use common::{bad, files, good, options};

const FULL: &str = "
    deploy: {resources: {reservations: {cpus: '0.5', memory: 64M}}}
    x-berth:
      autoscale:
        min: 2
        max: 10
        cpu: 60%
        memory: 80
        requests: {target: 50, metric: http_requests_total, port: 8080}
        tolerance: 0.2
        stabilization: {down: 2m}
        cooldown: 30s
        schedule:
          - {days: [mon-wed, fri], from: '08:00', to: '18:00', timezone: Europe/Berlin, min: 4, max: 20}
          - {days: sat-sun, from: '22:00', to: '06:00', min: 0, max: 0}
";

fn file(fields: &str) -> String {
    format!("services:\n  web:\n    image: nginx\n{}", fields.trim_start_matches('\n'))
}

fn one(fields: &str) -> ServiceSpec {
    good(&file(fields)).services.remove(0)
}

/// Of a service with a reservation of cpu, all errors.
fn refused(autoscale: &str) -> Vec<String> {
    let deploy = "    deploy: {resources: {reservations: {cpus: '0.5'}}}\n";
    bad(&file(&format!("{deploy}    x-berth: {{autoscale: {autoscale}}}\n")))
}

#[test]
fn everything_that_it_can_say() {
    let spec = one(FULL);
    let secs = Duration::from_secs;
    let time = |text: &str| text.parse::<TimeOfDay>().unwrap();
    use Weekday::{Fri, Mon, Sat, Sun, Tue, Wed};
    let office = Window {
        days: vec![Mon, Tue, Wed, Fri],
        from: time("08:00"),
        to: time("18:00"),
        timezone: Some("Europe/Berlin".into()),
        min: Some(4),
        max: Some(20),
    };
    let (min, max) = (Some(0), Some(0));
    let night = Window { days: vec![Sat, Sun], from: time("22:00"), to: time("06:00"), timezone: None, min, max };
    let requests =
        RequestTarget { target: 50, metric: "http_requests_total".into(), port: 8080, path: "/metrics".into() };
    let expected = Autoscale {
        min: 2,
        max: 10,
        cpu: Some(60),
        memory: Some(80),
        requests: Some(requests),
        tolerance: Ratio::try_from(0.2).unwrap(),
        stabilization: Pace { up: secs(0), down: secs(120) },
        cooldown: Pace { up: secs(30), down: secs(30) },
        schedule: vec![office, night],
    };
    assert_eq!(spec.autoscale, Some(expected));
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 2 }, "it begins with the fewest");
}

#[test]
fn what_is_left_out_has_a_default_and_a_given_number_is_where_it_begins() {
    let deploy = "    deploy: {replicas: 3, resources: {limits: {cpus: '1'}}}\n";
    let spec = one(&format!("{deploy}    x-berth: {{autoscale: {{max: 5, cpu: 50}}}}\n"));
    assert_eq!(spec.autoscale, Some(Autoscale { cpu: Some(50), ..Autoscale::between(1, 5) }));
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 3 });
    assert_eq!(one("    x-berth: {priority: 1}\n").autoscale, None);
    let wrapped =
        one("    x-berth: {autoscale: {max: 2, schedule: [{days: sat-mon, from: '8:00', to: '9:00', min: 2}]}}\n");
    let days = &wrapped.autoscale.unwrap().schedule[0].days;
    assert_eq!(*days, [Weekday::Mon, Weekday::Sat, Weekday::Sun]);
}

#[test]
fn the_normalised_file_says_the_same() {
    let (project, _) = berth_compose::load_from(&options(), &files(&[("compose.yaml", &file(FULL))])).unwrap();
    let printed = project.to_yaml();
    let (again, _) = berth_compose::load_from(&options(), &files(&[("compose.yaml", &printed)])).unwrap();
    assert_eq!(convert(&again).unwrap().services, convert(&project).unwrap().services, "{printed}");
    assert_eq!(again.to_yaml(), printed);
}

#[test]
fn each_mistake_is_named_at_its_place() {
    for (autoscale, error) in [
        ("5", "5:26: services.web.x-berth.autoscale: must be a mapping"),
        ("{cpu: 50}", "services.web.x-berth.autoscale: `max` is missing"),
        ("{max: 3, cpus: 50, cpu: 50}", "x-berth.autoscale.cpus: unknown field `cpus` (did you mean `cpu`?)"),
        ("{max: many, cpu: 50}", "5:32: services.web.x-berth.autoscale.max: must be a whole number"),
        ("{max: 3, cpu: half}", "x-berth.autoscale.cpu: must be a whole number of percent"),
        ("{max: 3, cpu: 50, tolerance: 2}", "x-berth.autoscale.tolerance: must be a number between 0 and 1"),
        ("{max: 3, cpu: 50, cooldown: soon}", "x-berth.autoscale.cooldown: must be a duration"),
        ("{max: 3, cpu: 50, cooldown: {sideways: 1s}}", "autoscale.cooldown.sideways: unknown field `sideways`"),
        ("{max: 3, cpu: 50, stabilization: {up: 2h}}", "x-berth.autoscale.stabilization.up: may be one hour at most"),
        ("{max: 3, memory: 50}", "5:43: services.web.x-berth.autoscale.memory: is a share of the memory"),
        ("{min: 4, max: 3, cpu: 50}", "5:40: services.web.x-berth.autoscale.max: 3 is less than min, which is 4"),
        ("{max: 3, requests: {target: 1, metric: m}}", "x-berth.autoscale.requests: `port` is missing"),
        ("{max: 3, requests: {target: 1, metric: m, port: 99999}}", "autoscale.requests.port: 99999 is not a port"),
        ("{max: 3, requests: {target: 1, metric: 9m, port: 80}}", "autoscale.requests.metric: \"9m\" is not the name"),
        ("{max: 3, schedule: {from: '8:00'}}", "x-berth.autoscale.schedule: must be a list"),
        ("{max: 3, schedule: [{from: '8:00', min: 2}]}", "autoscale.schedule[0]: `to` is missing"),
        (
            "{max: 3, schedule: [{from: '8:00', to: '25:00', min: 2}]}",
            "autoscale.schedule[0].to: \"25:00\" is not a time",
        ),
        (
            "{max: 3, schedule: [{days: [mo], from: '8:00', to: '9:00', min: 2}]}",
            "autoscale.schedule[0].days: `mo` is not a day of the week",
        ),
        (
            "{max: 3, schedule: [{from: '8:00', to: '9:00', min: 2, timezone: Moon}]}",
            "x-berth.autoscale.schedule: \"Moon\" is not a known time zone",
        ),
    ] {
        let errors = refused(autoscale);
        assert!(errors.len() == 1 && errors[0].contains(error), "{autoscale}: {errors:?}");
    }
}

#[test]
fn only_a_number_of_replicas_within_the_bounds_follows_the_load() {
    let scaled = "    x-berth: {autoscale: {min: 2, max: 5, cpu: 50}}\n";
    let with = |deploy: &str| bad(&file(&format!("    cpus: 1\n    deploy: {{{deploy}}}\n{scaled}")));
    let errors = with("replicas: 9");
    assert!(errors[0].contains("services.web.deploy.replicas: 9 is not between the 2 and 5"), "{errors:?}");
    let errors = with("mode: global");
    assert!(errors[0].contains("x-berth.autoscale: only replicated services"), "{errors:?}");
}
