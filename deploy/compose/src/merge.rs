//! One document over another, by the rules of the Compose Specification's chapter "Merge and override".

use crate::diag::Diags;
use crate::node::{Map, MergeTag, Node, Value};
use crate::path::Path;
use crate::problem::Problem;

/// How two values at a place become one, where it is not the general rule (mappings merge, lists append, the rest is
/// replaced).
#[derive(Clone, Copy)]
enum Rule {
    /// The later one stands.
    Replace,
    /// Both as lists of `key=value` lines, one behind the other.
    Lines,
    /// Both as lists, without what is there already.
    Hosts,
    /// A list of names counts as a mapping.
    Names,
    /// As `Names`, each with the defaults of a dependency.
    DependsOn,
    /// A text is the context.
    Build,
    /// Merged only for the same driver.
    Logging,
    /// Pools with the same subnet merge.
    Pools,
}

const RULES: &[(&str, Rule)] = &[
    ("networks.*.ipam.config", Rule::Pools),
    ("networks.*.labels", Rule::Lines),
    ("volumes.*.labels", Rule::Lines),
    ("services.*.annotations", Rule::Lines),
    ("services.*.build", Rule::Build),
    ("services.*.build.args", Rule::Lines),
    ("services.*.build.additional_contexts", Rule::Lines),
    ("services.*.build.extra_hosts", Rule::Hosts),
    ("services.*.build.labels", Rule::Lines),
    ("services.*.command", Rule::Replace),
    ("services.*.depends_on", Rule::DependsOn),
    ("services.*.deploy.labels", Rule::Lines),
    ("services.*.dns", Rule::Lines),
    ("services.*.dns_opt", Rule::Lines),
    ("services.*.dns_search", Rule::Lines),
    ("services.*.entrypoint", Rule::Replace),
    ("services.*.env_file", Rule::Lines),
    ("services.*.label_file", Rule::Lines),
    ("services.*.environment", Rule::Lines),
    ("services.*.extra_hosts", Rule::Hosts),
    ("services.*.healthcheck.test", Rule::Replace),
    ("services.*.labels", Rule::Lines),
    ("services.*.volumes.*.volume.labels", Rule::Lines),
    ("services.*.logging", Rule::Logging),
    ("services.*.models", Rule::Names),
    ("services.*.networks", Rule::Names),
    ("services.*.sysctls", Rule::Lines),
    ("services.*.tmpfs", Rule::Lines),
    ("services.*.ulimits.*", Rule::Replace),
];

/// Merges `over` into `base`.
pub fn merge(base: Node, over: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    if base.is_bad() || over.is_bad() {
        return Node::bad(over.span);
    }
    let rule = RULES.iter().find(|(pattern, _)| path.matches(pattern)).map(|(_, rule)| *rule);
    match rule {
        Some(Rule::Replace) => over,
        Some(Rule::Lines) if !base.is_null() => {
            let mut lines = to_lines(base);
            lines.extend(to_lines(over.clone()));
            Node::new(Value::Seq(lines), over.span)
        }
        Some(Rule::Hosts) => {
            let mut lines = to_lines(base);
            let new = to_lines(over.clone()).into_iter().filter(|line| !lines.iter().any(|old| old.same(line)));
            let new: Vec<Node> = new.collect();
            lines.extend(new);
            Node::new(Value::Seq(lines), over.span)
        }
        Some(Rule::Names) => general(to_names(base, false), to_names(over, false), path, diags),
        Some(Rule::DependsOn) => general(to_names(base, true), to_names(over, true), path, diags),
        Some(Rule::Build) => general(to_context(base), to_context(over), path, diags),
        Some(Rule::Logging) => {
            let (old, new) = (base.get("driver"), over.get("driver"));
            let other = matches!((old, new), (Some(old), Some(new)) if !old.same(new));
            if other { over } else { general(base, over, path, diags) }
        }
        Some(Rule::Pools) => pools(base, over, path, diags),
        _ => general(base, over, path, diags),
    }
}

