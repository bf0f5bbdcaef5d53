//! Which objects a list shows: filters by key and value, the same on the command line and over HTTP. Pure.
//!
//! Values of one key are alternatives, keys must all match; labels must all match too. A name matches what begins with it, as
//! in Docker; of networks and volumes what contains it.

use crate::id::NodeId;
use crate::object::{Network, Node, Service, Task};
use crate::spec::Labels;

/// Keys and values that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<(String, String)>);

/// A key and what it means.
pub type Known = (&'static str, &'static str);

/// Keys of lists of nodes.
pub const NODE: [Known; 7] = [
    ("id", "Beginning of the id"),
    ("name", "Beginning of the host name"),
    ("role", "manager or worker"),
    ("availability", "active, pause or drain"),
    ("state", "ready, down or unknown"),
    ("label", "A label: key, or key=value"),
    ("node.label", "The same as label"),
];
/// Keys of lists of services.
pub const SERVICE: [Known; 5] = [
    ("id", "Beginning of the id"),
    ("name", "Beginning of the name"),
    ("label", "A label: key, or key=value"),
    ("mode", "replicated, global, replicated-job or global-job"),
    ("stack", "Name of the stack"),
];
/// Keys of lists of tasks.
pub const TASK: [Known; 7] = [
    ("id", "Beginning of the id"),
    ("name", "Beginning of service.slot, or the full name"),
    ("service", "Name of the service, or beginning of its id"),
    ("stack", "Name of the stack"),
    ("node", "Host name of the node, or beginning of its id"),
    ("state", "Observed state"),
    ("desired-state", "Desired state"),
];
/// Keys of lists of networks.
pub const NETWORK: [Known; 6] = [
    ("id", "Beginning of the id"),
    ("name", "Part of the name"),
    ("driver", "Driver"),
    ("scope", "cluster or local"),
    ("label", "A label: key, or key=value"),
    ("stack", "Name of the stack"),
];
/// Keys of lists of volumes.
pub const VOLUME: [Known; 4] = [
    ("name", "Part of the name"),
    ("driver", "Driver"),
    ("label", "A label: key, or key=value"),
    ("stack", "Name of the stack"),
];
/// Keys of lists of configs and secrets.
pub const FILE: [Known; 4] = [
    ("id", "Beginning of the id"),
    ("name", "Beginning of the name"),
    ("label", "A label: key, or key=value"),
    ("stack", "Name of the stack"),
];

impl Filters {
    /// These keys and values.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The values asked for.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// True when nothing is asked of `key`, or one of its values satisfies `matches`.
    pub fn allow(&self, key: &str, matches: impl Fn(&str) -> bool) -> bool {
        let mut asked = self.values(key).peekable();
        asked.peek().is_none() || asked.any(matches)
    }

