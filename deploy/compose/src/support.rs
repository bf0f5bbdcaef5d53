//! What Berth does with each field of the Compose Specification: one table that conversion obeys and that the support
//! matrix in README.md is written from.

use crate::diag::Diags;
use crate::node::Node;
use crate::path::Path;
use crate::problem::Problem;
use crate::project::Project;
use crate::schema::{self, Shape, top};
use crate::source::Span;

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works; with what there is to know.
    Honoured(&'static str),
    /// Nothing is done with it and a warning says so.
    Warned(&'static str),
    /// A file that has it is not applied.
    Refused(&'static str),
}

use Support::{Honoured, Refused, Warned};

/// By field path; a path without an entry is as the nearest one above it.
const TABLE: &[(&str, Support)] = &[
    ("version", Warned("obsolete; the current Compose Specification holds whatever it says")),
    ("name", Honoured("also the name of the stack")),
    ("include", Honoured("")),
    ("services", Honoured("")),
    ("networks", Honoured("")),
    ("networks.*.driver", Honoured("overlay, bridge, host, none, macvlan; others are refused")),
    (
        "networks.*.driver_opts",
        Honoured(
            "MTU, masquerading, tasks apart (`enable_icc`), encryption (`encrypted`); names are warned about, \
                everything else is refused",
        ),
    ),
    ("networks.*.ipam.driver", Warned("addresses are always given out by Berth itself")),
    ("networks.*.ipam.options", Warned("there are no options for giving out addresses")),
    ("networks.*.enable_ipv4", Warned("networks always have IPv4")),
    ("volumes", Honoured("")),
    ("volumes.*.name", Honoured("with placeholders such as `{{.Task.Slot}}` each task has a volume of its own")),
    ("volumes.*.driver", Honoured("local; others are refused")),
    ("volumes.*.driver_opts", Honoured("type, o and device; others are refused")),
    ("configs", Honoured("")),
    (
        "configs.*.template_driver",
        Honoured("golang: placeholders, `env`, `secret` and `config`; loops and variables are refused"),
    ),
    ("secrets", Honoured("")),
    ("secrets.*.driver", Refused("Berth keeps secrets itself; give a `file` or `environment`")),
    ("secrets.*.driver_opts", Refused("Berth keeps secrets itself; give a `file` or `environment`")),
    (
        "secrets.*.template_driver",
        Honoured("golang: placeholders, `env`, `secret` and `config`; loops and variables are refused"),
    ),
    ("models", Refused("Berth runs containers, not models")),
    ("services.*.annotations", Warned("no OCI annotations are set; use labels")),
    ("services.*.attach", Warned("applying a stack never follows its logs; use `berth logs`")),
    (
        "services.*.build",
        Refused("Berth builds no images: build it elsewhere, load or push it, and name it with `image`"),
    ),
    ("services.*.blkio_config", Warned("block device weights and rates are not limited")),
    ("services.*.cgroup_parent", Warned("Berth puts its containers into cgroups of its own")),
    (
        "services.*.container_name",
        Warned("containers are named after service, slot and task, so that there can be several"),
    ),
    ("services.*.cpu_count", Warned("only Windows has it; use `cpus`")),
    ("services.*.cpu_percent", Warned("only Windows has it; use `cpus`")),
    ("services.*.cpu_period", Honoured("together with cpu_quota, when cpus is not set")),
    ("services.*.cpu_quota", Honoured("when cpus is not set")),
    ("services.*.cpu_rt_period", Warned("real-time scheduling is not limited")),
    ("services.*.cpu_rt_runtime", Warned("real-time scheduling is not limited")),
    ("services.*.credential_spec", Warned("only Windows has it")),
    ("services.*.deploy.mode", Honoured("replicated, global, replicated-job, global-job")),
    ("services.*.deploy.labels", Honoured("labels of the service")),
    ("services.*.develop", Warned("it is for `docker compose watch`")),
    ("services.*.devices", Honoured("device paths; CDI names are refused")),
    ("services.*.environment", Honoured("placeholders such as `{{.Task.Slot}}` are filled in for each task")),
    ("services.*.expose", Honoured("services on one network reach all ports of each other")),
    ("services.*.external_links", Warned("join a common network instead")),
    ("services.*.gpus", Honoured("as deploy.resources.reservations.devices")),
    ("services.*.hostname", Honoured("placeholders such as `{{.Node.Hostname}}` are filled in for each task")),
    ("services.*.ipc", Honoured("host and private; service: and container: are refused")),
    ("services.*.isolation", Warned("only Windows has it")),
    ("services.*.labels", Honoured("labels of the containers")),
    ("services.*.links", Honoured("an alias becomes a network alias of the linked service")),
    ("services.*.logging.driver", Honoured("json-file, local (both are Berth's own files), none; others are refused")),
    ("services.*.logging.options", Honoured("max-size and max-file; others are refused")),
    ("services.*.mac_address", Honoured("on the first network")),
    ("services.*.mem_swappiness", Warned("swappiness is the node's")),
    ("services.*.models", Refused("Berth runs containers, not models")),
    (
        "services.*.network_mode",
        Honoured("host, none, bridge or a network's name; service: and container: are refused"),
    ),
    ("services.*.networks.*.interface_name", Warned("interfaces are named eth0, eth1 and so on")),
    ("services.*.networks.*.link_local_ips", Warned("no link-local addresses are set")),
    ("services.*.networks.*.driver_opts", Warned("there are no options for joining a network")),
    ("services.*.oom_kill_disable", Warned("a container over its memory limit is always ended")),
    ("services.*.pid", Honoured("host; service: and container: are refused")),
    ("services.*.platform", Honoured("only nodes of this platform qualify")),
    ("services.*.ports[].published", Honoured("one port; a range for one target is refused")),
    ("services.*.ports[].protocol", Honoured("tcp and udp; sctp is refused")),
    ("services.*.ports[].app_protocol", Warned("ports are published as TCP or UDP, whatever is spoken on them")),
    ("services.*.post_start", Refused("hooks are not run; start what is needed from the entrypoint")),
    ("services.*.pre_stop", Refused("hooks are not run; act on the stop signal instead")),
    ("services.*.provider", Refused("Berth runs containers only")),
    (
        "services.*.pull_policy",
        Honoured(
            "always, never, missing; build is refused; daily, weekly and every_… count as missing, with a warning",
        ),
    ),
    ("services.*.pull_refresh_after", Warned("images are not fetched again on a schedule")),
    ("services.*.restart", Honoured("when there is no deploy.restart_policy; unless-stopped is always")),
    ("services.*.runtime", Honoured("runc, which stands for Berth's own; others are refused")),
    (
        "services.*.security_opt",
        Honoured("no-new-privileges, seccomp=unconfined, apparmor=unconfined, label=disable; others are refused"),
    ),
    ("services.*.storage_opt", Warned("the size of a container's own files is not limited")),
    ("services.*.use_api_socket", Refused("containers get no access to Berth's socket this way")),
    ("services.*.userns_mode", Honoured("host; others are refused")),
    ("services.*.uts", Honoured("host")),
    ("services.*.volumes[].type", Honoured("bind, volume, tmpfs, image; npipe and cluster are refused")),
    ("services.*.volumes[].consistency", Honoured("there is nothing to do for it on Linux")),
    (
        "services.*.volumes[].bind.recursive",
        Honoured("enabled and disabled; readonly and writable count as enabled, with a warning"),
    ),
    ("services.*.volumes[].bind.selinux", Warned("no SELinux labels are set")),
    ("services.*.volumes_from", Refused("tasks of two services may run on two nodes; use a named volume")),
];

/// What is done with the field of a path such as `services.*.ports[].target`.
pub fn of(path: &str) -> Support {
    let mut here = path;
    loop {
        if let Some((_, support)) = TABLE.iter().find(|(entry, _)| *entry == here) {
            // What a note says of a whole is not repeated for each of its parts.
            return match support {
                Honoured(_) if here != path => Honoured(""),
                support => *support,
            };
        }
        match here.rfind(['.', '[']) {
            Some(cut) => here = &here[..cut],
            None => return Honoured(""),
        }
    }
}

/// Warns of and refuses what the table says, wherever the project has it.
pub(crate) fn obey(project: &Project, diags: &mut Diags) {
    for (kind, objects) in [
        ("services", &project.services),
        ("networks", &project.networks),
        ("volumes", &project.volumes),
        ("configs", &project.configs),
        ("secrets", &project.secrets),
        ("models", &project.models),
    ] {
        let Some(Shape::Named(shape)) = top::FILE.field(kind) else { continue };
        let root = Path::Root.key(kind);
        if let (Refused(reason), Some((name, object))) = (of(kind), objects.iter().next()) {
            diags.error(&root.key(name), object.span, Problem::Refused(reason.to_owned()));
            continue;
        }
        for (name, object) in objects {
            walk(object, shape, &format!("{kind}.*"), &root.key(name), diags);
        }
    }
}

fn walk(node: &Node, shape: &Shape, pattern: &str, path: &Path<'_>, diags: &mut Diags) {
    match shape {
        Shape::Object(object) => {
            let Some(map) = node.as_map() else { return };
            for (key, span, value) in map.iter().filter(|(_, _, value)| !value.is_null()) {
                let Some(shape) = object.field(key) else {
                    extension(key, span, path, diags);
                    continue;
                };
                let pattern = format!("{pattern}.{key}");
                let here = path.key(key);
                match of(&pattern) {
                    Honoured(_) => walk(value, shape, &pattern, &here, diags),
                    Warned(reason) => diags.warn(&here, Some(span), format!("has no effect: {reason}")),
                    Refused(reason) => {
                        diags.error(&here, span, Problem::Refused(reason.to_owned()));
                    }
                }
            }
        }
        Shape::List(item) => {
            for (at, value) in node.as_seq().unwrap_or_default().iter().enumerate() {
                walk(value, item, &format!("{pattern}[]"), &path.index(at), diags);
            }
        }
        Shape::Map(value) | Shape::Named(value) => {
            for (key, _, entry) in node.as_map().into_iter().flat_map(|map| map.iter()) {
                walk(entry, value, &format!("{pattern}.*"), &path.key(key), diags);
            }
        }
        Shape::Opt(shape) | Shape::Short(shape, _) => walk(node, shape, pattern, path, diags),
        Shape::OneOf(shapes) => {
            // After the load the long form is what there is.
            let long = shapes.iter().find(|shape| matches!(shape, Shape::Object(_) | Shape::List(_) | Shape::Named(_)));
            if let Some(shape) = long {
                walk(node, shape, pattern, path, diags);
            }
        }
        _ => {}
    }
}

/// `x-berth` of a service is Berth's own; every other extension is for somebody else.
fn extension(key: &str, span: Span, path: &Path<'_>, diags: &mut Diags) {
    if key == "x-berth" && !path.matches("services.*") {
        diags.warn(&path.key(key), Some(span), "has no effect here: it belongs to a service");
    }
}

/// The support matrix as Markdown: every field of the specification, in the order of its tables.
pub fn matrix() -> String {
    let mut text = String::from("| field | | |\n|---|---|---|\n");
    for path in schema::field_paths() {
        let (word, note) = match of(&path) {
            Honoured(note) => ("honoured", note),
            Warned(note) => ("warned", note),
            Refused(note) => ("refused", note),
        };
        text.push_str(&format!("| `{path}` | {word} | {note} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_a_field_of_the_specification() {
        let paths = schema::field_paths();
        for (entry, _) in TABLE {
            assert!(paths.iter().any(|path| path == entry), "{entry}");
        }
        let mut entries: Vec<&str> = TABLE.iter().map(|(entry, _)| *entry).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), TABLE.len(), "an entry is there twice");
        assert!(paths.len() > 330, "{}", paths.len());
    }
}
