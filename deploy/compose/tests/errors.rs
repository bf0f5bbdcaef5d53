//! What people read when something is wrong: every error, its place, its line, its hint.
#![allow(clippy::unwrap_used)]

mod common;

use common::{lines, load};

#[test]
fn every_error_of_a_file_comes_at_once() {
    let text = r#"
name: shop
services:
  web:
    imgae: nginx
    ports: ["80:80:80:80", {published: 1}]
    replicas: 3
    deploy: {replicas: many, update_config: {order: start_first}}
    depends_on: [dbb]
    volumes: [data:/data, data:/data/, "a:b:c:d"]
    networks: [frontt]
    environment: [1]
    stop_grace_period: 10
    healthcheck: {test: [curl]}
    mem_limit: lots
    restart: true
    secrets: [key]
  db:
    image: postgres
    enviroment: {A: 1}
    privileged: maybe
    ulimits: {nofile: {soft: 1}}
    oom_score_adj: 2000
    extra_hosts: [nohost]
networks: {front: , back: {external: true, driver: x}}
volume: {}
configs: {c: {}}
"#;
    insta::assert_snapshot!("everything", load(text).unwrap_err());
}

#[test]
fn broken_yaml_shows_its_place() {
    for (name, text) in [
        ("tab", "services:\n\tweb: {image: x}\n"),
        ("colon", "services:\n  web:\n    image: x\n    labels: a: b\n"),
        ("quote", "services:\n  web:\n    image: \"x\n"),
        ("duplicate", "services:\n  web:\n    image: x\n    image: y\n  web: {}\n"),
        ("alias", "services:\n  web: *nothing\n"),
        ("list", "- a\n- b\n"),
        ("key", "services:\n  1: {image: x}\n  web: {image: x, ports: {80: 80}}\n"),
        ("flow", "services:\n  web: {image: x, environment: [A=${B}, C]}\n"),
        ("null", "services:\n  web:\n  image: nginx\n"),
    ] {
        insta::assert_snapshot!(name, load(text).unwrap_err());
    }
}

#[test]
fn rules_between_fields() {
    let service = |fields: &str| lines(load(&format!("services:\n  web:\n    image: x\n{fields}"))).join("\n");
    for (fields, error) in [
        (
            "    network_mode: host\n    networks: [n]\nnetworks: {n: }\n",
            "4:19: services.web: `network_mode` and `networks` exclude each other",
        ),
        (
            "    scale: 2\n    deploy: {replicas: 3}\n",
            "4:12: services.web: `scale` and `deploy.replicas` are set to different values",
        ),
        (
            "    mem_limit: 1g\n    deploy: {resources: {limits: {memory: 2g}}}\n",
            "`mem_limit` and `deploy.resources.limits.memory` are set to different values",
        ),
        (
            "    container_name: a\n    deploy: {replicas: 2}\n",
            "`container_name` names one container, but 2 are asked for",
        ),
        (
            "    tmpfs: /a\n    volumes: [\"x:/a\"]\nvolumes: {x: }\n",
            "5:15: services.web.volumes[0]: target /a is already mounted by services.web.tmpfs[0]",
        ),
        ("    depends_on: [web]\n", "dependencies run in a circle: web -> web"),
        ("    configs: [c]\n", "4:15: services.web.configs: config `c` is not defined"),
        ("    network_mode: \"service:dbb\"\n  db: {image: y}\n", "service `dbb` is not defined (did you mean `db`?)"),
        (
            "    build: {dockerfile: a, dockerfile_inline: b}\n",
            "`dockerfile` and `dockerfile_inline` exclude each other",
        ),
        ("secrets: {s: {file: a, environment: B}}\n", "secrets.s: `file` and `environment` exclude each other"),
        ("volumes: {v: {external: true, driver: x}}\n", "volumes.v: `external` and `driver` exclude each other"),
        ("    gpus: [{count: 1, device_ids: [a]}]\n", "`count` and `device_ids` exclude each other"),
        ("    pull_policy: sometimes\n", "\"sometimes\" is not always, never, missing"),
        (
            "    labels: {a: [b]}\n",
            "4:17: services.web.labels.a: must be a string, a number or nothing, this is a list",
        ),
        ("    cap_add: CHOWN\n", "4:14: services.web.cap_add: must be a list, this is a string"),
        ("    expose: [[1]]\n", "must be a string or a number"),
        ("    command: \"a 'b\"\n", "is not a command line with closed quotes"),
        ("    scale: -1\n", "-1 is not between 0 and"),
        ("    security_opt: [a, a]\n", "`a` is in this list twice"),
        ("    env_file: no.env\n", "4:15: services.web.env_file[0]: env file /app/no.env does not exist"),
        ("    dockerfile: x\n", "unknown field `dockerfile` (`dockerfile` belongs under `build`)"),
        ("    image2: x\n", "unknown field `image2` (did you mean `image`?)"),
        ("  \"a b\": {image: x}\n", "4:3: services.a b: name `a b` may hold only letters"),
        ("    ports: [{target: 80, host_ip: here}]\n", "\"here\" is not an IP address"),
        ("    environment: [\"A =b\"]\n", "\"A \" is not a variable name without a blank at its end"),
        ("    image: ${A:?set it}\n", "key `image` is already there in line 3"),
        (
            "    user: ${A:?set it}\n",
            "required variable `A` has no value: set it (set it in the environment or in .env: A=…)",
        ),
        ("    user: ${A\n", "\"${A\" is not a valid variable reference (write `$$` for a `$` that is meant as such)"),
    ] {
        let errors = service(fields);
        assert!(errors.contains(error), "{fields}\n{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

#[test]
fn bombs_are_refused() {
    let mut text = "x-a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let items = format!("*a{}, ", n - 1).repeat(10);
        text.push_str(&format!("x-a{n}: &a{n} [{items}]\n"));
    }
    let errors = lines(load(&text));
    assert!(errors[0].contains("aliases unfold into more than"), "{errors:?}");
    let deep = format!("x-a: {}{}\nservices: {{web: {{image: x}}}}\n", "[".repeat(5000), "]".repeat(5000));
    let errors = lines(load(&deep));
    assert!(errors[0].contains("nested more than") || errors[0].contains("not valid YAML"), "{errors:?}");
}

#[test]
fn files_that_cannot_be_read() {
    let files = berth_compose::files::Memory::default().with("/app/compose.yaml", vec![0xff, 0xfe]);
    let errors = berth_compose::load_from(&common::options(), &files).unwrap_err();
    assert_eq!(errors.lines().collect::<Vec<_>>(), ["cannot read /app/compose.yaml: it is not UTF-8 text"]);
    let none = berth_compose::files::Memory::default();
    let errors = berth_compose::load_from(&common::options(), &none).unwrap_err();
    assert_eq!(errors.lines().collect::<Vec<_>>(), ["cannot read /app/compose.yaml: no such file"]);
}
