//! Loading: overrides, `extends`, `include`, profiles, variables, canonical forms. Each test holds its files inline.
#![allow(clippy::unwrap_used)]

mod common;

use common::{lines, load, load_files, load_over};

/// The canonical file without the lines about the default network.
fn canonical(result: Result<(berth_compose::Project, Vec<berth_compose::Warning>), berth_compose::Errors>) -> String {
    let (project, _) = result.unwrap_or_else(|errors| panic!("{errors}"));
    let text = project.to_yaml();
    let text = text.replace("    networks:\n      default: null\n", "");
    text.replace("networks:\n  default:\n    name: app_default\n", "").replace("name: app\nservices:\n", "")
}

fn service(fields: &str) -> String {
    canonical(load(&format!("services:\n  web:\n    image: x\n{fields}"))).replace("  web:\n    image: x\n", "")
}

#[test]
fn short_forms_become_long_ones() {
    let text = r#"
    build: ./dir
    command: echo "a b"
    depends_on: [db]
    devices: ["/dev/a:/dev/b"]
    dns: 1.1.1.1
    env_file: []
    environment: [A=1, B, "C="]
    extra_hosts: {b: 10.0.0.2, a: ["::1", 10.0.0.1]}
    gpus: all
    healthcheck: {test: curl, interval: 1m30s}
    labels: {n: 42, b: true, e: }
    mem_limit: 1.5gb
    ports: [80, "8000-8001:90-91"]
    secrets: [s]
    stop_grace_period: 90s
    tmpfs: /run
    ulimits: {nofile: 5}
    volumes: ["./a:/b:ro,Z", "v:/v"]
  db: {image: y}
secrets: {s: {environment: HOME}}
volumes: {v: }
"#;
    let printed = canonical(load(&format!("services:\n  web:\n    image: x{text}")));
    insta::assert_snapshot!("long_forms", printed);
}

#[test]
fn later_files_override_by_the_rules_of_each_field() {
    let base = r#"
services:
  web:
    image: a
    command: [one]
    environment: {A: 1, B: 2}
    labels: [x=1]
    ports: ["80:80", "81:81"]
    volumes: ["/a:/data", "/b:/logs"]
    cap_add: [CHOWN]
    dns: 1.1.1.1
    depends_on: [db]
    logging: {driver: local, options: {max-size: 1m}}
    ulimits: {nofile: {soft: 1, hard: 2}}
    networks: [one]
    healthcheck: {test: a, retries: 2}
    deploy: {replicas: 2, labels: {l: 1}}
  db: {image: db}
networks: {one: , two: }
"#;
    let over = r#"
services:
  web:
    image: b
    command: [two]
    environment: [B=3, C=4]
    labels: {y: 2}
    ports: ["80:80", "82:82"]
    volumes: ["/c:/data"]
    cap_add: [CHOWN, KILL]
    dns: [2.2.2.2]
    depends_on: {cache: {condition: service_healthy}}
    logging: {driver: json-file}
    ulimits: {nofile: 7}
    networks: {two: {aliases: [t]}}
    healthcheck: {test: b}
    deploy: {replicas: 3, labels: [m=2]}
  cache: {image: cache}
"#;
    insta::assert_snapshot!("override", canonical(load_over(&[("a.yaml", base), ("b.yaml", over)])));
}

#[test]
fn reset_and_override_tags() {
    let base =
        "services:\n  web:\n    image: a\n    ports: [\"80:80\"]\n    environment: {A: 1, B: 2}\n    command: x\n";
    let over =
        "services:\n  web:\n    ports: !override [\"90:90\"]\n    environment: {A: !reset null}\n    command: !reset\n";
    let printed = canonical(load_over(&[("a.yaml", base), ("b.yaml", over)]));
    assert!(printed.contains("published: '90'") && !printed.contains("published: '80'"), "{printed}");
    assert!(printed.contains("B: '2'") && !printed.contains("A:") && !printed.contains("command"), "{printed}");
}

#[test]
fn kinds_that_cannot_be_merged_are_an_error_in_the_later_file() {
    let errors = lines(load_over(&[
        ("a.yaml", "services: {web: {image: a, cap_add: [CHOWN]}}"),
        ("b.yaml", "services:\n  web:\n    cap_add: CHOWN\n"),
    ]));
    assert_eq!(
        errors,
        [
            "/app/b.yaml:3:14: services.web.cap_add: cannot override a list with a string (`!override` in front of the value replaces the earlier one)"
        ]
    );
}

