use super::*;
use crate::spec::{
    BindMount, ContainerSpec, EndpointMode, Healthcheck, Mount, MountKind, NetworkAttachmentSpec, PortConfig, Protocol,
    PublishMode, Ulimit, VolumeMount,
};

fn web() -> ServiceSpec {
    let container = ContainerSpec { image: "nginx:1.25".to_owned(), ..ContainerSpec::default() };
    ServiceSpec::new("shop_web".parse().expect("a name"), container)
}

fn errors(spec: &ServiceSpec) -> Vec<String> {
    spec.validate().map_or_else(|invalid| invalid.errors.iter().map(ToString::to_string).collect(), |()| Vec::new())
}

fn port(published: u16) -> PortConfig {
    PortConfig {
        name: None,
        protocol: Protocol::Tcp,
        target: 80,
        published: Some(published),
        mode: PublishMode::Ingress,
        host_ip: None,
    }
}

#[test]
fn a_plain_service_is_valid() {
    assert_eq!(errors(&web()), Vec::<String>::new());
}

#[test]
fn all_errors_come_at_once_with_their_paths() {
    let mut spec = web();
    spec.task.container.image = String::new();
    spec.task.container.workdir = Some("srv".to_owned());
    spec.task.container.capabilities.add.push("NET_ADMINN".to_owned());
    spec.task.container.ulimits.insert("nofile".to_owned(), Ulimit { soft: 20, hard: 10 });
    spec.task.container.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
    spec.endpoint.ports = vec![port(80), port(80)];
    let paths: Vec<String> =
        spec.validate().expect_err("six mistakes").errors.into_iter().map(|error| error.path).collect();
    assert_eq!(
        paths,
        [
            "endpoint.ports[1].published",
            "task.container.image",
            "task.container.workdir",
            "task.container.capabilities.add[0]",
            "task.container.ulimits.nofile",
            "task.container.sysctls.vm.swappiness",
        ]
    );
}

#[test]
fn one_mistake_gives_one_error_that_says_what_to_do() {
    type Change = fn(&mut ServiceSpec);
    let cases: [(Change, &str); 12] = [
        (|s| s.task.resources.limits.memory = Some(1024), "under the least limit of 6m"),
        (|s| s.task.resources.reservations.memory = 9 << 20, ""),
        (
            |s| {
                s.task.resources.limits.memory = Some(8 << 20);
                s.task.resources.reservations.memory = 9 << 20;
            },
            "but the limit is 8388608",
        ),
        (|s| s.task.log.driver = "syslog".to_owned(), "read the logs with `berth logs`"),
        (
            |s| {
                s.task.log.options.insert("max-size".to_owned(), "ten".to_owned());
            },
            "not a size of 4k or more",
        ),
        (|s| s.task.container.healthcheck = Some(Healthcheck { retries: 0, ..Healthcheck::default() }), "at least 1"),
        (|s| s.task.container.stop_signal = Some("SIGFOO".to_owned()), "not a signal"),
        (|s| s.task.container.hostname = Some("-web".to_owned()), "not a host name"),
        (|s| s.task.container.hostname = Some("{{.Node.Hostname}}".to_owned()), ""),
        (
            |s| {
                let name = s.name.clone();
                s.depends_on.insert(
                    name,
                    crate::spec::DependsOn { condition: Default::default(), restart: false, required: true },
                );
            },
            "cannot depend on itself",
        ),
        (
            |s| {
                s.endpoint.mode = EndpointMode::Dnsrr;
                s.endpoint.ports = vec![port(80)];
            },
            "endpoint_mode: vip",
        ),
        (
            |s| {
                for network in ["host", "back"] {
                    s.task.networks.push(NetworkAttachmentSpec {
                        network: network.parse().expect("a name"),
                        aliases: Vec::new(),
                        ipv4: None,
                        ipv6: None,
                        priority: 0,
                        gateway_priority: 0,
                        mac_address: None,
                    });
                }
            },
            "cannot be combined",
        ),
    ];
    for (change, expected) in cases {
        let mut spec = web();
        change(&mut spec);
        let found = errors(&spec);
        match expected {
            "" => assert!(found.is_empty(), "{found:?}"),
            _ => assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}"),
        }
    }
}

