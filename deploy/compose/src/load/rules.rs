//! What must hold between fields: references that are defined, fields that exclude each other, no circles.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::diag::Diags;
use crate::node::{Map, Node};
use crate::path::Path;
use crate::problem::Problem;
use crate::project::{Objects, Project};
use crate::source::Span;
use crate::suggest;

/// Rules of one model, whichever project it becomes part of.
pub(super) fn check_objects(model: &Node, diags: &mut Diags) {
    for (name, span, volume) in model.entries("volumes") {
        let root = Path::Root.key("volumes");
        if let Some((key, at)) = beside_external(volume) {
            let problem = Problem::Exclusive { a: "external".to_owned(), b: key.to_owned() };
            diags.error(&root.key(name), at.unwrap_or(span), problem);
        }
    }
    for (name, span, network) in model.entries("networks") {
        let root = Path::Root.key("networks");
        if let Some((key, at)) = beside_external(network) {
            let message = format!("`{key}` has no meaning beside `external`");
            diags.warn(&root.key(name), at.or(Some(span)), message);
        }
    }
    for (kind, keys, message) in [
        ("configs", &["file", "environment", "content"][..], "`file`, `environment` or `content`"),
        ("secrets", &["file", "environment"][..], "`file` or `environment`"),
    ] {
        let root = Path::Root.key(kind);
        for (name, span, object) in model.entries(kind) {
            let Some(map) = object.as_map() else { continue };
            let set: Vec<&str> = keys.iter().copied().filter(|key| map.contains(key)).collect();
            let path = root.key(name);
            if let [a, b, ..] = set[..] {
                let span = map.key_span(b).unwrap_or(span);
                diags.error(&path, span, Problem::Exclusive { a: a.to_owned(), b: b.to_owned() });
            }
            if set.is_empty() && !map.contains("driver") && !map.contains("external") {
                diags.error(&path, span, Problem::OneOf(message));
            }
        }
    }
    let root = Path::Root.key("services");
    for (name, _, service) in model.entries("services") {
        let path = root.key(name);
        let devices = service.at(&["deploy", "resources", "reservations", "devices"]);
        for list in [service.get("gpus"), devices] {
            for request in list.and_then(Node::as_seq).unwrap_or_default() {
                if let (Some(_), Some(ids)) = (request.get("count"), request.get("device_ids")) {
                    let problem = Problem::Exclusive { a: "count".to_owned(), b: "device_ids".to_owned() };
                    diags.error(&path, ids.span, problem);
                }
            }
        }
    }
}

/// A field beside `external: true` that says something about the thing itself.
fn beside_external(object: &Node) -> Option<(&str, Option<Span>)> {
    let map = object.as_map().filter(|_| object.is_true("external"))?;
    let key = map.keys().find(|key| !matches!(*key, "external" | "name") && !key.starts_with("x-"))?;
    Some((key, map.key_span(key)))
}

/// Rules of a whole project; disabled services are left alone.
pub(super) fn check(project: &Project, diags: &mut Diags) {
    let root = Path::Root.key("services");
    for (name, service) in &project.services {
        let Some(map) = service.as_map() else { continue };
        let rules = Rules { project, name, service, map, path: root.key(name) };
        rules.image_and_build(diags);
        rules.references(diags);
        rules.dependencies(diags);
        rules.amounts(diags);
        rules.mounts(diags);
        rules.watches(diags);
    }
    container_names(project, diags);
    circles(project, diags);
    let secrets = Path::Root.key("secrets");
    for (name, secret) in &project.secrets {
        let found = ["file", "environment", "driver"].iter().any(|key| secret.get(key).is_some());
        if !found && secret.get("external").and_then(Node::as_bool) == Some(false) {
            diags.error(&secrets.key(name), secret.span, Problem::OneOf("`file` or `environment`"));
        }
    }
}

struct Rules<'p> {
    project: &'p Project,
    name: &'p str,
    service: &'p Node,
    map: &'p Map,
    path: Path<'p>,
}