#[test]
fn documents_of_one_file_merge_too() {
    let printed = canonical(load("services: {web: {image: a}}\n---\nservices: {web: {user: b}}\n"));
    assert_eq!(printed, "  web:\n    image: a\n    user: b\n");
}

#[test]
fn anchors_and_merge_keys() {
    let text = r#"
x-base: &base {image: a, user: u, labels: {x: "1"}}
x-more: &more {user: m, tty: true}
services:
  one: *base
  two:
    <<: [*more, *base]
    image: b
"#;
    let (project, _) = load(text).unwrap();
    let two = &project.services["two"];
    assert_eq!((two.str_at("image"), two.str_at("user"), two.is_true("tty")), (Some("b"), Some("m"), true));
    assert_eq!(project.services["one"].str_at("user"), Some("u"));
    assert!(project.extensions.contains_key("x-base"));
}

#[test]
fn services_extend_services() {
    let main = r#"
services:
  web:
    extends: {file: other/base.yaml, service: base}
    environment: {B: 2}
  more:
    extends: web
    command: !reset null
    user: me
"#;
    let base = r#"
services:
  root: {image: root, labels: {r: 1}}
  base:
    extends: root
    environment: [A=1, B=1]
    command: run
    volumes: ["./data:/data"]
"#;
    let printed = canonical(load_files(&[("compose.yaml", main), ("other/base.yaml", base)]));
    insta::assert_snapshot!("extends", printed);
}

#[test]
fn extends_that_leads_nowhere_or_in_a_circle() {
    let text = "services:\n  a:\n    extends: b\n  b:\n    extends: {service: a}\n  c:\n    extends: aa\n  d:\n    extends: {file: no.yaml, service: x}\n";
    let errors = lines(load(text));
    assert_eq!(
        errors,
        [
            "/app/compose.yaml:5:14: services.b.extends: extends run in a circle: a -> b -> a",
            "/app/compose.yaml:7:14: services.c.extends: cannot extend service `aa`: this file has no such service",
            "/app/compose.yaml:9:14: services.d.extends: cannot extend service `x`: there is no file /app/no.yaml",
        ]
    );
}

#[test]
fn a_circle_over_two_files_is_found() {
    let a = "services:\n  a:\n    extends: {file: b.yaml, service: b}\n";
    let b = "services:\n  b:\n    extends: {file: a.yaml, service: a}\n";
    let errors = lines(load_files(&[("a.yaml", a), ("b.yaml", b)]));
    assert!(errors.iter().any(|error| error.contains("extends run in a circle: a -> b -> a")), "{errors:?}");
}

#[test]
fn included_files_have_their_own_directory_and_variables() {
    let main = "include:\n  - inc/compose.yaml\n  - {path: [b.yaml, b2.yaml], env_file: b.env}\nservices: {web: {image: \"web:${V:-none}\", depends_on: [inc]}}\n";
    let inc = "services: {inc: {image: \"inc:${V}\", volumes: [\"./d:/d\", \"v:/v\"]}}\nvolumes: {v: }\n";
    let printed = canonical(load_files(&[
        ("compose.yaml", main),
        ("inc/compose.yaml", inc),
        ("inc/.env", "V=inner"),
        ("b.yaml", "services: {b: {image: \"b:${V}\"}}"),
        ("b2.yaml", "services: {b: {user: over}}"),
        ("b.env", "V=b"),
    ]));
    insta::assert_snapshot!("include", printed);
}

#[test]
fn includes_that_conflict_or_run_in_a_circle() {
    let main = "include: [a.yaml, no.yaml]\nservices:\n  web: {image: x}\n";
    let errors = lines(load_files(&[
        ("compose.yaml", main),
        ("a.yaml", "include: [compose.yaml]\nservices:\n  web: {image: y}\n"),
    ]));
    insta::assert_snapshot!("include_errors", errors.join("\n"));
}

#[test]
fn profiles_choose_services() {
    let text = r#"
services:
  web: {image: x, depends_on: {debug: {condition: service_started, required: false}}}
  debug: {image: y, profiles: [dev, test]}
"#;
    let names = |profiles: &[&str]| {
        let mut options = common::options();
        options.profiles = profiles.iter().map(|name| (*name).to_owned()).collect();
        let (project, _) = berth_compose::load_from(&options, &common::files(&[("compose.yaml", text)])).unwrap();
        assert_eq!(project.profile_names().into_iter().collect::<Vec<_>>(), ["dev", "test"]);
        project.service_names().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["web"]);
    assert_eq!(names(&["test"]), ["debug", "web"]);
    assert_eq!(names(&["*"]), ["debug", "web"]);
    let errors = lines(load("services:\n  web: {image: x, depends_on: [d]}\n  d: {image: y, profiles: [p]}\n"));
    assert_eq!(
        errors[0],
        "/app/compose.yaml:2:32: services.web.depends_on: service `d` is not active: it needs one of the profiles p (or write `required: false`)"
    );
}