#[test]
fn a_mount_may_not_lead_upwards_or_stand_twice() {
    let bind = |target: &str| Mount {
        target: target.to_owned(),
        read_only: false,
        kind: MountKind::Bind(BindMount {
            source: "/srv".to_owned(),
            create_host_path: false,
            propagation: Default::default(),
            non_recursive: false,
        }),
    };
    let mut spec = web();
    spec.task.container.mounts = vec![bind("/a"), bind("/a/"), bind("/a/../../etc"), bind("/")];
    let found = errors(&spec);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("mounted twice"), "{found:?}");
}

#[test]
fn sizes_and_signals_are_read_as_docker_reads_them() {
    for (text, bytes) in [("4096", 4096), ("10m", 10 << 20), ("1.5gb", 3 << 29), ("2KiB", 2048), ("1t", 1 << 40)] {
        assert_eq!(parse_bytes(text), Some(bytes), "{text}");
    }
    for text in ["", "m", "1x", "-1", "99999999999999999999", "1e9g"] {
        assert_eq!(parse_bytes(text), None, "{text}");
    }
    for (text, number) in [("TERM", 15), ("SIGTERM", 15), ("sigusr1", 10), ("9", 9), ("RTMIN+3", 37), ("SIGRTMIN", 34)]
    {
        assert_eq!(signal_number(text), Some(number), "{text}");
    }
    for text in ["", "0", "65", "SIG", "FOO", "RTMIN+99", "RTMIN-1"] {
        assert_eq!(signal_number(text), None, "{text}");
    }
}

#[test]
fn placeholders_are_checked_before_a_task_starts() {
    let mut spec = web();
    spec.task.container.hostname = Some("{{.Node.Hostname}}-{{.Task.Slott}}".to_owned());
    spec.task.container.env.insert("A".to_owned(), "{{env \"B\"}}".to_owned());
    spec.task.container.env.insert("SLOT".to_owned(), "{{.Task.Slot}}".to_owned());
    let volume = VolumeMount {
        name: None,
        name_template: Some("data-{{.Task.Slot".to_owned()),
        no_copy: false,
        subpath: None,
        driver: None,
        driver_options: Default::default(),
        labels: Default::default(),
    };
    let kind = MountKind::Volume(volume);
    spec.task.container.mounts.push(Mount { target: "/data".to_owned(), read_only: false, kind });
    let paths: Vec<String> =
        spec.validate().expect_err("three mistakes").errors.into_iter().map(|error| error.path).collect();
    assert_eq!(paths, ["task.container.env.A", "task.container.hostname", "task.container.mounts[0].name_template"]);
    let template = |data: &'static [u8], template_driver| ConfigSpec {
        name: "conf".parse().expect("a name"),
        stack: None,
        labels: Default::default(),
        template_driver,
        data: data.into(),
    };
    let golang = Some(crate::spec::TemplateDriver::Golang);
    for (data, driver, wrong) in [
        (&b"{{env \"A\"}}"[..], golang, ""),
        (b"{{.Nope}}", None, ""),
        (b"\xff", None, ""),
        (b"{{.Nope}}", golang, "data: unknown placeholder '{{.Nope}}'"),
        (b"secret words {{env", golang, "data: has '{{' without '}}'"),
        (b"\xff", golang, "data: is not UTF-8"),
    ] {
        let found = template(data, driver).validate().map_or_else(|invalid| invalid.to_string(), |()| String::new());
        assert!(found.starts_with(wrong) && found.is_empty() == wrong.is_empty(), "{data:?}: {found}");
    }
}

mod autoscaling {
    use std::time::Duration;

    use super::{errors, web};
    use crate::spec::{Autoscale, RequestTarget, ServiceMode, ServiceSpec, Weekday, Window};

    fn requests() -> RequestTarget {
        RequestTarget { target: 50, metric: "http_requests_total".into(), port: 80, path: "/metrics".into() }
    }

