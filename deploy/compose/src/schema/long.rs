//! Short forms to long ones. Each function gets a node that its table accepted and returns the canonical form, or a bad
//! node after an error.

use std::net::IpAddr;

use crate::diag::Diags;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::source::Span;

fn map_of<const N: usize>(span: Span, fields: [(&str, Value); N]) -> Node {
    let mut map = Map::new();
    for (key, value) in fields {
        map.insert(key, span, Node::new(value, span));
    }
    Node::new(Value::Map(map), span)
}

fn bad_value(node: &Node, expected: &str, path: &Path<'_>, diags: &mut Diags) -> Node {
    let value = node.scalar_text().unwrap_or_default();
    diags.error(path, node.span, Problem::BadValue { value, expected: expected.to_owned() });
    Node::bad(node.span)
}

fn text(text: &str) -> Value {
    Value::Str(text.to_owned())
}

/// `external: {name: x}` becomes `external: true` and `name: x`.
pub fn external(mut node: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    let Some(map) = node.as_map_mut() else { return node };
    let Some(external) = map.get("external").filter(|external| external.as_map().is_some()).cloned() else {
        return node;
    };
    if let Some(name) = external.get("name") {
        let here = path.key("external");
        let message = "`external.name` is deprecated, write `external: true` and `name` beside it";
        diags.warn(&here, Some(external.span), message);
        match map.get("name") {
            Some(other) if !other.same(name) => {
                let problem = Problem::Distinct { a: "name", b: "external.name" };
                diags.error(&here, name.span, problem);
            }
            Some(_) => {}
            None => map.insert("name", name.span, name.clone()),
        }
    }
    map.insert("external", external.span, Node::new(Value::Bool(true), external.span));
    node
}

/// `build: dir`.
pub fn build(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    match node.as_str() {
        Some(context) => map_of(node.span, [("context", text(context))]),
        None => node,
    }
}

/// `extends: service`.
pub fn extends(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    match node.as_str() {
        Some(service) => map_of(node.span, [("service", text(service))]),
        None => node,
    }
}

/// `depends_on: [a, b]`; the long form gets its defaults.
pub fn depends_on(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    let span = node.span;
    match node.value {
        Value::Seq(items) => {
            let mut map = Map::new();
            for item in items {
                let Some(name) = item.as_str() else { continue };
                let fields = [("condition", text("service_started")), ("required", Value::Bool(true))];
                map.insert(name, item.span, map_of(item.span, fields));
            }
            Node::new(Value::Map(map), span)
        }
        Value::Map(mut map) => {
            for (_, key_span, dependency) in map.iter_mut() {
                let Some(fields) = dependency.as_map_mut() else { continue };
                if !fields.contains("required") {
                    fields.insert("required", key_span, Node::new(Value::Bool(true), key_span));
                }
            }
            Node::new(Value::Map(map), span)
        }
        _ => node,
    }
}

/// A list of names becomes a mapping from them to nothing.
pub fn names(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    let span = node.span;
    let Value::Seq(items) = node.value else { return node };
    let mut map = Map::new();
    for item in items {
        if let Some(name) = item.as_str() {
            map.insert(name, item.span, Node::new(Value::Null, item.span));
        }
    }
    Node::new(Value::Map(map), span)
}

/// `source:target:permissions`.
pub fn device(node: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    let Some(line) = node.as_str() else { return node };
    let parts: Vec<&str> = line.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ => return bad_value(&node, "a device such as /dev/ttyUSB0:/dev/ttyUSB0:rwm", path, diags),
    };
    let target = if target.is_empty() { source } else { target };
    map_of(node.span, [("source", text(source)), ("target", text(target)), ("permissions", text(permissions))])
}

/// One path, or a list of paths and mappings.
pub fn env_file(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    let span = node.span;
    let items = match node.value {
        Value::Seq(items) => items,
        _ => vec![node],
    };
    let long = items.into_iter().map(|mut item| {
        if let Some(file) = item.as_str() {
            return map_of(item.span, [("path", text(file)), ("required", Value::Bool(true))]);
        }
        let span = item.span;
        if let Some(map) = item.as_map_mut().filter(|map| !map.contains("required")) {
            map.insert("required", span, Node::new(Value::Bool(true), span));
        }
        item
    });
    Node::new(Value::Seq(long.collect()), span)
}

/// `gpus: all`.
pub fn gpus(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    match node.as_str() {
        Some(_) => {
            let all = map_of(node.span, [("count", text("all"))]);
            Node::new(Value::Seq(vec![all]), node.span)
        }
        None => node,
    }
}

/// The name of a config or secret.
pub fn file_ref(node: Node, _: &Path<'_>, _: &mut Diags) -> Node {
    match node.as_str() {
        Some(source) => map_of(node.span, [("source", text(source))]),
        None => node,
    }
}

