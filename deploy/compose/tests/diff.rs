//! Plans: what is made, changed field by field, removed, left alone.
#![allow(clippy::unwrap_used)]

mod common;

use berth_compose::Stack;
use berth_compose::diff::{self, Action, Kind, Plan, Present};
use common::good;

const BEFORE: &str = r#"
name: shop
services:
  web:
    image: nginx:1.25
    environment: {MODE: a, DB_PASSWORD: one}
    command: [a, b]
    volumes: ["data:/data", "logs:/logs"]
    ports: ["8080:80"]
    secrets: [key]
    configs: [conf]
  old: {image: busybox}
volumes: {data: , logs: }
configs: {conf: {content: abc}}
secrets: {key: {environment: KEY}}
"#;

fn stack(text: &str, key: &str) -> Stack {
    let mut options = common::options();
    options.env.insert("KEY".to_owned(), key.to_owned());
    let (project, _) = berth_compose::load_from(&options, &common::files(&[("compose.yaml", text)])).unwrap();
    berth_compose::convert(&project).unwrap()
}

fn present(stack: &Stack) -> Present<'_> {
    Present {
        services: stack.services.iter().collect(),
        networks: stack.networks.iter().collect(),
        volumes: stack.volumes.iter().collect(),
        configs: stack.configs.iter().collect(),
        secrets: stack.secrets.iter().collect(),
        secret_contents_known: true,
    }
}

fn plan(before: &Stack, after: &Stack, prune: bool) -> Plan {
    diff::plan(after, &present(before), prune)
}

#[test]
fn everything_is_made_in_an_order_that_works() {
    let plan = diff::plan(&stack(BEFORE, "k"), &Present::default(), false);
    insta::assert_snapshot!("fresh", plan);
    assert_eq!(plan.counts(), (7, 0, 0));
}

#[test]
fn the_same_file_twice_changes_nothing() {
    let stack = stack(BEFORE, "k");
    let plan = plan(&stack, &stack.clone(), true);
    assert!(plan.is_empty());
    assert_eq!(plan.unchanged, 7);
    assert_eq!(plan.to_string(), "unchanged: 7 objects are as they should be");
}

#[test]
fn changes_are_told_field_by_field_and_secrets_are_not_shown() {
    let before = stack(BEFORE, "first-secret");
    let after = BEFORE
        .replace("nginx:1.25", "nginx:1.26")
        .replace("MODE: a, DB_PASSWORD: one", "DB_PASSWORD: two, NEW: x")
        .replace("[a, b]", "[a, c]")
        .replace("\"data:/data\", \"logs:/logs\"", "\"logs:/logs:ro\", \"data:/data\", \"/tmp\"")
        .replace("8080:80", "8081:80")
        .replace("content: abc", "content: abcd")
        .replace("  old: {image: busybox}\n", "");
    let after = stack(&after, "second-secret");
    let pruned = plan(&before, &after, true);
    insta::assert_snapshot!("changed", pruned);
    let text = format!("{pruned:?}");
    assert!(!text.contains("first-secret") && !text.contains("second-secret") && !text.contains("two"), "{text}");
    let kept = plan(&before, &after, false);
    assert_eq!(kept.left, [(Kind::Service, "shop_old".to_owned())]);
    assert!(kept.to_string().contains("= service shop_old is no longer in the file and stays"));
}

#[test]
fn a_volume_is_never_removed_with_its_data() {
    let before = stack(BEFORE, "k");
    let after = good("name: shop\nservices: {web: {image: nginx}}\n");
    let plan = plan(&before, &after, true);
    assert_eq!(plan.left, [(Kind::Volume, "shop_data".to_owned()), (Kind::Volume, "shop_logs".to_owned())]);
    let removed: Vec<&str> =
        plan.steps.iter().filter(|step| step.action == Action::Remove).map(|step| step.name.as_str()).collect();
    assert_eq!(removed, ["shop_old", "shop_key", "shop_conf"]);
}

#[test]
fn a_name_that_somebody_else_has_is_a_conflict() {
    let mut before = stack(BEFORE, "k");
    before.services[0].stack = None;
    before.networks[0].stack = Some("other".parse().unwrap());
    let plan = plan(&before, &stack(BEFORE, "k"), true);
    let shown: Vec<String> = plan.conflicts.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "network shop_default belongs to the stack other",
            "service shop_old is there already and belongs to no stack"
        ]
    );
    assert!(!plan.is_empty());
}

#[test]
fn a_forced_update_is_not_taken_back() {
    let mut before = stack(BEFORE, "k");
    let desired = before.clone();
    before.services[1].task.force_update = 3;
    assert!(plan(&before, &desired, false).is_empty());
    let written = diff::carry_over(desired.services[1].clone(), &before.services[1]);
    assert_eq!(written, before.services[1]);
}

#[test]
fn secrets_without_known_contents_count_as_equal() {
    let (before, after) = (stack(BEFORE, "a"), stack(BEFORE, "b"));
    assert!(!plan(&before, &after, false).is_empty());
    let unknown = Present { secret_contents_known: false, ..present(&before) };
    assert!(diff::plan(&after, &unknown, false).is_empty());
}
