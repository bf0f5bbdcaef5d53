//! What holds for every input: nothing panics, what is printed loads to what was printed.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;

use berth_compose::files::Memory;
use berth_compose::{LoadOptions, convert, dotenv, interpolate, load_from, units};
use proptest::prelude::*;

fn load(text: &str) -> Result<berth_compose::Project, berth_compose::Errors> {
    load_from(&common::options(), &common::files(&[("compose.yaml", text)])).map(|(project, _)| project)
}

/// How many inputs each property is tried with.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(150)
}

/// Texts that come near to Compose files: real lines, cut and mixed.
fn near_yaml() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("services:"),
        Just("  web:"),
        Just("    image: nginx"),
        Just("    ports: [\"80:80\", 90]"),
        Just("    environment:"),
        Just("      - A=${B:-c}"),
        Just("      A: &x 1"),
        Just("    <<: *x"),
        Just("    deploy: {replicas: 2, resources: {limits: {cpus: .5}}}"),
        Just("    volumes: [\"a:/b\", {type: bind, source: ., target: /c}]"),
        Just("    extends: {file: compose.yaml, service: web}"),
        Just("    depends_on: {web: {condition: service_healthy}}"),
        Just("    command: !override 'a \"b"),
        Just("    labels: !reset"),
        Just("include: [compose.yaml]"),
        Just("networks: {a: {external: {name: b}}}"),
        Just("volumes: {v: }"),
        Just("name: ${N:?n}"),
        Just("---"),
        Just("x-a: [*x, {*x : *x}]"),
        Just("\t- é: |"),
        Just("    ulimits: {nofile: {soft: 1, hard: 2}}"),
        Just("    healthcheck: {test: [CMD, a], interval: 1h}"),
        Just("    secrets: [s]"),
        Just("secrets: {s: {environment: HOME}}"),
    ];
    prop::collection::vec(line, 0..25).prop_map(|lines| lines.join("\n"))
}

/// A project that is right: services with fields of many kinds.
fn good_file() -> impl Strategy<Value = String> {
    let fields = prop_oneof![
        "[a-zA-Z$ {}\"'-]{0,12}".prop_map(|text| format!("hostname: {}", quoted(&text))),
        (1u16..65535, 1u16..65535).prop_map(|(a, b)| format!("ports: [\"{a}:{b}/udp\"]")),
        "[ -~]{0,20}".prop_map(|text| format!("environment: {{A: {}, B: 1.5, C: null}}", quoted(&text))),
        (0u64..1 << 40).prop_map(|size| format!("shm_size: {size}")),
        (0u64..1 << 50).prop_map(|nanos| format!("stop_grace_period: {nanos}ns")),
        "[a-z ]{0,20}".prop_map(|text| format!("command: {}", quoted(&text))),
        "[ -~]{0,20}".prop_map(|text| format!("entrypoint: [{}]", quoted(&text))),
        (0u32..0o7777).prop_map(|mode| format!("tmpfs: [\"/t:mode={mode:o}\"]")),
        // Targets of their own: two mounts on one target are refused.
        "[a-z]{1,8}".prop_map(|name| format!("volumes: [\"./{name}:/volume/{name}:ro\", \"/anon\"]")),
        (1i64..100).prop_map(|n| format!("deploy: {{replicas: {n}, resources: {{limits: {{cpus: \"{n}.25\"}}}}}}")),
        "[ -~]{0,20}".prop_map(|text| format!("labels: {{a: {}}}", quoted(&text))),
        Just("extra_hosts: [\"b:::1\", \"a=1.2.3.4\"]".to_owned()),
        "[ -~]{0,16}".prop_map(|text| format!("x-own: [{}, 1e30, true]", quoted(&text))),
    ];
    prop::collection::vec(prop::collection::vec(fields, 0..5), 1..4).prop_map(|services| {
        let mut text = "services:\n".to_owned();
        for (at, fields) in services.into_iter().enumerate() {
            text.push_str(&format!("  s{at}:\n    image: x\n"));
            let mut seen = std::collections::BTreeSet::new();
            for field in fields.iter().filter(|field| seen.insert(field.split(':').next().unwrap().to_owned())) {
                text.push_str(&format!("    {field}\n"));
            }
        }
        text
    })
}