/// One of the known words, or `every_<duration>`.
pub fn pull_policy(node: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    const WORDS: [&str; 8] = ["always", "never", "build", "missing", "if_not_present", "refresh", "daily", "weekly"];
    let Some(policy) = node.as_str() else { return node };
    let every = policy.strip_prefix("every_").is_some_and(|period| crate::units::duration(period).is_some());
    if !every && !WORDS.contains(&policy) {
        return bad_value(&node, "always, never, missing, build, daily, weekly or every_<duration>", path, diags);
    }
    if policy == "if_not_present" { Node::text("missing", node.span) } else { node }
}

/// Every item becomes a mapping; a range becomes several.
pub fn ports(mut node: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    let Some(items) = node.as_seq_mut() else { return node };
    let mut long = Vec::new();
    for (at, mut item) in std::mem::take(items).into_iter().enumerate() {
        let here = path.index(at);
        match &mut item.value {
            Value::Str(line) => match short_ports(line, item.span) {
                Ok(ports) => long.extend(ports),
                Err(expected) => long.push(bad_value(&item, expected, &here, diags)),
            },
            Value::Map(map) => {
                check_port(map, item.span, &here, diags);
                long.push(item);
            }
            _ => long.push(item),
        }
    }
    *items = long;
    node
}

fn check_port(map: &mut Map, span: Span, path: &Path<'_>, diags: &mut Diags) {
    if !map.contains("target") {
        diags.error(path, span, Problem::Missing("target"));
    }
    for (field, default) in [("protocol", "tcp"), ("mode", "ingress")] {
        if !map.contains(field) {
            map.insert(field, span, Node::text(default, span));
        }
    }
    let address = map.get("host_ip").filter(|node| node.as_str().is_some_and(|ip| ip.parse::<IpAddr>().is_err()));
    if let Some(node) = address.cloned() {
        bad_value(&node, "an IP address", &path.key("host_ip"), diags);
    }
    let range = map.get("published").filter(|node| node.as_str().is_some_and(|port| port_range(port).is_none()));
    if let Some(node) = range.cloned() {
        bad_value(&node, "a port or a range of ports", &path.key("published"), diags);
    }
}

/// `a` or `a-b`, in order; an empty text is no port.
pub fn port_range(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// `[ip:][published:]target[/protocol]`, with ranges (Compose Specification, "ports", short syntax).
fn short_ports(line: &str, span: Span) -> Result<Vec<Node>, &'static str> {
    let (numbers, protocol) = line.split_once('/').unwrap_or((line, "tcp"));
    let protocol = protocol.to_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("a port with the protocol tcp, udp or sctp");
    }
    let mut parts = numbers.rsplitn(3, ':');
    let target = parts.next().unwrap_or_default();
    let published = parts.next().unwrap_or_default();
    let host_ip = parts.next().unwrap_or_default();
    let host_ip = host_ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(host_ip);
    if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
        return Err("a port such as 8080:80: what stands before the second colon must be an IP address");
    }
    let (first, last) =
        port_range(target).ok_or("a port such as 80, 8080:80, 127.0.0.1:8080:80/tcp or 8000-8010:80-90")?;
    let host = match published {
        "" => None,
        range => Some(port_range(range).ok_or("a published port or range of ports")?),
    };
    if let Some((from, to)) = host.filter(|(from, to)| to - from != last - first && first != last) {
        let _ = (from, to);
        return Err("a pair of port ranges of the same length");
    }
    let port = |target: u16| {
        let published = host.map(|(from, to)| match first == last && from != to {
            true => format!("{from}-{to}"),
            false => (from + (target - first)).to_string(),
        });
        let mut node = map_of(
            span,
            [
                ("mode", text("ingress")),
                ("target", Value::Int(i64::from(target))),
                ("protocol", Value::Str(protocol.clone())),
            ],
        );
        if let Some(map) = node.as_map_mut() {
            if !host_ip.is_empty() {
                map.insert("host_ip", span, Node::text(host_ip, span));
            }
            if let Some(published) = published {
                map.insert("published", span, Node::text(published, span));
            }
        }
        node
    };
    Ok((first..=last).map(port).collect())
}

/// `[source:]target[:options]`; the long form is only cleaned.
pub fn mount(mut node: Node, path: &Path<'_>, diags: &mut Diags) -> Node {
    let span = node.span;
    if let Some(line) = node.as_str() {
        return match short_mount(line, span, path, diags) {
            Ok(mount) => mount,
            Err(expected) => bad_value(&node, expected, path, diags),
        };
    }
    if let Some(map) = node.as_map_mut() {
        match map.get("target").map(|target| (target.span, target.as_str().map(clean))) {
            Some((span, Some(target))) => map.insert("target", span, Node::text(target, span)),
            Some(_) => {}
            None => {
                diags.error(path, span, Problem::Missing("target"));
            }
        }
        let bind = map.get("type").and_then(Node::as_str) == Some("bind");
        if bind && !map.contains("source") {
            diags.error(path, span, Problem::Missing("source"));
        }
    }
    node
}

