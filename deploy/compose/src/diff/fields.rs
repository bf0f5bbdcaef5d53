//! Differences between two specs, field by field. What may be secret is never shown.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::spec::{ConfigSpec, SecretSpec, ServiceSpec};
use serde::Serialize;
use serde_json::Value;

/// Shown in the place of a value that may be secret.
const REDACTED: &str = "<redacted>";
/// Parts of names of variables whose values are not shown.
const SECRET_WORDS: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "_KEY"];
/// Fields that say which item of a list is meant, the first that all items have.
const IDENTITIES: [&str; 5] = ["target", "network", "host", "subnet", "source"];

/// One field that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The field, e.g. `task.container.env.MODE` or `task.container.mounts[/data].read_only`.
    pub path: String,
    /// What it was; `None` when it was not there.
    pub old: Option<String>,
    /// What it will be; `None` when it will not be there.
    pub new: Option<String>,
}

/// Any two specs.
pub(super) fn differences<S: Serialize + PartialEq>(old: &S, new: &S) -> Vec<Change> {
    let mut changes = Vec::new();
    if old == new {
        return changes;
    }
    let json = |spec: &S| serde_json::to_value(spec).unwrap_or_default();
    compare(String::new(), Some(&json(old)), Some(&json(new)), &mut changes);
    changes
}

/// Two services; what only `--force` sets does not count, nor which contents of configs and secrets they show.
pub(super) fn service(old: &ServiceSpec, new: &ServiceSpec) -> Vec<Change> {
    let mut changes = differences(&old.without_digests(), &new.without_digests());
    changes.retain(|change| change.path != "task.force_update");
    changes
}

/// Two configs; contents are told by their size.
pub(super) fn config(old: &ConfigSpec, new: &ConfigSpec) -> Vec<Change> {
    let mut changes = differences(old, new);
    for change in changes.iter_mut().filter(|change| change.path == "data") {
        change.old = Some(format!("{} bytes", old.data.len()));
        change.new = Some(format!("{} other bytes", new.data.len()));
    }
    changes
}

/// Two secrets; contents are compared where they are known, and never shown.
pub(super) fn secret(old: &SecretSpec, new: &SecretSpec, known: bool) -> Vec<Change> {
    let mut changes = differences(old, new);
    if known && old.data != new.data {
        let redacted = || Some(REDACTED.to_owned());
        changes.push(Change { path: "data".to_owned(), old: redacted(), new: redacted() });
    }
    changes
}

fn compare(path: String, old: Option<&Value>, new: Option<&Value>, changes: &mut Vec<Change>) {
    // A field that is left out and one that is null say the same.
    let (old, new) = (old.filter(|value| !value.is_null()), new.filter(|value| !value.is_null()));
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(here, old.get(key), new.get(key), changes);
            }
        }
        (Some(Value::Array(old_items)), Some(Value::Array(new_items))) => {
            let Some((old, new)) = by_identity(old_items, new_items) else {
                let whole = |items: &[Value]| Some(shown(&path, &Value::Array(items.to_vec())));
                changes.push(Change { old: whole(old_items), new: whole(new_items), path });
                return;
            };
            let before = changes.len();
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                compare(format!("{path}[{key}]"), old.get(key).copied(), new.get(key).copied(), changes);
            }
            if changes.len() == before {
                changes.push(Change { path, old: Some("another order".to_owned()), new: Some(names(new_items)) });
            }
        }
        (old, new) => {
            let (old, new) = (old.map(|value| shown(&path, value)), new.map(|value| shown(&path, value)));
            changes.push(Change { path, old, new });
        }
    }
}

type Items<'v> = BTreeMap<String, &'v Value>;

/// What identifies the items of a list, in its order.
fn names(items: &[Value]) -> String {
    let name = |item: &Value| IDENTITIES.iter().find_map(|field| item.get(*field)?.as_str().map(str::to_owned));
    items.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

/// Items of two lists by what identifies them, when something does.
fn by_identity<'v>(old: &'v [Value], new: &'v [Value]) -> Option<(Items<'v>, Items<'v>)> {
    if old.is_empty() && new.is_empty() {
        return None;
    }
    let field = IDENTITIES.iter().find(|field| old.iter().chain(new).all(|item| item.get(**field).is_some()))?;
    let keyed = |items: &'v [Value]| -> Option<Items<'v>> {
        let mut map = BTreeMap::new();
        for item in items {
            let key = match item.get(*field)? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            // Several items with one identity are better compared as a whole.
            if map.insert(key, item).is_some() {
                return None;
            }
        }
        Some(map)
    };
    Some((keyed(old)?, keyed(new)?))
}

/// A value as text; names that sound secret hide theirs.
fn shown(path: &str, value: &Value) -> String {
    let name = path.rsplit_once("env.").map_or("", |(_, name)| name).to_ascii_uppercase();
    if SECRET_WORDS.iter().any(|word| name.contains(word)) {
        return REDACTED.to_owned();
    }
    match value {
        Value::String(text) => text.clone(),
        other => redacted(other, path.ends_with("env")).to_string(),
    }
}

/// A whole environment that appears or goes hides its values too.
fn redacted(value: &Value, env: bool) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let upper = key.to_ascii_uppercase();
                let hide = env && SECRET_WORDS.iter().any(|word| upper.contains(word));
                let value = if hide { Value::String(REDACTED.to_owned()) } else { redacted(value, key == "env") };
                (key.clone(), value)
            })
            .filter(|(_, value)| !value.is_null())
            .collect(),
        other => other.clone(),
    }
}
