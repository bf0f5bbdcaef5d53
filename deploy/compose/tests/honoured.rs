//! Nothing is dropped in silence: a file with every honoured field, from which each field is taken away in turn. Each time
//! the specs, the warnings or the verdict must change.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use berth_compose::support::{self, Support};
use berth_compose::{LoadOptions, Stack, convert, load_from, schema};
use serde_yaml::Value;

mod common;

/// Fields whose value says what holds anyway, or that say something about other fields of the file.
const SILENT: [&str; 17] = [
    "services.*.expose",
    "services.*.runtime",
    "services.*.userns_mode",
    "services.*.cpus",
    "services.*.mem_limit",
    "services.*.mem_reservation",
    "services.*.pids_limit",
    "services.*.scale",
    "services.*.deploy.mode",
    "services.*.deploy.replicas",
    "services.*.deploy.endpoint_mode",
    "services.*.volumes[].consistency",
    "services.*.healthcheck.disable",
    "services.*.deploy.resources.limits",
    "services.*.env_file[].required",
    "services.*.profiles",
    "volumes.*.driver",
];

/// Fields that the sample cannot hold beside the others.
const ELSEWHERE: [&str; 2] = ["version", "include"];

fn stack(file: &Value) -> Result<Stack, String> {
    let text = serde_yaml::to_string(file).unwrap();
    let files = common::files(&[
        ("compose.yaml", &text),
        ("base.yaml", "services: {base: {image: base}, web: {image: w}}"),
        ("web.env", "B='2'\n"),
        ("web.labels", "l=1\n"),
        ("conf.txt", "conf"),
        ("key.txt", "key"),
    ]);
    let mut options: LoadOptions = common::options();
    options.env.insert("CONF".to_owned(), "c".to_owned());
    options.env.insert("KEY".to_owned(), "k".to_owned());
    options.profiles = vec!["main".to_owned()];
    let (project, _) = load_from(&options, &files).map_err(|errors| errors.to_string())?;
    let mut stack = convert(&project).map_err(|errors| errors.to_string())?;
    // Places move with the text.
    for warning in &mut stack.warnings {
        (warning.span, warning.place) = (None, String::new());
    }
    for external in &mut stack.externals {
        external.place.clear();
    }
    Ok(stack)
}

/// Every field of the file: its pattern and how to reach it.
fn fields(
    value: &Value,
    shape: &schema::Shape,
    pattern: &str,
    way: &mut Vec<Value>,
    found: &mut Vec<(String, Vec<Value>)>,
) {
    use schema::Shape;
    match shape {
        Shape::Object(object) => {
            for (key, value) in value.as_mapping().into_iter().flatten() {
                let Some(shape) = object.field(key.as_str().unwrap()) else { continue };
                let pattern = [pattern, key.as_str().unwrap()].join(if pattern.is_empty() { "" } else { "." });
                way.push(key.clone());
                found.push((pattern.clone(), way.clone()));
                fields(value, shape, &pattern, way, found);
                way.pop();
            }
        }
        Shape::List(item) | Shape::Set(item) => {
            for (at, value) in value.as_sequence().into_iter().flatten().enumerate() {
                way.push(Value::from(at));
                fields(value, item, &format!("{pattern}[]"), way, found);
                way.pop();
            }
        }
        Shape::Map(item) | Shape::Named(item) => {
            for (key, value) in value.as_mapping().into_iter().flatten() {
                way.push(key.clone());
                fields(value, item, &format!("{pattern}.*"), way, found);
                way.pop();
            }
        }
        Shape::Opt(shape) | Shape::Short(shape, _) => fields(value, shape, pattern, way, found),
        Shape::OneOf(shapes) => shapes.iter().for_each(|shape| fields(value, shape, pattern, way, found)),
        _ => {}
    }
}

fn sample() -> (Value, Vec<(String, Vec<Value>)>) {
    let file: Value = serde_yaml::from_str(include_str!("honoured.yaml")).unwrap();
    let mut found = Vec::new();
    fields(&file, &schema::Shape::Object(&schema::top::FILE), "", &mut Vec::new(), &mut found);
    (file, found)
}

#[test]
fn the_sample_holds_every_honoured_field() {
    let (file, found) = sample();
    stack(&file).unwrap_or_else(|errors| panic!("{errors}"));
    let present: BTreeSet<String> = found.into_iter().map(|(pattern, _)| pattern).collect();
    let honoured = |path: &String| matches!(support::of(path), Support::Honoured(_));
    let missing: Vec<String> = schema::field_paths()
        .into_iter()
        .filter(honoured)
        .filter(|path| !present.contains(path) && !ELSEWHERE.iter().any(|other| path.starts_with(other)))
        .filter(|path| !path.ends_with("external.name"))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn a_field_that_is_taken_away_is_missed() {
    let (file, found) = sample();
    let whole = stack(&file).unwrap();
    let mut dropped = Vec::new();
    for (pattern, way) in found {
        if SILENT.contains(&pattern.as_str()) {
            continue;
        }
        let mut less = file.clone();
        let (last, parents) = way.split_last().unwrap();
        let mut here = &mut less;
        for step in parents {
            here = match step.as_u64() {
                Some(at) => &mut here[at as usize],
                None => &mut here[step],
            };
        }
        here.as_mapping_mut().unwrap().remove(last);
        if stack(&less).is_ok_and(|stack| stack == whole) {
            dropped.push(format!("{way:?}"));
        }
    }
    assert!(dropped.is_empty(), "no trace of:\n{}", dropped.join("\n"));
}
