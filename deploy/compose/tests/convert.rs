//! Projects to specs: each field ends where it should, or is warned about or refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::spec::*;
use common::{bad, good};

fn one(fields: &str) -> ServiceSpec {
    let mut services = good(&format!("services:\n  web:\n    image: nginx\n{fields}")).services;
    assert_eq!(services.len(), 1);
    services.remove(0)
}

fn refused(fields: &str) -> String {
    bad(&format!("services:\n  web:\n    image: nginx\n{fields}")).join("\n")
}

fn warned(fields: &str) -> Vec<String> {
    let stack = good(&format!("services:\n  web:\n    image: nginx\n{fields}"));
    stack.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_service() {
    let stack = good("name: shop\nservices:\n  web:\n    image: nginx:1.25\n");
    assert_eq!(stack.name.as_str(), "shop");
    let web = &stack.services[0];
    assert_eq!(web.name.as_str(), "shop_web");
    assert_eq!(web.stack.as_deref(), Some("shop"));
    assert_eq!(web.task.container.image, "nginx:1.25");
    assert_eq!(web.mode, ServiceMode::Replicated { replicas: 1 });
    assert_eq!(web.task.restart, RestartPolicy::default());
    let network = &web.task.networks[0];
    assert_eq!((network.network.as_str(), &network.aliases[..]), ("shop_default", &["web".to_owned()][..]));
    assert_eq!(stack.networks[0].name.as_str(), "shop_default");
    assert_eq!(stack.networks[0].driver, NetworkDriver::Overlay);
    assert!(stack.warnings.is_empty(), "{:?}", stack.warnings);
}

#[test]
fn the_process() {
    let spec = one(r#"
    command: sh -c 'echo "$$HOME"'
    entrypoint: []
    environment: {A: 1, B: true, C: null, D: 1.50, E: ""}
    user: "1000:1000"
    group_add: [audio, 44]
    working_dir: /srv
    hostname: box
    domainname: example.org
    init: true
    tty: "yes"
    stdin_open: true
    read_only: true
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    labels: [a=b, c]
    pull_policy: always
"#);
    let container = spec.task.container;
    assert_eq!(container.command.unwrap(), ["sh", "-c", "echo \"$HOME\""]);
    assert_eq!(container.entrypoint, Some(Vec::new()));
    let env: BTreeMap<&str, &str> = container.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, BTreeMap::from([("A", "1"), ("B", "true"), ("D", "1.5"), ("E", "")]));
    assert_eq!(container.user.as_deref(), Some("1000:1000"));
    assert_eq!(container.groups, ["audio", "44"]);
    assert_eq!(container.workdir.as_deref(), Some("/srv"));
    assert!(container.init && container.tty && container.stdin_open && container.read_only);
    assert_eq!(container.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(container.stop_grace_period, Duration::from_secs(90));
    assert_eq!(container.labels, BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())]));
    assert_eq!(container.pull_policy, PullPolicy::Always);
}