    fn window() -> Window {
        let time = |text: &str| text.parse().expect("a time");
        let (from, to) = (time("08:00"), time("18:00"));
        Window { days: vec![Weekday::Mon, Weekday::Fri], from, to, timezone: None, min: Some(3), max: None }
    }

    fn scaled() -> ServiceSpec {
        let mut spec = web();
        spec.task.resources.reservations.nano_cpus = 500_000_000;
        let requests = Some(requests());
        let schedule = vec![Window { timezone: Some("Europe/Berlin".into()), ..window() }];
        spec.autoscale = Some(Autoscale { cpu: Some(60), requests, schedule, ..Autoscale::between(1, 10) });
        spec
    }

    #[test]
    fn a_plain_one_is_valid_and_so_is_none_at_night() {
        assert_eq!(errors(&scaled()), Vec::<String>::new());
        let mut spec = scaled();
        let night = Window { min: Some(0), max: Some(0), ..window() };
        spec.autoscale.as_mut().expect("set").schedule.push(night);
        assert_eq!(errors(&spec), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_names_its_field() {
        type Change = fn(&mut ServiceSpec, &mut Autoscale);
        let cases: [(Change, &str); 21] = [
            (|_, a| a.min = 0, "autoscale.min: must be at least 1"),
            (|s, _| s.mode = ServiceMode::Replicated { replicas: 11 }, "mode.replicas: 11 is not between the 1 and 10"),
            (|s, _| s.mode = ServiceMode::Global, "autoscale: only replicated services"),
            (|_, a| (a.min, a.max, a.schedule) = (5, 4, Vec::new()), "autoscale.max: 4 is less than min, which is 5"),
            (|_, a| a.max = 2_000_000, "autoscale.max: 2000000 is over the limit"),
            (|_, a| a.cpu = Some(0), "autoscale.cpu: 0 is not between 1 and 1000 percent"),
            (|_, a| a.memory = Some(80), "autoscale.memory: is a share of the memory that a replica reserves"),
            (|s, _| s.task.resources.reservations.nano_cpus = 0, "autoscale.cpu: is a share of the cpu"),
            (|_, a| a.requests = Some(RequestTarget { target: 0, ..requests() }), "autoscale.requests.target: must be"),
            (
                |_, a| a.requests = Some(RequestTarget { metric: "9a".into(), ..requests() }),
                "autoscale.requests.metric",
            ),
            (|_, a| a.requests = Some(RequestTarget { metric: "a{}".into(), ..requests() }), "not the name of a Prom"),
            (|_, a| a.requests = Some(RequestTarget { port: 0, ..requests() }), "autoscale.requests.port: must be"),
            (|_, a| a.requests = Some(RequestTarget { path: "a b".into(), ..requests() }), "autoscale.requests.path"),
            (|_, a| a.cooldown.up = Duration::from_secs(3_601), "autoscale.cooldown.up: may be one hour at most"),
            (|_, a| a.stabilization.down = Duration::MAX, "autoscale.stabilization.down: may be one hour at most"),
            (|_, a| a.schedule[0].to = a.schedule[0].from, "autoscale.schedule[0].to: is when it begins"),
            (
                |_, a| a.schedule[0].timezone = Some("Mars/Olympus".into()),
                "autoscale.schedule[0].timezone: \"Mars/Olym",
            ),
            (|_, a| a.schedule[0].min = None, "autoscale.schedule[0]: changes neither min nor max"),
            (|_, a| a.schedule[0].min = Some(11), "autoscale.schedule[0].max: 10 is less than min, which is 11"),
            (|_, a| a.schedule[0].days.reverse(), "autoscale.schedule[0].days: must name each day once"),
            (
                |_, a| (a.cpu, a.requests, a.schedule) = (None, None, Vec::new()),
                "autoscale: says nothing that the number of replicas follows (set cpu, memory, requests or schedule)",
            ),
        ];
        for (change, expected) in cases {
            let mut spec = scaled();
            let mut autoscale = spec.autoscale.take().expect("set");
            change(&mut spec, &mut autoscale);
            spec.autoscale = Some(autoscale);
            let errors = errors(&spec);
            assert!(errors.len() == 1 && errors[0].contains(expected), "{expected}: {errors:?}");
        }
    }
}