impl Rules<'_> {
    fn span(&self, key: &str) -> Span {
        self.map.get(key).map_or(self.service.span, |node| node.span)
    }

    fn image_and_build(&self, diags: &mut Diags) {
        let has = |key: &str| self.map.get(key).is_some_and(|node| !node.is_null() && node.as_str() != Some(""));
        if !["image", "build", "provider", "extends"].into_iter().any(has) {
            let hint = "is this an override for another file? give both: -f FILE -f OVERRIDE";
            diags.error(&self.path, self.service.span, Problem::NoImage(self.name.to_owned())).hint(hint);
        }
        let Some(build) = self.map.get("build") else { return };
        let path = self.path.key("build");
        if let (Some(inline), Some(_)) = (build.get("dockerfile_inline"), build.get("dockerfile")) {
            let problem = Problem::Exclusive { a: "dockerfile".to_owned(), b: "dockerfile_inline".to_owned() };
            diags.error(&path, inline.span, problem);
        }
        for (_, _, context) in build.entries("additional_contexts") {
            let Some(target) = context.as_str().and_then(|context| context.strip_prefix("service:")) else { continue };
            match self.project.services.get(target) {
                Some(other) if other.get("build").is_some() => {}
                Some(_) => {
                    let expected = "a service with `build`".to_owned();
                    diags.error(&path, context.span, Problem::BadValue { value: target.to_owned(), expected });
                }
                None => self.undefined("service", target, context.span, self.project.services.keys(), diags),
            }
        }
        let platform = self.map.get("platform").and_then(Node::as_str);
        let platforms = build.items("platforms");
        if let Some(platform) = platform.filter(|_| !platforms.is_empty())
            && !platforms.iter().any(|node| node.as_str() == Some(platform))
        {
            diags.error(&path, build.span, Problem::BuildPlatform(platform.to_owned()));
        }
    }

    fn undefined<'n>(
        &self,
        what: &'static str,
        name: &str,
        span: Span,
        known: impl IntoIterator<Item = &'n String>,
        diags: &mut Diags,
    ) {
        let hint = suggest::did_you_mean(name, known.into_iter().map(String::as_str));
        let define = match what {
            "network" | "volume" => Some(format!("define it at the top of the file, under `{what}s:`")),
            "service" => None,
            _ => Some(format!("define it at the top of the file, under `{what}s:`, with its source")),
        };
        let problem = Problem::Undefined { what, name: name.to_owned() };
        let list = match what {
            "service" => "depends_on".to_owned(),
            _ => format!("{what}s"),
        };
        diags.error(&self.path.key(&list), span, problem).maybe_hint(hint.or(define));
    }

    fn references(&self, diags: &mut Diags) {
        let project = self.project;
        let mode = self.map.get("network_mode").filter(|mode| mode.as_str() != Some(""));
        if let (Some(mode), Some(_)) = (mode, self.map.get("networks").filter(|node| !is_empty(node))) {
            let problem = Problem::Exclusive { a: "network_mode".to_owned(), b: "networks".to_owned() };
            diags.error(&self.path, mode.span, problem);
        }
        if let Some(target) = mode.and_then(Node::as_str).and_then(|mode| mode.strip_prefix("service:"))
            && !project.services.contains_key(target)
            && !project.disabled.contains_key(target)
        {
            self.undefined("service", target, self.span("network_mode"), project.services.keys(), diags);
        }
        for (name, span, _) in
            self.service.entries("networks").filter(|(name, ..)| !project.networks.contains_key(*name))
        {
            self.undefined("network", name, span, project.networks.keys(), diags);
        }
        for (name, span, _) in self.service.entries("models").filter(|(name, ..)| !project.models.contains_key(*name)) {
            self.undefined("model", name, span, project.models.keys(), diags);
        }
        for mount in self.service.items("volumes").iter().filter(|mount| mount.str_at("type") == Some("volume")) {
            let Some(source) = mount.get("source") else { continue };
            if let Some(name) = source.as_str().filter(|name| !name.is_empty() && !project.volumes.contains_key(*name))
            {
                self.undefined("volume", name, source.span, project.volumes.keys(), diags);
            }
        }
        let build_secrets = self.service.at(&["build", "secrets"]).and_then(Node::as_seq).unwrap_or_default();
        self.file_refs("config", self.service.items("configs"), &project.configs, diags);
        self.file_refs("secret", self.service.items("secrets"), &project.secrets, diags);
        self.file_refs("secret", build_secrets, &project.secrets, diags);
    }

    fn file_refs(&self, what: &'static str, refs: &[Node], known: &Objects, diags: &mut Diags) {
        for reference in refs {
            let Some(source) = reference.get("source") else { continue };
            if let Some(name) = source.as_str().filter(|name| !known.contains_key(*name)) {
                self.undefined(what, name, source.span, known.keys(), diags);
            }
        }
    }

    fn dependencies(&self, diags: &mut Diags) {
        for (name, span, dependency) in self.service.entries("depends_on") {
            let required = dependency.get("required").and_then(Node::as_bool).unwrap_or(true);
            if self.project.services.contains_key(name) {
                continue;
            }
            match self.project.disabled.get(name) {
                Some(_) if !required => {}
                Some(other) => {
                    let profiles: Vec<&str> = other.items("profiles").iter().filter_map(Node::as_str).collect();
                    let problem = Problem::Disabled { name: name.to_owned(), profiles: profiles.join(", ") };
                    diags.error(&self.path.key("depends_on"), span, problem).hint("or write `required: false`");
                }
                None => self.undefined("service", name, span, self.project.services.keys(), diags),
            }
        }
    }

    fn amounts(&self, diags: &mut Diags) {
        let deploy = self.map.get("deploy");
        let deploy_at = |keys: &[&str]| deploy.and_then(|deploy| deploy.at(keys));
        let replicas = deploy_at(&["replicas"]).and_then(Node::as_int);
        let scale = self.map.get("scale").and_then(Node::as_int);
        if let (Some(a), Some(b)) = (scale, replicas)
            && a != b
        {
            let problem = Problem::Distinct { a: "scale", b: "deploy.replicas" };
            diags.error(&self.path, self.span("scale"), problem);
        }
        for (field, other, keys) in [
            ("cpus", "deploy.resources.limits.cpus", ["resources", "limits", "cpus"]),
            ("mem_limit", "deploy.resources.limits.memory", ["resources", "limits", "memory"]),
            ("mem_reservation", "deploy.resources.reservations.memory", ["resources", "reservations", "memory"]),
            ("pids_limit", "deploy.resources.limits.pids", ["resources", "limits", "pids"]),
        ] {
            // The whole block counts, as in Compose: limits without this one differ from it too.
            let Some(own) = self.map.get(field).filter(|own| own.scalar_text().is_some_and(|text| text != "0")) else {
                continue;
            };
            let Some(block) = deploy_at(&keys[..2]) else { continue };
            if !block.is_bad() && !block.get(keys[2]).is_some_and(|limit| limit.is_bad() || limit.same(own)) {
                let missing = block.get(keys[2]).is_none().then(|| format!("put it into `{other}`, as the rest is"));
                diags.error(&self.path, own.span, Problem::Distinct { a: field, b: other }).maybe_hint(missing);
            }
        }
        let count = scale.or(replicas).unwrap_or(1);
        if let Some(name) = self.map.get("container_name").filter(|_| count > 1) {
            diags.error(&self.path, name.span, Problem::ContainerNameScale(count));
        }
    }

    fn mounts(&self, diags: &mut Diags) {
        let mut seen: HashMap<String, String> = HashMap::new();
        for (list, target) in [("tmpfs", None), ("volumes", Some("target"))] {
            let path = self.path.key(list);
            for (at, mount) in self.service.items(list).iter().enumerate() {
                let here = path.index(at);
                let place = match target {
                    Some(key) => mount.str_at(key),
                    None => mount.as_str().map(|line| line.split(':').next().unwrap_or(line)),
                };
                let Some(place) = place else { continue };
                if let Some(by) = seen.insert(place.to_owned(), here.to_string()) {
                    let problem = Problem::MountedTwice { target: place.to_owned(), by };
                    diags.error(&here, mount.span, problem);
                }
            }
        }
    }

    fn watches(&self, diags: &mut Diags) {
        let watches = self.service.at(&["develop", "watch"]).and_then(Node::as_seq).unwrap_or_default();
        let path = self.path.key("develop");
        for watch in watches {
            let action = watch.str_at("action");
            let copies = action.is_some_and(|action| !matches!(action, "rebuild" | "restart"));
            if copies && watch.str_at("target").is_none_or(str::is_empty) {
                diags.error(&path, watch.span, Problem::Missing("target"));
            }
            if let Some(blank) = watch.get("path").filter(|path| path.as_str() == Some("")) {
                diags.error(&path, blank.span, Problem::Missing("path"));
            }
        }
    }
}

