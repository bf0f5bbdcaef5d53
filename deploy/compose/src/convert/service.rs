//! One service as a spec.

use std::collections::BTreeMap;

use berth_proto::name::{ServiceName, StackName};
use berth_proto::spec::{DependencyCondition, DependsOn, LogSpec, ServiceSpec, TaskSpec};

use super::Converter;
use super::field::Fields;
use crate::node::Node;
use crate::path::Path;
use crate::problem::Problem;
use crate::suggest;

impl Converter<'_> {
    pub(super) fn service(&mut self, stack: &StackName, key: &str, node: &Node) -> Option<ServiceSpec> {
        let services = Path::Root.key("services");
        let fields = Fields { node, path: services.key(key) };
        let name = self.service_name(key, &fields.path, node.span)?;
        let (container, mount_spans) = self.container(&fields);
        let deploy = self.deploy(&fields);
        let spec = ServiceSpec {
            name,
            stack: Some(stack.clone()),
            labels: super::field::pairs(node.at(&["deploy", "labels"])),
            task: TaskSpec {
                container,
                resources: deploy.resources,
                restart: deploy.restart,
                placement: deploy.placement,
                networks: self.attachments(&fields, key),
                log: self.log(&fields),
                force_update: 0,
            },
            mode: deploy.mode,
            update: deploy.update,
            rollback: deploy.rollback,
            endpoint: self.endpoint(&fields),
            priority: self.priority(&fields),
            depends_on: self.depends_on(&fields),
        };
        self.validate(&spec, &fields, &mount_spans);
        Some(spec)
    }

    fn depends_on(&mut self, fields: &Fields<'_>) -> BTreeMap<ServiceName, DependsOn> {
        let mut all = BTreeMap::new();
        for (key, span, node) in fields.node.entries("depends_on") {
            let required = node.get("required").and_then(Node::as_bool).unwrap_or(true);
            if !self.project.services.contains_key(key) {
                continue;
            }
            let condition = match node.str_at("condition") {
                Some("service_healthy") => DependencyCondition::ServiceHealthy,
                Some("service_completed_successfully") => DependencyCondition::ServiceCompletedSuccessfully,
                _ => DependencyCondition::ServiceStarted,
            };
            let depends = DependsOn { condition, restart: node.is_true("restart"), required };
            if let Some(name) = self.service_name(key, &fields.path.key("depends_on"), span) {
                all.insert(name, depends);
            }
        }
        all
    }

    fn log(&mut self, fields: &Fields<'_>) -> LogSpec {
        let default = LogSpec::default();
        let Some(logging) = fields.get("logging") else { return default };
        let driver = logging.str_at("driver").filter(|driver| !driver.is_empty());
        LogSpec {
            driver: driver.map_or(default.driver, str::to_owned),
            options: super::field::pairs(logging.get("options")),
        }
    }

    /// `x-berth: {priority: 10}`.
    fn priority(&mut self, fields: &Fields<'_>) -> i32 {
        let Some(own) = fields.get("x-berth") else { return 0 };
        let Some(map) = own.as_map() else {
            let problem = Problem::WrongType { expected: "a mapping".to_owned(), found: own.kind() };
            fields.error(&mut self.diags, &["x-berth"], own.span, problem);
            return 0;
        };
        for (key, span, _) in map.iter().filter(|(key, ..)| *key != "priority") {
            let problem = Problem::UnknownField { field: key.to_owned() };
            let hint = suggest::did_you_mean(key, ["priority"]);
            fields.error(&mut self.diags, &["x-berth", key], span, problem).maybe_hint(hint);
        }
        let Some(node) = map.get("priority") else { return 0 };
        match node.as_int().or_else(|| node.as_str()?.parse().ok()).and_then(|value| i32::try_from(value).ok()) {
            Some(priority) => priority,
            None => {
                let problem = Problem::WrongType { expected: "a whole number".to_owned(), found: node.kind() };
                fields.error(&mut self.diags, &["x-berth", "priority"], node.span, problem);
                0
            }
        }
    }

    /// `links: [db:database]`: the alias becomes one of the linked service, on the networks that both have.
    pub(super) fn links(&mut self, services: &mut [ServiceSpec]) {
        for (key, node) in &self.project.services {
            for link in node.items("links").iter().filter_map(Node::as_str) {
                let Some((target, alias)) = link.split_once(':').filter(|(target, alias)| target != alias) else {
                    continue;
                };
                let full = |key: &str| format!("{}_{key}", self.project.name);
                let own = services.iter().find(|service| *service.name == *full(key));
                let shared: Vec<_> =
                    own.into_iter().flat_map(|own| &own.task.networks).map(|net| net.network.clone()).collect();
                let Some(service) = services.iter_mut().find(|service| *service.name == *full(target)) else {
                    continue;
                };
                for network in &mut service.task.networks {
                    if shared.contains(&network.network) && !network.aliases.iter().any(|known| known == alias) {
                        network.aliases.push(alias.to_owned());
                    }
                }
            }
        }
    }
}
