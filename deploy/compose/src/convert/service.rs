//! One service as a spec.

use std::collections::BTreeMap;

use berth_proto::name::{ServiceName, StackName};
use berth_proto::spec::{DependencyCondition, DependsOn, LogSpec, ServiceMode, ServiceSpec, TaskSpec};

use super::Converter;
use super::field::Fields;
use crate::node::Node;
use crate::path::Path;

impl Converter<'_> {
    pub(super) fn service(&mut self, stack: &StackName, key: &str, node: &Node) -> Option<ServiceSpec> {
        let services = Path::Root.key("services");
        let fields = Fields { node, path: services.key(key) };
        let name = self.service_name(key, &fields.path, node.span)?;
        let (container, mount_spans) = self.container(&fields);
        let mut deploy = self.deploy(&fields);
        let own = self.extension(stack, &fields);
        deploy.placement.strategy = own.strategy;
        deploy.placement.affinity = own.affinity;
        deploy.placement.gang = own.gang;
        // Where no number is given, it begins with the fewest replicas.
        let has_number = fields.get("scale").is_some() || node.at(&["deploy", "replicas"]).is_some();
        if let (ServiceMode::Replicated { replicas }, Some(autoscale), false) =
            (&mut deploy.mode, &own.autoscale, has_number)
        {
            *replicas = autoscale.min;
        }
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
            priority: own.priority,
            autoscale: own.autoscale,
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