    /// [`Filters::allow`] for labels: `key` or `key=value`, and all of them must match.
    pub fn allow_labels(&self, key: &str, labels: &Labels) -> bool {
        self.values(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|has| has == value),
            None => labels.contains_key(wanted),
        })
    }

    fn allow_id(&self, id: impl std::fmt::Display) -> bool {
        // Most lists ask for no id: then its text is not made.
        self.values("id").next().is_none() || {
            let id = id.to_string();
            self.allow("id", |wanted| id.starts_with(wanted))
        }
    }

    fn allow_stack(&self, stack: Option<&str>) -> bool {
        self.allow("stack", |wanted| stack == Some(wanted))
    }

    /// Whether a node is shown ([`NODE`]).
    pub fn node(&self, node: &Node) -> bool {
        let name = node.description.as_ref().map(|description| description.hostname.as_str());
        self.allow_id(node.id)
            && self.allow("name", |wanted| match name {
                Some(name) if !name.is_empty() => name.starts_with(wanted),
                _ => node.id.to_string().starts_with(wanted),
            })
            && self.allow("role", |wanted| node.spec.role.as_str() == wanted)
            && self.allow("availability", |wanted| node.spec.availability.as_str() == wanted)
            && self.allow("state", |wanted| node.status.state.as_str() == wanted)
            && self.allow_labels("label", &node.spec.labels)
            && self.allow_labels("node.label", &node.spec.labels)
    }

    /// Whether a service is shown ([`SERVICE`]).
    pub fn service(&self, service: &Service) -> bool {
        let spec = &service.spec;
        self.allow_id(service.id)
            && self.allow("name", |wanted| spec.name.starts_with(wanted))
            && self.allow("mode", |wanted| spec.mode.as_str() == wanted)
            && self.allow_stack(spec.stack.as_deref())
            && self.allow_labels("label", &spec.labels)
    }

    /// Whether a task is shown ([`TASK`]). `stack` is its service's.
    pub fn task(&self, task: &Task, stack: Option<&str>, host_name: impl Fn(NodeId) -> String) -> bool {
        let on = |wanted: &str| {
            let Some(node) = task.node else { return wanted.is_empty() };
            host_name(node) == wanted || (!wanted.is_empty() && node.to_string().starts_with(wanted))
        };
        self.allow_id(task.id)
            && self.allow("state", |wanted| task.status.state.as_str() == wanted)
            && self.allow("desired-state", |wanted| task.desired.as_str() == wanted)
            && self.allow("service", |wanted| {
                *task.service_name == *wanted || task.service.to_string().starts_with(wanted)
            })
            && self.allow_stack(stack)
            && self.allow("node", on)
            && self.allow("name", |wanted| task.short_name(&host_name).starts_with(wanted) || task.name() == wanted)
    }

    /// Whether a network is shown ([`NETWORK`]).
    pub fn network(&self, network: &Network) -> bool {
        let spec = &network.spec;
        self.allow_id(network.id)
            && self.allow("name", |wanted| spec.name.contains(wanted))
            && self.allow("driver", |wanted| spec.driver.as_str() == wanted)
            && self.allow("scope", |wanted| spec.driver.scope() == wanted)
            && self.allow_stack(spec.stack.as_deref())
            && self.allow_labels("label", &spec.labels)
    }

    /// Whether a volume is shown ([`VOLUME`]); one may be a node's alone.
    pub fn volume(&self, name: &str, driver: &str, stack: Option<&str>, labels: &Labels) -> bool {
        self.allow("name", |wanted| name.contains(wanted))
            && self.allow("driver", |wanted| driver == wanted)
            && self.allow_stack(stack)
            && self.allow_labels("label", labels)
    }

    /// Whether a config or secret is shown ([`FILE`]).
    pub fn file(&self, id: impl std::fmt::Display, name: &str, stack: Option<&str>, labels: &Labels) -> bool {
        self.allow_id(id)
            && self.allow("name", |wanted| name.starts_with(wanted))
            && self.allow_stack(stack)
            && self.allow_labels("label", labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        Filters::new(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_add_up() {
        let filters = filters(&[("name", "web"), ("name", "db"), ("label", "a=1")]);
        assert!(filters.allow("name", |wanted| "db" == wanted));
        assert!(!filters.allow("name", |wanted| "x" == wanted));
        assert!(filters.allow("mode", |_| false));
        let labels = [("a".to_owned(), "1".to_owned())].into();
        assert!(filters.allow_labels("label", &labels) && !filters.allow_labels("label", &Labels::default()));
    }

    #[test]
    fn a_file_is_found_by_what_its_name_begins_with_and_a_volume_by_a_part_of_it() {
        let none = Labels::new();
        assert!(filters(&[("name", "we")]).file("1a", "web", None, &none));
        assert!(!filters(&[("name", "eb")]).file("1a", "web", None, &none));
        assert!(filters(&[("name", "eb")]).volume("web", "local", None, &none));
        assert!(!filters(&[("stack", "shop")]).volume("web", "local", Some("other"), &none));
        assert!(filters(&[("id", "2"), ("id", "1")]).file("1a", "web", None, &none));
    }
}
