//! What a checked model means without saying it: the default network, names of resources, implied dependencies.

use crate::node::{Map, Node, Value};
use crate::source::Span;

/// Completes a model.
pub(super) fn normalise(model: &mut Node, project: &str) {
    let Some(model) = model.as_map_mut() else { return };
    let mut uses_default = None;
    if let Some(services) = model.get_mut("services").and_then(Node::as_map_mut) {
        for (_, span, service) in services.iter_mut() {
            let Some(service) = service.as_map_mut() else { continue };
            uses_default = join_default(service, span).or(uses_default);
            dependencies(service);
            secret_targets(service);
        }
    }
    if let Some(span) = uses_default {
        if model.get("networks").is_none_or(Node::is_null) {
            model.insert("networks", span, Node::new(Value::Map(Map::new()), span));
        }
        if let Some(networks) =
            model.get_mut("networks").and_then(Node::as_map_mut).filter(|map| !map.contains("default"))
        {
            networks.insert("default", span, Node::new(Value::Null, span));
        }
    }
    for kind in ["networks", "volumes", "configs", "secrets"] {
        let Some(objects) = model.get_mut(kind).and_then(Node::as_map_mut) else { continue };
        for (key, span, object) in objects.iter_mut() {
            if object.is_null() {
                *object = Node::new(Value::Map(Map::new()), span);
            }
            let own = if object.is_true("external") { key.to_owned() } else { format!("{project}_{key}") };
            let Some(map) = object.as_map_mut() else { continue };
            if map.get("name").is_none_or(Node::is_null) {
                map.insert("name", span, Node::text(own, span));
            }
        }
    }
}

/// A service without networks joins `default`. Returns a place when the default network is used.
fn join_default(service: &mut Map, span: Span) -> Option<Span> {
    if service.contains("provider") || service.contains("network_mode") {
        return None;
    }
    match service.get("networks").map(|node| (node.span, node.as_map())) {
        Some((span, Some(networks))) if !networks.is_empty() => return networks.contains("default").then_some(span),
        Some((_, None)) => return None,
        _ => {}
    }
    let mut networks = Map::new();
    networks.insert("default", span, Node::new(Value::Null, span));
    service.insert("networks", span, Node::new(Value::Map(networks), span));
    Some(span)
}

/// `build` starts from the model's own directory and a file called Dockerfile. Comes before paths are resolved.
pub(super) fn build_defaults(model: &mut Node) {
    let services = model.as_map_mut().and_then(|model| model.get_mut("services")?.as_map_mut());
    for (_, _, service) in services.into_iter().flat_map(Map::iter_mut) {
        if let Some(build) = service.as_map_mut().and_then(|service| service.get_mut("build")) {
            complete_build(build);
        }
    }
}

fn complete_build(build: &mut Node) {
    let span = build.span;
    let Some(build) = build.as_map_mut() else { return };
    if !build.contains("context") {
        build.insert("context", span, Node::text(".", span));
    }
    if !build.contains("dockerfile") && !build.contains("dockerfile_inline") {
        build.insert("dockerfile", span, Node::text("Dockerfile", span));
    }
}

fn secret_targets(service: &mut Map) {
    for secret in service.get_mut("secrets").and_then(Node::as_seq_mut).into_iter().flatten() {
        let span = secret.span;
        let Some(source) = secret.str_at("source").map(str::to_owned) else { continue };
        if let Some(map) = secret.as_map_mut().filter(|map| !map.contains("target")) {
            map.insert("target", span, Node::text(format!("/run/secrets/{source}"), span));
        }
    }
}

/// `links`, `network_mode: service:x` and their like, and `volumes_from` imply `depends_on`.
fn dependencies(service: &mut Map) {
    let mut implied: Vec<(String, Span, bool)> = Vec::new();
    for link in service.get("links").and_then(Node::as_seq).unwrap_or_default() {
        let name = link.as_str().map(|link| link.split(':').next().unwrap_or(link));
        implied.extend(name.map(|name| (name.to_owned(), link.span, true)));
    }
    for field in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        let Some(mode) = service.get(field) else { continue };
        let name = mode.as_str().and_then(|mode| mode.strip_prefix("service:"));
        implied.extend(name.map(|name| (name.to_owned(), mode.span, true)));
    }
    for from in service.get("volumes_from").and_then(Node::as_seq).unwrap_or_default() {
        let name = from.as_str().filter(|from| !from.starts_with("container:"));
        implied.extend(name.map(|name| (name.split(':').next().unwrap_or(name).to_owned(), from.span, false)));
    }
    if implied.is_empty() {
        return;
    }
    if !service.contains("depends_on") {
        let span = implied[0].1;
        service.insert("depends_on", span, Node::new(Value::Map(Map::new()), span));
    }
    let Some(depends_on) = service.get_mut("depends_on").and_then(Node::as_map_mut) else { return };
    for (name, span, restart) in implied {
        if depends_on.contains(&name) {
            continue;
        }
        let mut fields = Map::new();
        fields.insert("condition", span, Node::text("service_started", span));
        fields.insert("required", span, Node::new(Value::Bool(true), span));
        if restart {
            fields.insert("restart", span, Node::new(Value::Bool(true), span));
        }
        depends_on.insert(name, span, Node::new(Value::Map(fields), span));
    }
}
