//! The habits that keep the house in order: who may use whom, how large a file may be, which licences are linked.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::image::repository;
use serde_json::Value;

/// Which crates of the workspace each crate may use, in the product (tests may use more).
const MAY_USE: [(&str, &[&str]); 14] = [
    ("berth-proto", &[]),
    ("berth-trace", &["berth-proto"]),
    ("berth-metrics", &[]),
    ("berth-scheduler", &["berth-proto"]),
    ("berth-tunnel", &["berth-proto"]),
    ("berth-netoverlay", &["berth-proto", "berth-tunnel"]),
    ("berth-compose", &["berth-proto"]),
    ("berth-image", &["berth-proto"]),
    ("berth-shim", &[]),
    ("berth-manager", &["berth-proto", "berth-trace", "berth-metrics", "berth-scheduler", "berth-compose"]),
    ("berth-http", &["berth-proto", "berth-trace", "berth-metrics", "berth-compose", "berth-manager"]),
    (
        "berth-agent",
        &[
            "berth-proto",
            "berth-trace",
            "berth-metrics",
            "berth-netoverlay",
            "berth-tunnel",
            "berth-image",
            "berth-shim",
        ],
    ),
    (
        "berth",
        &[
            "berth-proto",
            "berth-trace",
            "berth-metrics",
            "berth-manager",
            "berth-http",
            "berth-agent",
            "berth-tunnel",
            "berth-compose",
        ],
    ),
    ("berth-tests", &[]),
];

fn metadata(args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]).args(args).current_dir(repository());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().unwrap()
}

#[test]
fn crates_use_only_what_they_may() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let metadata = metadata(&["--no-deps"]);
    for package in packages(&metadata) {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed.get(name) else { panic!("{name} is not in the table of who may use whom") };
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let ours = dependency["path"].is_string();
            let product = dependency["kind"] != "dev";
            assert!(!(ours && product) || allowed.contains(used), "{name} may not use {used}");
        }
    }
}

#[test]
fn files_are_small_and_say_what_they_own() {
    let mut wrong = Vec::new();
    for file in sources(repository()) {
        let text = fs::read_to_string(&file).unwrap();
        let product = text.find("#[cfg(test)]\nmod tests {").map_or(&*text, |at| &text[..at]);
        let lines = product.lines().count();
        let name = file.strip_prefix(repository()).unwrap().display();
        if lines > 800 {
            wrong.push(format!("{name} has {lines} lines without its tests; 800 is the limit"));
        }
        let is_test = name.to_string().ends_with("tests.rs");
        if !is_test && !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with //! saying what it owns"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(sources(&path));
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn linked_licences_are_allowed() {
    let deny = fs::read_to_string(repository().join("deny.toml")).unwrap();
    let (general, exceptions) = deny.split_once("[[licenses.exceptions]]").unwrap();
    let allowed: BTreeSet<&str> = quoted(general);
    let mut special: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for exception in exceptions.split("[[licenses.exceptions]]") {
        let (name, licences) = exception.split_once("allow").unwrap();
        special.insert(quoted(name).pop_first().unwrap(), quoted(licences.split("\n[").next().unwrap()));
    }
    let metadata = metadata(&["--filter-platform", "x86_64-unknown-linux-gnu"]);
    for package in packages(&metadata) {
        let (name, licence) = (package["name"].as_str().unwrap(), package["license"].as_str());
        let licence = licence.unwrap_or_else(|| panic!("{name} names no licence"));
        let ok = |one: &str| allowed.contains(one) || special.get(name).is_some_and(|special| special.contains(one));
        assert!(satisfied(licence, &ok), "{name} is under {licence}, which deny.toml does not allow");
    }
}

/// The texts in double quotes.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// Whether an SPDX expression (or the older form with `/`) is satisfied: one side of each OR, both of each AND.
fn satisfied(expression: &str, ok: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> =
        expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().map(str::to_owned).collect();
    let mut at = 0;
    let result = any_of(&tokens, &mut at, ok);
    assert_eq!(at, tokens.len(), "cannot read the licence {expression:?}");
    result
}

fn any_of(tokens: &[String], at: &mut usize, ok: &dyn Fn(&str) -> bool) -> bool {
    let mut result = all_of(tokens, at, ok);
    while tokens.get(*at).is_some_and(|token| token == "OR") {
        *at += 1;
        result |= all_of(tokens, at, ok);
    }
    result
}

fn all_of(tokens: &[String], at: &mut usize, ok: &dyn Fn(&str) -> bool) -> bool {
    let mut result = one(tokens, at, ok);
    while tokens.get(*at).is_some_and(|token| token == "AND") {
        *at += 1;
        result &= one(tokens, at, ok);
    }
    result
}

fn one(tokens: &[String], at: &mut usize, ok: &dyn Fn(&str) -> bool) -> bool {
    if tokens.get(*at).is_some_and(|token| token == "(") {
        *at += 1;
        let result = any_of(tokens, at, ok);
        assert_eq!(tokens.get(*at).map(String::as_str), Some(")"), "unbalanced licence expression");
        *at += 1;
        return result;
    }
    let mut licence = tokens[*at].clone();
    *at += 1;
    if tokens.get(*at).is_some_and(|token| token == "WITH") {
        licence = format!("{licence} WITH {}", tokens[*at + 1]);
        *at += 2;
    }
    ok(&licence)
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let ok = |one: &str| ["MIT", "Apache-2.0 WITH LLVM-exception"].contains(&one);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND MIT", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
    ] {
        assert_eq!(satisfied(expression, &ok), expected, "{expression}");
    }
}
