//! The rules of the specs themselves, reported at the place in the file that broke them.

use berth_proto::spec::ServiceSpec;
use berth_proto::validate::{FieldError, Validate};

use super::Converter;
use super::field::Fields;
use crate::path::Path;
use crate::problem::Problem;
use crate::source::Span;

/// Where a field of a spec comes from: the longest prefix wins; several places are tried in their order.
const PLACES: &[(&str, &[&[&str]])] = &[
    ("mode", &[&["scale"], &["deploy", "replicas"], &["deploy", "mode"]]),
    ("endpoint", &[&["ports"]]),
    ("autoscale", &[&["x-berth", "autoscale"]]),
    ("autoscale.requests", &[&["x-berth", "autoscale", "requests"]]),
    ("autoscale.stabilization", &[&["x-berth", "autoscale", "stabilization"]]),
    ("autoscale.cooldown", &[&["x-berth", "autoscale", "cooldown"]]),
    ("autoscale.schedule", &[&["x-berth", "autoscale", "schedule"]]),
    ("labels", &[&["deploy", "labels"]]),
    ("update", &[&["deploy", "update_config"]]),
    ("rollback", &[&["deploy", "rollback_config"]]),
    ("depends_on", &[&["depends_on"]]),
    ("task.log.driver", &[&["logging", "driver"], &["logging"]]),
    ("task.log.options", &[&["logging", "options"], &["logging"]]),
    ("task.networks", &[&["networks"], &["network_mode"]]),
    ("task.placement.preferences", &[&["deploy", "placement", "preferences"]]),
    ("task.placement", &[&["deploy", "placement"]]),
    ("task.restart", &[&["deploy", "restart_policy"], &["restart"]]),
    ("task.resources.limits.nano_cpus", &[&["deploy", "resources", "limits", "cpus"], &["cpus"], &["cpu_quota"]]),
    ("task.resources.limits.memory_swap", &[&["memswap_limit"]]),
    ("task.resources.limits.memory", &[&["deploy", "resources", "limits", "memory"], &["mem_limit"]]),
    ("task.resources.limits.pids", &[&["deploy", "resources", "limits", "pids"], &["pids_limit"]]),
    ("task.resources.limits.cpu_shares", &[&["cpu_shares"]]),
    ("task.resources.limits.cpuset", &[&["cpuset"]]),
    ("task.resources.reservations.memory", &[&["deploy", "resources", "reservations", "memory"], &["mem_reservation"]]),
    ("task.resources.reservations", &[&["deploy", "resources", "reservations"]]),
    ("task.resources", &[&["deploy", "resources"]]),
    ("task.container.env", &[&["environment"]]),
    ("task.container.groups", &[&["group_add"]]),
    ("task.container.workdir", &[&["working_dir"]]),
    ("task.container.mounts", &[&["volumes"], &["tmpfs"]]),
    ("task.container.capabilities.add", &[&["cap_add"]]),
    ("task.container.capabilities.drop", &[&["cap_drop"]]),
    ("task.container.dns", &[&["dns"], &["dns_search"], &["dns_opt"]]),
];

impl Converter<'_> {
    /// Notes what is wrong with a service.
    pub(super) fn validate(&mut self, spec: &ServiceSpec, fields: &Fields<'_>, mounts: &[Span]) {
        let Err(invalid) = spec.validate() else { return };
        // What was already refused as a whole needs no remark on one of its parts.
        for error in invalid.errors {
            if error.path == "task.container.image" && (fields.get("image").is_none() || fields.get("build").is_some())
            {
                continue;
            }
            let (keys, span) = place(&error.path, fields);
            let span = mount_index(&error.path).and_then(|at| mounts.get(at)).copied().unwrap_or(span);
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (problem, hint) = said(&error);
            let noted = fields.refuse(&mut self.diags, &keys, span, problem);
            noted.maybe_hint(hint);
        }
    }

    /// Notes what is wrong with another object.
    pub(super) fn validate_object(&mut self, spec: &impl Validate, path: &Path<'_>, span: Span) {
        let Err(invalid) = spec.validate() else { return };
        for error in invalid.errors {
            let (problem, hint) = said(&error);
            // Fields that have another name in the file, or several.
            let field = match error.path.strip_prefix("options") {
                Some(rest) => format!("driver_opts{rest}"),
                None => error.path.clone(),
            };
            let field = if field == "data" { *path } else { path.key(&field) };
            self.diags.error(&field, span, Problem::Refused(problem)).maybe_hint(hint);
        }
    }
}

fn said(error: &FieldError) -> (String, Option<String>) {
    (error.problem.clone(), Some(error.hint.clone()).filter(|hint| !hint.is_empty()))
}

fn mount_index(path: &str) -> Option<usize> {
    let rest = path.strip_prefix("task.container.mounts[")?;
    rest.split_once(']')?.0.parse().ok()
}

/// Compose path and place for a path of the spec.
fn place(path: &str, fields: &Fields<'_>) -> (Vec<String>, Span) {
    let entry = PLACES.iter().filter(|(prefix, _)| is_within(path, prefix)).max_by_key(|(prefix, _)| prefix.len());
    if let Some((prefix, candidates)) = entry {
        let found = candidates.iter().find_map(|keys| Some((keys, fields.node.at(keys)?)));
        let Some((keys, node)) = found else { return (Vec::new(), fields.node.span) };
        let mut keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        // Below a mapping, the name of the entry is the same in file and spec.
        let inner = path[prefix.len()..].strip_prefix('.').unwrap_or_default();
        let span = match node.get(inner) {
            Some(inside) => {
                keys.push(inner.to_owned());
                inside.span
            }
            None => item_span(node, &path[prefix.len()..]).unwrap_or(node.span),
        };
        return (keys, span);
    }
    // Fields of the container have Compose's names where the table has no other one.
    let own = path.strip_prefix("task.container.").unwrap_or(path);
    let first = own.split(['.', '[']).next().unwrap_or(own);
    let Some(node) = fields.get(first) else { return (Vec::new(), fields.node.span) };
    let rest = &own[first.len()..];
    let inner = rest.strip_prefix('.').unwrap_or_default();
    match node.get(inner) {
        Some(inside) => (vec![first.to_owned(), inner.to_owned()], inside.span),
        None => (vec![first.to_owned()], item_span(node, rest).unwrap_or(node.span)),
    }
}

/// The place of the item that `[3].target` starts with.
fn item_span(node: &crate::node::Node, rest: &str) -> Option<Span> {
    let at: usize = rest.strip_prefix('[')?.split_once(']')?.0.parse().ok()?;
    node.as_seq()?.get(at).map(|item| item.span)
}

fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