#[test]
fn isolation() {
    let spec = one(r#"
    cap_add: [CAP_NET_ADMIN]
    cap_drop: [all]
    privileged: true
    security_opt: [no-new-privileges:true, seccomp=unconfined]
    ulimits: {nproc: 65535, nofile: {soft: 20000, hard: 40000}}
    sysctls: {net.core.somaxconn: 1024}
    devices: ["/dev/null:/dev/other:r"]
    device_cgroup_rules: ["c 1:3 mr"]
    extra_hosts: ["a:10.0.0.1", "b=host-gateway"]
    dns: 9.9.9.9
    dns_search: [example.org]
    dns_opt: ["ndots:2"]
    shm_size: 64m
    oom_score_adj: -10
    pid: host
    ipc: host
    uts: host
    cgroup: host
"#);
    let container = spec.task.container;
    assert_eq!(container.capabilities, CapabilitySpec { add: vec!["NET_ADMIN".into()], drop: vec!["ALL".into()] });
    assert!(container.privileged && container.no_new_privileges);
    assert_eq!(container.seccomp, SeccompMode::Unconfined);
    assert_eq!(container.ulimits["nproc"], Ulimit { soft: 65535, hard: 65535 });
    assert_eq!(container.ulimits["nofile"], Ulimit { soft: 20000, hard: 40000 });
    assert_eq!(container.sysctls["net.core.somaxconn"], "1024");
    let device = DeviceMapping { source: "/dev/null".into(), target: "/dev/other".into(), permissions: "r".into() };
    assert_eq!(container.devices, [device]);
    assert_eq!(container.extra_hosts[1], HostEntry { host: "b".into(), address: "host-gateway".into() });
    assert_eq!(container.dns.nameservers, ["9.9.9.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(container.shm_size, Some(64 << 20));
    let host = NamespaceMode::Host;
    assert_eq!([container.pid_mode, container.ipc_mode, container.uts_mode, container.cgroupns_mode], [host; 4]);
}

#[test]
fn mounts() {
    let stack = good(
        r#"
name: shop
services:
  web:
    image: nginx
    volumes:
      - data:/data:ro
      - ./conf:/conf:rslave
      - /anonymous/
      - {type: tmpfs, target: /t, tmpfs: {size: 16m, mode: 0700}}
      - {type: volume, source: out, target: /out, volume: {subpath: a/b, nocopy: true}}
      - {type: image, source: "busybox", target: /img}
    tmpfs: ["/run:size=1m,noexec"]
volumes:
  data: {labels: [a=b]}
  out: {external: true, name: elsewhere}
"#,
    );
    let mounts = &stack.services[0].task.container.mounts;
    let show: Vec<String> = mounts.iter().map(|mount| serde_json::to_string(mount).unwrap()).collect();
    insta::assert_snapshot!("mounts", show.join("\n"));
    assert_eq!(stack.volumes.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>(), ["shop_data"]);
    assert_eq!(stack.externals.len(), 1);
    assert_eq!(stack.externals[0].name, "elsewhere");
}

#[test]
fn a_volume_whose_name_has_placeholders_is_one_for_each_task() {
    let stack = good(
        r#"
name: shop
services:
  db:
    image: postgres
    volumes: [data:/data, {type: volume, source: theirs, target: /theirs}]
volumes:
  data: {name: "data-{{.Task.Slot}}", labels: [a=b], driver_opts: {type: none, o: bind, device: "/srv/{{.Task.Slot}}"}}
  theirs: {external: true, name: "theirs-{{.Node.Hostname}}"}
"#,
    );
    assert!(stack.volumes.is_empty() && stack.externals.is_empty(), "no object stands for them");
    let mounts = &stack.services[0].task.container.mounts;
    let show: Vec<String> = mounts.iter().map(|mount| serde_json::to_string(mount).unwrap()).collect();
    insta::assert_snapshot!("mounts_per_task", show.join("\n"));
}

#[test]
fn contents_can_be_templates() {
    let text = |driver: &str, content: &str| {
        format!(
            "name: shop\nservices:\n  web:\n    image: nginx\n    configs: [a]\nconfigs:\n  a:\n    \
             template_driver: {driver}\n    content: '{content}'\n"
        )
    };
    let stack = good(&text("golang", "{{.Node.Hostname}} {{secret \"key\"}}"));
    assert_eq!(stack.configs[0].template_driver, Some(TemplateDriver::Golang));
    let wrong = bad(&text("jinja", "x"));
    assert!(wrong[0].contains("8:22: configs.a.template_driver: there is no template driver `jinja`"), "{wrong:?}");
    let wrong = bad(&text("golang", "{{range .Tasks}}x{{end}}"));
    assert!(wrong[0].contains("configs.a: cannot read the placeholder"), "{wrong:?}");
    let plain = good(&text("\"\"", "{{anything}}"));
    assert_eq!(plain.configs[0].template_driver, None);
}

#[test]
fn configs_and_secrets_carry_their_contents() {
    let text = r#"
name: shop
services:
  web:
    image: nginx
    configs: [plain, {source: env, target: etc/app.conf, mode: 0640, uid: "5"}]
    secrets: [key, {source: key, target: other}]
configs:
  plain: {content: "hello $${x}"}
  env: {environment: CONF}
secrets:
  key: {file: ./key.txt}
"#;
    let mut options = common::options();
    options.env.insert("CONF".to_owned(), "from env".to_owned());
    let files = common::files(&[("compose.yaml", text), ("key.txt", "s3cret")]);
    let (project, _) = berth_compose::load_from(&options, &files).unwrap();
    let stack = berth_compose::convert(&project).unwrap();
    let data: Vec<(&str, &[u8])> =
        stack.configs.iter().map(|config| (config.name.as_str(), &config.data[..])).collect();
    assert_eq!(data, [("shop_env", &b"from env"[..]), ("shop_plain", &b"hello ${x}"[..])]);
    assert_eq!(&stack.secrets[0].data.0[..], b"s3cret");
    let container = &stack.services[0].task.container;
    let targets: Vec<(&str, &str, u32)> = container
        .configs
        .iter()
        .chain(&container.secrets)
        .map(|f| (f.source.as_str(), f.target.as_str(), f.mode))
        .collect();
    assert_eq!(
        targets,
        [
            ("shop_plain", "/plain", 0o444),
            ("shop_env", "/etc/app.conf", 0o640),
            ("shop_key", "/run/secrets/key", 0o444),
            ("shop_key", "/run/secrets/other", 0o444)
        ]
    );
    assert!(!project.to_yaml().contains("s3cret"));
}

#[test]
fn a_config_whose_file_is_missing_is_refused_when_converted_only() {
    let text = "services:\n  web:\n    image: nginx\n    configs: [a]\nconfigs:\n  a:\n    file: ./no\n";
    assert!(common::load(text).is_ok());
    assert_eq!(bad(text), ["/app/compose.yaml:7:11: configs.a: cannot read /app/no: no such file"]);
}

#[test]
fn deploy() {
    let spec = one(r#"
    deploy:
      mode: replicated
      replicas: 6
      labels: {tier: front}
      endpoint_mode: dnsrr
      update_config: {parallelism: 3, delay: 10s, failure_action: rollback, monitor: 1m, max_failure_ratio: 0.3, order: start-first}
      rollback_config: {parallelism: 0, failure_action: continue}
      resources:
        limits: {cpus: "0.5", memory: 50M, pids: 100}
        reservations:
          cpus: 0.25
          memory: 20M
          generic_resources: [{discrete_resource_spec: {kind: ssd, value: 2}}]
          devices: [{capabilities: [gpu], count: all}]
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
      placement:
        constraints: [node.role == worker]
        preferences: [{spread: node.labels.az}]
        max_replicas_per_node: 5
"#);
    insta::assert_json_snapshot!(
        "deploy",
        serde_json::json!({
            "mode": spec.mode, "labels": spec.labels, "update": spec.update, "rollback": spec.rollback,
            "endpoint": spec.endpoint, "resources": spec.task.resources, "restart": spec.task.restart,
            "placement": spec.task.placement,
        })
    );
}

#[test]
fn older_fields_for_resources_and_restart() {
    let spec = one(
        "    cpus: 1.5\n    mem_limit: 1g\n    mem_reservation: 512m\n    memswap_limit: 2g\n    pids_limit: 50\n    restart: on-failure:3\n    scale: 2\n    cpuset: 0-1\n    cpu_shares: 512\n",
    );
    let limits = &spec.task.resources.limits;
    assert_eq!(
        (limits.nano_cpus, limits.memory, limits.memory_swap),
        (Some(1_500_000_000), Some(1 << 30), Some(2 << 30))
    );
    assert_eq!((limits.pids, limits.cpu_shares, limits.cpuset.as_deref()), (Some(50), Some(512), Some("0-1")));
    assert_eq!(spec.task.resources.reservations.memory, 512 << 20);
    assert_eq!(spec.task.restart.condition, RestartCondition::OnFailure);
    assert_eq!(spec.task.restart.max_attempts, Some(3));
    assert_eq!(spec.mode, ServiceMode::Replicated { replicas: 2 });
    assert_eq!(one("    cpu_quota: 50000\n").task.resources.limits.nano_cpus, Some(500_000_000));
}

#[test]
fn restart_words() {
    for (word, condition) in [
        ("\"no\"", RestartCondition::None),
        ("no", RestartCondition::None),
        ("always", RestartCondition::Any),
        ("unless-stopped", RestartCondition::Any),
        ("on-failure", RestartCondition::OnFailure),
    ] {
        assert_eq!(one(&format!("    restart: {word}\n")).task.restart.condition, condition, "{word}");
    }
    assert!(refused("    restart: sometimes\n").contains("`sometimes` is not a restart policy"));
    let both = "    restart: always\n    deploy: {restart_policy: {condition: none}}\n";
    assert_eq!(one(both).task.restart.condition, RestartCondition::None);
    assert!(warned(both)[0].contains("has no effect beside `deploy.restart_policy`"));
    let job = one("    deploy: {mode: replicated-job, replicas: 4}\n");
    assert_eq!(job.mode, ServiceMode::ReplicatedJob { max_concurrent: 4, total_completions: 4 });
    assert_eq!(job.task.restart.condition, RestartCondition::OnFailure);
}

#[test]
fn health_checks() {
    let test = |lines: &str| one(&format!("    healthcheck:\n{lines}")).task.container.healthcheck.unwrap();
    let health = test("      test: curl -f x\n      interval: 10s\n      retries: 5\n      start_period: 2m\n");
    assert_eq!(health.test, Some(HealthTest::Shell("curl -f x".into())));
    assert_eq!((health.interval, health.retries, health.start_period.as_secs()), (Duration::from_secs(10), 5, 120));
    assert_eq!(test("      test: [CMD, a, b]\n").test, Some(HealthTest::Exec(vec!["a".into(), "b".into()])));
    assert_eq!(test("      disable: true\n").test, Some(HealthTest::None));
    assert_eq!(test("      test: [NONE]\n").test, Some(HealthTest::None));
    assert_eq!(test("      interval: 1m\n").test, None);
}

#[test]
fn dependencies_and_links() {
    let stack = good(
        r#"
name: s
services:
  web:
    image: nginx
    depends_on:
      db: {condition: service_healthy, restart: true}
      once: {condition: service_completed_successfully, required: false}
    links: ["cache:redis"]
  db: {image: postgres}
  once: {image: busybox}
  cache: {image: redis}
"#,
    );
    let web = stack.services.iter().find(|service| service.name.as_str() == "s_web").unwrap();
    let depends: Vec<(&str, DependsOn)> = web.depends_on.iter().map(|(name, on)| (name.as_str(), *on)).collect();
    let on = |condition, restart, required| DependsOn { condition, restart, required };
    assert_eq!(
        depends,
        [
            ("s_cache", on(DependencyCondition::ServiceStarted, true, true)),
            ("s_db", on(DependencyCondition::ServiceHealthy, true, true)),
            ("s_once", on(DependencyCondition::ServiceCompletedSuccessfully, false, false)),
        ]
    );
    let cache = stack.services.iter().find(|service| service.name.as_str() == "s_cache").unwrap();
    assert_eq!(cache.task.networks[0].aliases, ["cache", "redis"]);
}

#[test]
fn networks_and_ports() {
    let stack = good(
        r#"
name: s
services:
  web:
    image: nginx
    networks:
      front: {aliases: [www], ipv4_address: 10.9.0.5, priority: 1}
      back: {priority: 9}
      out:
    ports: ["8080:80", "127.0.0.1:53:53/udp", {target: 90, published: 91, mode: host, name: x}]
networks:
  front: {driver: bridge, internal: true, ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}}
  back: {attachable: true, enable_ipv6: true, driver_opts: {encrypted: ""}}
  out: {external: true}
  unused:
"#,
    );
    let web = &stack.services[0];
    let order: Vec<&str> = web.task.networks.iter().map(|network| network.network.as_str()).collect();
    assert_eq!(order, ["s_back", "s_front", "out"]);
    assert_eq!(web.task.networks[1].aliases, ["web", "www"]);
    assert_eq!(stack.networks.iter().map(|network| network.name.as_str()).collect::<Vec<_>>(), ["s_back", "s_front"]);
    assert_eq!(stack.networks[1].driver, NetworkDriver::Bridge);
    assert_eq!(stack.networks[1].ipam[0].subnet, "10.9.0.0/24".parse::<ipnet::IpNet>().unwrap());
    assert!(stack.networks[1].internal && stack.networks[0].attachable && stack.networks[0].ipv6);
    let ports: Vec<String> = web
        .endpoint
        .ports
        .iter()
        .map(|port| {
            format!("{:?}:{:?}:{}/{:?} {:?}", port.host_ip, port.published, port.target, port.protocol, port.mode)
        })
        .collect();
    assert_eq!(
        ports,
        ["None:Some(8080):80/Tcp Ingress", "Some(127.0.0.1):Some(53):53/Udp Ingress", "None:Some(91):90/Tcp Host"]
    );
    assert_eq!(stack.externals.len(), 1);
    assert!(stack.warnings.iter().any(|warning| warning.path == "networks.unused"), "{:?}", stack.warnings);
    assert_eq!(one("    network_mode: host\n").task.networks[0].network.as_str(), "host");
}

/// A file with one service on a network with these fields.
fn on_a_network(fields: &str) -> String {
    format!("services:\n  web: {{image: nginx, networks: [n]}}\nnetworks:\n  n:\n{fields}")
}

#[test]
fn options_of_network_drivers_are_honoured_or_warned_about() {
    let stack = good(&on_a_network(
        "    driver: bridge\n    driver_opts:\n      com.docker.network.driver.mtu: 1400\n      com.docker.network.bridge.enable_icc: \"false\"\n      com.docker.network.bridge.name: br0\n",
    ));
    let options: Vec<(&str, &str)> =
        stack.networks[0].options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        options,
        [("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.driver.mtu", "1400")],
        "what does something is kept, the rest is not stored as if it did"
    );
    let warnings: Vec<String> = stack.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let start =
        "/app/compose.yaml:9:7: networks.n.driver_opts.com.docker.network.bridge.name: has no effect: Berth names";
    assert!(warnings[0].starts_with(start), "{warnings:?}");
    let stack = good(&on_a_network("    driver_opts: {encrypted: \"true\"}\n"));
    assert!(stack.warnings.is_empty() && stack.networks[0].encrypted() == Some(true), "{:?}", stack.warnings);
}

#[test]
fn options_of_network_drivers_that_cannot_be_had_are_refused() {
    for (fields, error) in [
        (
            "    driver_opts: {com.docker.network.driver.mtu: many}\n",
            "compose.yaml:5:19: networks.n.driver_opts.com.docker.network.driver.mtu: \"many\" is not a payload size",
        ),
        (
            "    driver_opts: {com.docker.network.bridge.host_binding_ipv4: 127.0.0.1}\n",
            "host_binding_ipv4: \"127.0.0.1\" is not supported (name the address with each port",
        ),
        (
            "    driver: bridge\n    driver_opts: {com.docker.network.bridge.enable_ic: \"false\"}\n",
            "is not an option of the driver bridge (did you mean `com.docker.network.bridge.enable_icc`?)",
        ),
        (
            "    driver_opts: {com.docker.network.bridge.enable_icc: \"false\"}\n",
            "tasks of an overlay network always reach each other",
        ),
        (
            "    enable_ipv6: true\n    driver_opts: {com.docker.network.driver.mtu: 1000}\n",
            "networks.n.driver_opts.com.docker.network.driver.mtu: 1000 bytes are too few for IPv6",
        ),
    ] {
        let errors = bad(&on_a_network(fields)).join("\n");
        assert!(errors.contains(error), "{fields}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    for (fields, about) in [
        ("    container_name: x\n", "services.web.container_name: has no effect"),
        ("    blkio_config: {weight: 10}\n", "services.web.blkio_config: has no effect"),
        ("    pull_policy: daily\n", "`daily` counts as `missing`"),
        ("    security_opt: [\"apparmor:unconfined\"]\n", "`apparmor:unconfined` has no effect"),
        ("    ipc: shareable\n", "`shareable` counts as `private`"),
        ("    volumes: [\"/a:/b:z\"]\n", "services.web.volumes[0].bind.selinux: has no effect"),
        ("    networks: {default: {link_local_ips: [169.254.1.1]}}\n", "link_local_ips: has no effect"),
    ] {
        let warnings = warned(fields);
        assert!(warnings.iter().any(|warning| warning.contains(about)), "{fields}: {warnings:?}");
    }
}

#[test]
fn what_berth_does_not_do_is_refused_at_its_place() {
    for (fields, error) in [
        ("    build: .\n", "compose.yaml:4:5: services.web.build: Berth builds no images"),
        ("    network_mode: \"container:x\"\n", "4:19: services.web.network_mode: `container:x` is not supported"),
        ("    pid: \"container:x\"\n", "`container:x` is not supported"),
        ("    volumes_from: [\"container:x\"]\n", "services.web.volumes_from: tasks of two services"),
        ("    post_start: [{command: x}]\n", "services.web.post_start: hooks are not run"),
        ("    security_opt: [\"seccomp:./p.json\"]\n", "security option `seccomp:./p.json` is not supported"),
        ("    ports: [\"8000-8010:80\"]\n", "4:13: services.web.ports: a range (8000-8010) for one port"),
        ("    ports: [\"80:80/sctp\"]\n", "protocol `sctp` is not supported"),
        ("    devices: [vendor.com/class=x]\n", "device `vendor.com/class=x` is not a path"),
        (
            "    logging: {driver: syslog}\n",
            "4:23: services.web.logging.driver: log driver \"syslog\" is not supported",
        ),
        ("    logging: {options: {max-size: 5x}}\n", "logging.options.max-size: \"5x\" is not a size"),
        ("    stop_signal: SIGNOPE\n", "4:18: services.web.stop_signal: \"SIGNOPE\" is not a signal"),
        ("    cap_add: [CHOWN, NET_ADMINS]\n", "4:22: services.web.cap_add: \"NET_ADMINS\" is not a capability"),
        ("    mem_limit: 1m\n", "4:16: services.web.mem_limit: 1048576 bytes is under the least limit"),
        ("    runtime: nvidia\n", "`nvidia` is not supported"),
        ("    deploy: {mode: global, replicas: 2}\n", "`global` runs one task on each node"),
        ("    deploy: {placement: {constraints: [node=x]}}\n", "\"node=x\" is not a constraint"),
        ("    deploy: {mode: sideways}\n", "4:20: services.web.deploy.mode: `sideways` is not a mode"),
        (
            "    x-berth: {prioritty: 1}\n",
            "services.web.x-berth.prioritty: unknown field `prioritty` (did you mean `priority`?)",
        ),
        (
            "    x-berth: {strategy: spred}\n",
            "4:25: services.web.x-berth.strategy: `spred` is not a strategy: pack or spread",
        ),
        ("    x-berth: {affinity: [{apart: web, together: web}]}\n", "x-berth.affinity[0]: a rule has either"),
        ("    x-berth: {affinity: [{apart: web, scop: node}]}\n", "x-berth.affinity[0].scop: unknown field `scop`"),
        ("    x-berth: {affinity: [{apart: web, scope: rack}]}\n", "affinity[0].scope: `rack` is not a scope: node, "),
        (
            "    x-berth: {affinity: [{apart: [web]}]}\n",
            "affinity[0].apart: must be the name of a service or `label=value`",
        ),
        ("    x-berth: {affinity: {apart: web}}\n", "services.web.x-berth.affinity: must be a list"),
        ("    x-berth: {gang: 1}\n", "services.web.x-berth.gang: must be true or false"),
        ("    x-berth: {gang: true}\n", "only the tasks of a replicated-job start together"),
    ] {
        let errors = refused(fields);
        assert!(errors.contains(error), "{fields}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    assert_eq!(one("    x-berth: {priority: 7}\n").priority, 7);
}

#[test]
fn affinity_names_services_of_the_file_by_their_key_and_others_by_their_full_name() {
    let web = one(concat!(
        "    x-berth:\n      strategy: spread\n      affinity:\n",
        "        - {apart: web, scope: node.labels.rack}\n        - {together: other_db, required: false}\n",
        "        - {apart: tier=batch}\n",
    ));
    let placement = &web.task.placement;
    assert_eq!(placement.strategy, Some(berth_proto::spec::Strategy::Spread));
    let rules: Vec<String> = placement.affinity.iter().map(ToString::to_string).collect();
    let expected = [
        "apart from app_web by node.labels.rack",
        "together with other_db on a node",
        "apart from tier=batch on a node",
    ];
    assert_eq!(rules, expected);
    assert_eq!(placement.affinity.iter().map(|rule| rule.required).collect::<Vec<_>>(), [true, false, true]);
    let job = one("    deploy: {mode: replicated-job, replicas: 3}\n    x-berth: {gang: true}\n");
    assert!(job.task.placement.gang);
}

#[test]
fn names_that_become_too_long_are_refused() {
    let long = "x".repeat(60);
    let errors = bad(&format!("name: shop\nservices:\n  {long}:\n    image: nginx\n"));
    assert!(errors[0].contains("at most 63"), "{errors:?}");
}

#[test]
fn all_refusals_come_at_once() {
    let errors = bad(
        "services:\n  a: {build: ., pre_stop: [{command: x}]}\n  b: {image: x, volumes_from: [a]}\nmodels: {m: {model: x}}\n",
    );
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

#[test]
fn two_volumes_cannot_be_one() {
    let errors = bad(
        "services:\n  a: {image: x, volumes: [\"p:/p\", \"q:/q\"]}\nvolumes:\n  p: {name: same}\n  q: {name: same}\n",
    );
    assert_eq!(errors, ["/app/compose.yaml:5:3: volumes.q: `p` and `q` are both the volume `same`"]);
}

#[test]
fn a_published_port_of_zero_is_chosen_by_the_cluster() {
    assert_eq!(one("    ports: [\"0:80\"]\n").endpoint.ports[0].published, None);
}