fn general(base: Node, over: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    if over.is_null() {
        return base;
    }
    let (old, new) = (base.kind(), over.kind());
    let span = over.span;
    match (base.value, over.value) {
        (Value::Map(mut map), Value::Map(other)) => {
            for (key, key_span, node) in other.into_entries() {
                let merged = match map.get_mut(&key) {
                    Some(earlier) => {
                        let earlier = std::mem::replace(earlier, Node::bad(key_span));
                        merge(earlier, node, &path.key(&key), diags)
                    }
                    None => node,
                };
                map.insert(key, key_span, merged);
            }
            Node::new(Value::Map(map), span)
        }
        (Value::Seq(mut items), Value::Seq(other)) => {
            items.extend(other);
            Node::new(Value::Seq(items), span)
        }
        (Value::Map(_) | Value::Seq(_), _) => {
            let hint = "`!override` in front of the value replaces the earlier one";
            diags.error(path, span, Problem::Override { old, new }).hint(hint);
            Node::bad(span)
        }
        (_, value) => Node::new(value, span),
    }
}

/// A mapping as sorted `key=value` lines, a text as one line.
fn to_lines(node: Node) -> Vec<Node> {
    match node.value {
        Value::Map(map) => {
            let mut lines = Vec::new();
            for (key, span, value) in map.into_entries() {
                match value.value {
                    Value::Null => lines.push(Node::text(key, span)),
                    Value::Seq(items) => lines.extend(items.iter().map(|item| line(&key, item))),
                    _ => lines.push(line(&key, &value)),
                }
            }
            lines.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            lines
        }
        Value::Seq(items) => items,
        Value::Str(_) => vec![node],
        _ => Vec::new(),
    }
}

fn line(key: &str, value: &Node) -> Node {
    match value.scalar_text() {
        Some(text) => Node::text(format!("{key}={text}"), value.span),
        None => Node::bad(value.span),
    }
}

fn to_names(node: Node, dependency: bool) -> Node {
    let Value::Seq(items) = node.value else { return node };
    let mut map = Map::new();
    for item in items {
        let value = if dependency {
            let mut fields = Map::new();
            fields.insert("condition", item.span, Node::text("service_started", item.span));
            fields.insert("required", item.span, Node::new(Value::Bool(true), item.span));
            Value::Map(fields)
        } else {
            Value::Null
        };
        if let Some(name) = item.as_str() {
            map.insert(name, item.span, Node::new(value, item.span));
        }
    }
    Node::new(Value::Map(map), node.span)
}

fn to_context(node: Node) -> Node {
    if node.as_str().is_none() {
        return node;
    }
    let span = node.span;
    let mut map = Map::new();
    map.insert("context", span, node);
    Node::new(Value::Map(map), span)
}

fn pools(base: Node, over: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    let span = over.span;
    let (Value::Seq(mut pools), Value::Seq(new)) = (base.clone().value, over.clone().value) else {
        return general(base, over, path, diags);
    };
    for (at, pool) in new.into_iter().enumerate() {
        let same = pools.iter().position(|old| match (old.get("subnet"), pool.get("subnet")) {
            (Some(old), Some(new)) => old.same(new),
            (old, new) => old.is_none() && new.is_none(),
        });
        match same {
            Some(earlier) => {
                let old = std::mem::replace(&mut pools[earlier], Node::bad(span));
                pools[earlier] = general(old, pool, &path.index(at), diags);
            }
            None => pools.push(pool),
        }
    }
    Node::new(Value::Seq(pools), span)
}

/// Takes the tagged values out of a document: the paths of `!reset` and `!override`. Reset values are removed.
pub fn take_tags(node: &mut Node, keys: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match &mut node.value {
        Value::Map(map) => map.retain(|key, value| {
            keys.push(key.to_owned());
            let keep = keep_tagged(value, keys, found);
            keys.pop();
            keep
        }),
        Value::Seq(items) => items.retain_mut(|item| {
            let mut inside = Vec::new();
            keep_tagged(item, &mut vec!["[]".to_owned()], &mut inside)
        }),
        _ => {}
    }
}