#[test]
fn variables_come_from_the_environment_then_env_files() {
    let text = "services:\n  web:\n    image: \"${IMAGE}:${TAG:-1}\"\n    environment: [FROM_ENV, UNSET]\n    env_file: [a.env, {path: b.env, required: false}, {path: raw.env, format: raw}]\n";
    let mut options = common::options();
    options.env.insert("TAG".to_owned(), "9".to_owned());
    options.env.insert("FROM_ENV".to_owned(), "e".to_owned());
    let files = common::files(&[
        ("compose.yaml", text),
        (".env", "IMAGE=nginx\nTAG=2\n"),
        ("a.env", "A=${TAG}\nFROM_ENV=file\n"),
        ("raw.env", "R='$TAG'\n"),
    ]);
    let (project, warnings) = berth_compose::load_from(&options, &files).unwrap();
    let web = &project.services["web"];
    assert_eq!(web.str_at("image"), Some("nginx:9"));
    let environment: Vec<(String, Option<String>)> =
        web.entries("environment").map(|(name, _, value)| (name.to_owned(), value.scalar_text())).collect();
    let pair = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
    assert_eq!(
        environment,
        [pair("A", Some("9")), pair("FROM_ENV", Some("e")), pair("R", Some("'$TAG'")), pair("UNSET", None)]
    );
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn unset_variables_are_warned_of_at_their_place() {
    let (_, warnings) = load("services:\n  web:\n    image: x:$NO\n").unwrap();
    let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["/app/compose.yaml:3:12: services.web.image: variable `NO` is not set, it becomes an empty string"]
    );
}

#[test]
fn without_interpolation_templates_stay() {
    let mut options = common::options();
    options.interpolate = false;
    let text = "services:\n  web:\n    image: x:${TAG:-1}\n    scale: ${N}\n    ports: [\"${P}:80\"]\n    volumes: [\"${D}:/d\"]\n    mem_limit: $M\n";
    let (project, _) = berth_compose::load_from(&options, &common::files(&[("compose.yaml", text)])).unwrap();
    let web = &project.services["web"];
    assert_eq!((web.str_at("image"), web.str_at("scale")), (Some("x:${TAG:-1}"), Some("${N}")));
    assert_eq!(web.items("ports")[0].as_str(), Some("${P}:80"));
    assert!(project.to_yaml().contains("image: x:${TAG:-1}"), "{}", project.to_yaml());
}

#[test]
fn project_names() {
    let name = |text: &str, set: &dyn Fn(&mut berth_compose::LoadOptions)| {
        let mut options = common::options();
        set(&mut options);
        let result = berth_compose::load_from(&options, &common::files(&[("compose.yaml", text)]));
        result.map(|(project, _)| project.name).map_err(|errors| errors.lines().collect::<Vec<_>>().join("\n"))
    };
    let plain = "services: {web: {image: x}}\n";
    let named = "name: My-${WHO:-App}\nservices: {web: {image: \"x:${COMPOSE_PROJECT_NAME}\"}}\n";
    assert_eq!(name(plain, &|_| {}), Ok("app".to_owned()));
    assert_eq!(name(named, &|_| {}), Ok("my-app".to_owned()));
    assert_eq!(name(named, &|o| o.project_name = Some("other".to_owned())), Ok("other".to_owned()));
    let env = |o: &mut berth_compose::LoadOptions| {
        o.env.insert("COMPOSE_PROJECT_NAME".to_owned(), "env".to_owned());
    };
    assert_eq!(name(named, &env), Ok("env".to_owned()));
    let bad = name(plain, &|o| o.project_name = Some("My App".to_owned())).unwrap_err();
    assert!(bad.contains("`myapp` would do"), "{bad}");
}