fn is_empty(node: &Node) -> bool {
    node.is_null() || node.as_map().is_some_and(Map::is_empty)
}

fn container_names(project: &Project, diags: &mut Diags) {
    let root = Path::Root.key("services");
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (service, node) in &project.services {
        let Some(name) = node.get("container_name") else { continue };
        let Some(text) = name.as_str() else { continue };
        if let Some(other) = names.insert(text, service) {
            let problem = Problem::ContainerName { name: text.to_owned(), other: other.to_owned() };
            diags.error(&root.key(service), name.span, problem);
        }
    }
}

/// Dependencies that run in a circle, each circle once.
fn circles(project: &Project, diags: &mut Diags) {
    let mut done: HashSet<&str> = HashSet::new();
    for start in project.services.keys() {
        if done.contains(start.as_str()) {
            continue;
        }
        // A walk by hand, so that a long chain of services does not become a deep stack.
        let mut trail: Vec<(&str, Vec<&str>)> = vec![(start, depends_on(project, start))];
        while let Some((name, rest)) = trail.last_mut() {
            let name = *name;
            let Some(next) = rest.pop() else {
                done.insert(name);
                trail.pop();
                continue;
            };
            if let Some(at) = trail.iter().position(|(seen, _)| *seen == next) {
                let mut chain: Vec<&str> = trail[at..].iter().map(|(name, _)| *name).collect();
                chain.push(next);
                let node = project.services.get(name).and_then(|service| service.get("depends_on"));
                let span = node.and_then(|node| node.as_map()?.key_span(next)).unwrap_or_default();
                let root = Path::Root.key("services");
                let path = root.key(name);
                let problem = Problem::Cycle { what: "dependencies", chain: chain.join(" -> ") };
                diags.error(&path.key("depends_on"), span, problem);
            } else if !done.contains(next) {
                trail.push((next, depends_on(project, next)));
            }
        }
    }
}

fn depends_on<'p>(project: &'p Project, service: &str) -> Vec<&'p str> {
    let Some(node) = project.services.get(service) else { return Vec::new() };
    let mut names: Vec<&str> = node.entries("depends_on").map(|(name, ..)| name).collect();
    names.retain(|name| project.services.contains_key(*name));
    names.sort_unstable();
    names.reverse();
    names
}