/// A YAML text with every `$` doubled.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace('$', "$$"))
}

/// Real files, cut and spliced at any place.
fn spliced() -> impl Strategy<Value = String> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yml" || end == "yaml"));
    files.sort();
    let text = prop::sample::select(files).prop_map(|path| std::fs::read_to_string(path).unwrap());
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 1..6);
    (text, cuts).prop_map(|(text, cuts)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (a, b, what) in cuts {
            let (a, b) = (a.index(chars.len()), b.index(chars.len()));
            match what {
                0 => drop(chars.splice(a.min(b)..a.max(b).min(a.min(b) + 40), [])),
                1 => chars.swap(a, b),
                2 => chars.insert(a, ['&', '*', '{', '[', '"', ':', '\n', '$', '\t', '-', '|', '!'][b % 12]),
                _ => {
                    let copy: Vec<char> = chars[b..(b + 30).min(chars.len())].to_vec();
                    drop(chars.splice(a..a, copy));
                }
            }
            if chars.is_empty() {
                break;
            }
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = load(&text).map(|project| convert(&project).map_err(|errors| errors.to_string()));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let files = Memory::default().with("/app/compose.yaml", bytes);
        let errors = load_from(&common::options(), &files).map_err(|errors| errors.to_string());
        prop_assert!(errors.is_err() || errors.is_ok());
    }

    #[test]
    fn nothing_near_to_compose_panics(text in near_yaml()) {
        let files = common::files(&[("compose.yaml", &text), (".env", "B=1")]);
        for interpolate in [true, false] {
            let mut options = LoadOptions::new("/app", [PathBuf::from("compose.yaml")]);
            options.interpolate = interpolate;
            match load_from(&options, &files) {
                Ok((project, _)) => {
                    let _ = project.to_yaml();
                    let _ = convert(&project).map_err(|errors| errors.to_string());
                }
                Err(errors) => prop_assert!(!errors.items().is_empty() && !errors.to_string().is_empty()),
            }
        }
    }

    #[test]
    fn no_spliced_file_panics(text in spliced()) {
        match load(&text) {
            Ok(project) => {
                let printed = project.to_yaml();
                let again = load(&printed).unwrap_or_else(|errors| panic!("{text}\n{printed}\n{errors}")).to_yaml();
                prop_assert_eq!(printed, again);
                let _ = convert(&project).map_err(|errors| errors.to_string());
            }
            Err(errors) => prop_assert!(!errors.to_string().is_empty()),
        }
    }

    #[test]
    fn what_is_printed_loads_to_what_was_printed(text in good_file()) {
        let printed = load(&text).unwrap_or_else(|errors| panic!("{text}\n{errors}")).to_yaml();
        let again = load(&printed).unwrap_or_else(|errors| panic!("{printed}\n{errors}")).to_yaml();
        prop_assert_eq!(printed, again);
    }

    #[test]
    fn templates_never_panic_and_doubled_dollars_are_plain(text in "[${}:?+a-zé-]{0,40}") {
        let _ = interpolate::fill(&text, &|_| None);
        let filled = interpolate::fill(&text.replace('$', "$$"), &|_| None).unwrap();
        prop_assert_eq!(filled.text, text);
    }

    #[test]
    fn env_files_command_lines_and_units_never_panic(text in "\\PC{0,60}|[A-C=\"'\\\\$#\n {}]{0,40}") {
        let _ = dotenv::parse(&text, &|_| None);
        let _ = dotenv::parse_raw(&text);
        let _ = (units::words(&text), units::bytes(&text), units::duration(&text));
    }

    #[test]
    fn durations_round_trip(nanos in 0..i64::MAX as u64) {
        let duration = std::time::Duration::from_nanos(nanos);
        prop_assert_eq!(units::duration(&units::duration_text(duration)), Some(duration));
    }
}