fn keep_tagged(value: &mut Node, keys: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> bool {
    match value.tag.take() {
        Some(MergeTag::Reset) => {
            found.push(keys.clone());
            false
        }
        Some(MergeTag::Override) => {
            found.push(keys.clone());
            let mut inside = Vec::new();
            take_tags(value, &mut Vec::new(), &mut inside);
            true
        }
        None => {
            take_tags(value, keys, found);
            true
        }
    }
}

/// Takes the values at these paths away.
pub fn reset(node: &mut Node, paths: &[Vec<String>]) {
    for path in paths {
        let Some((last, parents)) = path.split_last() else { continue };
        let parent = parents.iter().try_fold(&mut *node, |node, key| node.as_map_mut()?.get_mut(key));
        if let Some(map) = parent.and_then(Node::as_map_mut) {
            map.remove(last);
        }
    }
}

/// What an item of a list stands for.
type KeyOf = fn(&Node) -> Option<String>;

/// Items of a list that stand for the same thing: the later one takes the place of the earlier one.
const UNIQUE: &[(&str, KeyOf)] = &[
    ("networks.*.labels", before_equals),
    ("volumes.*.labels", before_equals),
    ("services.*.annotations", before_equals),
    ("services.*.build.args", before_equals),
    ("services.*.build.additional_contexts", before_equals),
    ("services.*.build.tags", before_equals),
    ("services.*.build.labels", before_equals),
    ("services.*.cap_add", before_equals),
    ("services.*.cap_drop", before_equals),
    ("services.*.configs", config_target),
    ("services.*.deploy.labels", before_equals),
    ("services.*.devices", device_target),
    ("services.*.dns", before_equals),
    ("services.*.dns_opt", whole),
    ("services.*.dns_search", before_equals),
    ("services.*.environment", before_equals),
    ("services.*.env_file", file_path),
    ("services.*.expose", whole),
    ("services.*.labels", before_equals),
    ("services.*.links", before_equals),
    ("services.*.networks.*.aliases", before_equals),
    ("services.*.networks.*.link_local_ips", before_equals),
    ("services.*.ports", port),
    ("services.*.profiles", before_equals),
    ("services.*.secrets", secret_target),
    ("services.*.sysctls", before_equals),
    ("services.*.tmpfs", before_equals),
    ("services.*.volumes", mount_target),
];

/// Enforces that items of such lists are unique.
pub fn unique(node: &mut Node, path: &Path<'_>) {
    match &mut node.value {
        Value::Map(map) => {
            for (key, _, value) in map.iter_mut() {
                unique(value, &path.key(key));
            }
        }
        Value::Seq(items) => {
            let Some((_, key_of)) = UNIQUE.iter().find(|(pattern, _)| path.matches(pattern)) else { return };
            let mut kept: Vec<Node> = Vec::with_capacity(items.len());
            let mut places = std::collections::HashMap::new();
            for item in std::mem::take(items) {
                match key_of(&item).map(|key| (places.get(&key).copied(), key)) {
                    Some((Some(at), _)) => kept[at] = item,
                    Some((None, key)) => {
                        places.insert(key, kept.len());
                        kept.push(item);
                    }
                    None => kept.push(item),
                }
            }
            *items = kept;
        }
        _ => {}
    }
}

fn before_equals(node: &Node) -> Option<String> {
    let text = node.as_str()?;
    Some(text.split_once('=').map_or(text, |(key, _)| key).to_owned())
}

fn whole(node: &Node) -> Option<String> {
    node.scalar_text()
}

fn file_path(node: &Node) -> Option<String> {
    node.as_str().or_else(|| node.str_at("path")).map(str::to_owned)
}

fn file_target(node: &Node, dir: &str) -> Option<String> {
    match node.as_str() {
        Some(name) => Some(format!("{dir}/{name}")),
        None => {
            let default = || node.str_at("source").map(|source| format!("{dir}/{source}"));
            node.str_at("target").map(str::to_owned).or_else(default)
        }
    }
}

fn config_target(node: &Node) -> Option<String> {
    file_target(node, "")
}

fn secret_target(node: &Node) -> Option<String> {
    file_target(node, "/run/secrets")
}

fn device_target(node: &Node) -> Option<String> {
    match node.as_str() {
        Some(line) => line.split(':').nth(1).or_else(|| line.split(':').next()).map(str::to_owned),
        None => node.str_at("target").or_else(|| node.str_at("source")).map(str::to_owned),
    }
}

fn mount_target(node: &Node) -> Option<String> {
    match node.as_str() {
        Some(line) => {
            let parts: Vec<&str> = line.split(':').collect();
            parts.get(1).or(parts.first()).map(|target| crate::schema::long::clean(target))
        }
        None => node.str_at("target").map(str::to_owned),
    }
}

fn port(node: &Node) -> Option<String> {
    if let Some(text) = node.scalar_text() {
        return Some(text);
    }
    let part = |key, default: &str| node.get(key).and_then(Node::scalar_text).unwrap_or_else(|| default.to_owned());
    let target = node.get("target")?.scalar_text()?;
    let (ip, published) = (part("host_ip", "0.0.0.0"), part("published", ""));
    Some(format!("{ip}:{published}:{target}/{}", part("protocol", "tcp")))
}