#[test]
fn usual_file_names_are_found_with_their_override() {
    let mut options = common::options();
    options.files.clear();
    options.working_dir = "/app/deep/inside".into();
    let files = common::files(&[
        ("compose.yml", "services: {web: {image: x}}"),
        ("docker-compose.override.yml", "services: {web: {user: y}}"),
    ]);
    let (project, _) = berth_compose::load_from(&options, &files).unwrap();
    assert_eq!(project.services["web"].str_at("user"), Some("y"));
    assert_eq!(project.working_dir, std::path::Path::new("/app"));
    options.working_dir = "/elsewhere".into();
    let errors = berth_compose::load_from(&options, &files).unwrap_err();
    assert_eq!(errors.lines().next().unwrap(), "no Compose file in /elsewhere (name one with -f FILE)");
}

#[test]
fn booleans_of_old_yaml_are_understood_and_warned_of() {
    let (project, warnings) = load("services:\n  web:\n    image: x\n    tty: yes\n").unwrap();
    assert!(project.services["web"].is_true("tty"));
    assert!(warnings[0].message.contains("write `true`"), "{warnings:?}");
}

#[test]
fn implied_dependencies() {
    let printed = service("    links: [db]\n    network_mode: \"service:db\"\n  db: {image: y}\n");
    assert!(
        printed.contains(
            "depends_on:\n      db:\n        condition: service_started\n        required: true\n        restart: true"
        ),
        "{printed}"
    );
}

#[test]
fn dollars_survive_printing() {
    let (project, _) = load("services:\n  web:\n    image: x\n    command: [\"echo\", \"$$HOME\"]\n").unwrap();
    assert_eq!(project.services["web"].items("command")[1].as_str(), Some("$HOME"));
    assert!(project.to_yaml().contains("$$HOME"));
}

#[test]
fn the_version_is_obsolete() {
    let (_, warnings) = load("version: \"3.9\"\nservices: {web: {image: x}}\n").unwrap();
    assert_eq!(
        warnings[0].to_string(),
        "/app/compose.yaml:1:1: version: `version` is obsolete and has no meaning, take it away"
    );
}

#[test]
fn real_files_are_read_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("compose.yaml"), "services: {web: {image: \"${I}\"}}\n").unwrap();
    std::fs::write(dir.path().join(".env"), "I=from-file\n").unwrap();
    let options = berth_compose::LoadOptions::new(dir.path(), []);
    let (project, _) = berth_compose::load(&options).unwrap();
    assert_eq!(project.images().into_iter().collect::<Vec<_>>(), ["from-file"]);
}

#[test]
fn the_environment_names_files() {
    let mut options = common::options();
    options.files.clear();
    options.env.insert("COMPOSE_FILE".to_owned(), "a.yaml:b.yaml".to_owned());
    let files = common::files(&[("a.yaml", "services: {web: {image: x}}"), ("b.yaml", "services: {web: {user: y}}")]);
    let (project, _) = berth_compose::load_from(&options, &files).unwrap();
    assert_eq!(project.services["web"].str_at("user"), Some("y"));
}

#[test]
fn texts_that_read_as_numbers_are_quoted() {
    let (project, _) = load("services:\n  web:\n    image: x\n    labels: {a: \"0_\", b: \"1_000\", c: \"0440\", d: \"1e3\", e: \"0b1\", f: a_b}\n").unwrap();
    let printed = project.to_yaml();
    let again = load(&printed).unwrap().0;
    assert_eq!(again.to_yaml(), printed);
    assert_eq!(again.services["web"].get("labels").unwrap().str_at("b"), Some("1_000"), "{printed}");
}

#[test]
fn texts_of_other_editors() {
    for text in [
        "\u{feff}services:\r\n  web:\r\n    image: nginx\r\n",
        "{\n\t\"services\": {\n\t\t\"web\": {\n\t\t\t\"image\": \"nginx\"\n\t\t}\n\t}\n}\n",
        "%YAML 1.2\n---\nservices:\n  web: {image: nginx,}\n...\n",
        "services:\n  web:\n    image: >-\n      nginx\n",
        "services: !!map\n  web:\n    image: !!str nginx\n",
        "services:\n- web\n",
        "# only a comment\n",
        "",
    ] {
        let found = load(text).map(|(project, _)| project.services["web"].str_at("image").map(str::to_owned));
        match (found, text.contains("nginx")) {
            (Ok(image), true) => assert_eq!(image.as_deref(), Some("nginx"), "{text:?}"),
            (Err(errors), false) => assert_eq!(errors.items().len(), 1, "{errors}"),
            (found, _) => panic!("{text:?}: {found:?}"),
        }
    }
}