fn short_mount(line: &str, span: Span, path: &Path<'_>, diags: &mut Diags) -> Result<Node, &'static str> {
    let parts = mount_parts(line);
    if parts.iter().any(|part| part.is_empty()) {
        return Err("a volume such as data:/data or ./dir:/dir:ro; one of its parts is empty");
    }
    let (source, target, options) = match parts[..] {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, options] => (Some(source), target, Some(options)),
        _ => return Err("a volume such as data:/data or ./dir:/dir:ro; it has too many colons"),
    };
    let is_path = source
        .is_some_and(|source| source.starts_with(['.', '/', '~']) || source.starts_with("\\\\") || is_drive(source));
    let kind = if is_path { "bind" } else { "volume" };
    let mut node = map_of(span, [("type", text(kind)), ("target", Value::Str(clean(target)))]);
    let mut bind = Map::new();
    if is_path {
        bind.insert("create_host_path", span, Node::new(Value::Bool(true), span));
    }
    let Some(map) = node.as_map_mut() else { return Ok(node) };
    if let Some(source) = source {
        map.insert("source", span, Node::text(source, span));
    }
    for option in options.into_iter().flat_map(|options| options.split(',')) {
        match option {
            "ro" => map.insert("read_only", span, Node::new(Value::Bool(true), span)),
            "rw" => map.insert("read_only", span, Node::new(Value::Bool(false), span)),
            "nocopy" => map.insert("volume", span, map_of(span, [("nocopy", Value::Bool(true))])),
            "z" | "Z" => bind.insert("selinux", span, Node::text(option, span)),
            "rprivate" | "private" | "rshared" | "shared" | "rslave" | "slave" => {
                bind.insert("propagation", span, Node::text(option, span));
            }
            "cached" | "delegated" | "consistent" => map.insert("consistency", span, Node::text(option, span)),
            _ => diags.warn(path, Some(span), format!("mount option `{option}` is not known and does nothing")),
        }
    }
    if !bind.is_empty() {
        map.insert("bind", span, Node::new(Value::Map(bind), span));
    }
    Ok(node)
}

fn is_drive(source: &str) -> bool {
    let mut chars = source.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next() == Some(':')
}

/// Splits at colons, but not behind the letter of a Windows drive.
fn mount_parts(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in line.char_indices() {
        let part = &line[start..at];
        let mut letters = part.chars();
        let drive = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
        if c == ':' && !(drive && line[at + 1..].starts_with('\\')) {
            parts.push(part);
            start = at + 1;
        }
    }
    parts.push(&line[start..]);
    parts
}

/// A path without `.`, `..` and doubled or trailing slashes.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, clean_path) in
            [("/a//b/", "/a/b"), ("a/../..", ".."), ("/../a", "/a"), ("./", "."), ("/", "/"), ("", ".")]
        {
            assert_eq!(clean(path), clean_path, "{path}");
        }
    }

    fn ports_of(line: &str) -> Result<Vec<String>, &'static str> {
        let ports = short_ports(line, Span::default())?;
        Ok(ports
            .iter()
            .map(|port| {
                let part = |key| port.get(key).and_then(Node::scalar_text).unwrap_or_default();
                format!("{}|{}|{}|{}", part("host_ip"), part("published"), part("target"), part("protocol"))
            })
            .collect())
    }

    #[test]
    fn short_ports_become_long() {
        for (line, long) in [
            ("80", vec!["||80|tcp"]),
            ("8080:80/UDP", vec!["|8080|80|udp"]),
            ("127.0.0.1:8080:80", vec!["127.0.0.1|8080|80|tcp"]),
            ("127.0.0.1::80", vec!["127.0.0.1||80|tcp"]),
            ("[::1]:8080:80", vec!["::1|8080|80|tcp"]),
            ("::1:8080:80", vec!["::1|8080|80|tcp"]),
            ("8000-8001:80-81", vec!["|8000|80|tcp", "|8001|81|tcp"]),
            ("8000-8010:80", vec!["|8000-8010|80|tcp"]),
            ("3000-3001", vec!["||3000|tcp", "||3001|tcp"]),
        ] {
            assert_eq!(ports_of(line), Ok(long.into_iter().map(String::from).collect()), "{line}");
        }
        for line in ["", "x", "1:2:3:4", "8000-8001:80-82", "80/http", "70000", "9-8", "a:80", "80:"] {
            assert!(ports_of(line).is_err(), "{line}");
        }
    }

    #[test]
    fn short_mounts_are_split_like_compose_splits_them() {
        assert_eq!(mount_parts("a:/b:ro"), ["a", "/b", "ro"]);
        assert_eq!(mount_parts("C:\\x:/b"), ["C:\\x", "/b"]);
        assert_eq!(mount_parts("/b"), ["/b"]);
    }
}
