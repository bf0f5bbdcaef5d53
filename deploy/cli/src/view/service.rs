//! Rows of `service ls` and `stack services`. Pure.

use berth_proto::object::{Replicas, Service};
use berth_proto::spec::{PortConfig, Protocol, PublishMode};
use serde::Serialize;

use crate::client::world::World;
use crate::ui::Row;
use crate::ui::listing::short_id;

/// A line of `service ls`.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceRow {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Stack, if it belongs to one.
    pub stack: Option<String>,
    /// `replicated`, `global`, `replicated-job`, `global-job`.
    pub mode: &'static str,
    /// Tasks.
    pub replicas: Replicas,
    /// Image as written.
    pub image: String,
    /// Published ports.
    pub ports: Vec<PortConfig>,
    /// Where the last update is.
    pub update_status: Option<&'static str>,
    #[serde(skip)]
    max_per_node: u64,
}

impl ServiceRow {
    /// The row of one service.
    pub fn new(service: &Service, world: &World) -> Self {
        let spec = &service.spec;
        let given = service.endpoint.as_ref().map(|endpoint| &endpoint.ports);
        let ports = given.filter(|ports| !ports.is_empty()).unwrap_or(&spec.endpoint.ports);
        Self {
            id: service.id.to_string(),
            name: spec.name.to_string(),
            stack: spec.stack.as_ref().map(ToString::to_string),
            mode: spec.mode.as_str(),
            replicas: Replicas::count(service, world.tasks_of(service.id)),
            image: spec.task.container.image.clone(),
            ports: ports.clone(),
            update_status: service.update.as_ref().map(|update| update.progress.as_str()),
            max_per_node: spec.task.placement.max_replicas_per_node,
        }
    }
}

impl Row for ServiceRow {
    const HEADS: &'static [&'static str] = &["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let replicas = match self.max_per_node {
            0 => self.replicas.to_string(),
            max => format!("{} (max {max} per node)", self.replicas),
        };
        let ports: Vec<String> = self.ports.iter().map(port).collect();
        vec![
            short_id(&self.id, no_trunc),
            self.name.clone(),
            self.mode.to_owned(),
            replicas,
            self.image.clone(),
            ports.join(", "),
        ]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}

/// `*:8080->80/tcp` as Docker writes it; host-mode ports carry `(host)`.
pub fn port(port: &PortConfig) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let ip = port.host_ip.map_or_else(|| "*".to_owned(), |ip| ip.to_string());
    let mode = match port.mode {
        PublishMode::Ingress => "",
        PublishMode::Host => " (host)",
    };
    match port.published {
        Some(published) => format!("{ip}:{published}->{}/{protocol}{mode}", port.target),
        None => format!("{}/{protocol}{mode}", port.target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{add_service, add_task, world};
    use crate::ui::listing::{Look, list};
    use berth_proto::state::TaskState;
    use serde_json::json;

    fn rows() -> Vec<ServiceRow> {
        let mut world = world();
        let ports = json!({ "ports": [{ "target": 80, "published": 8080 }, { "target": 53, "protocol": "udp", "published": 53, "mode": "host" }] });
        let web = add_service(&mut world, 1, "shop_web", json!({ "stack": "shop", "endpoint": ports }));
        let job = json!({ "mode": { "replicated-job": { "max_concurrent": 2, "total_completions": 3 } } });
        let job = add_service(&mut world, 2, "sweep", job);
        add_task(&mut world, web, 10, 1, TaskState::Running, 1000);
        add_task(&mut world, web, 11, 2, TaskState::Preparing, 1000);
        add_task(&mut world, web, 12, 2, TaskState::Failed, 2000);
        add_task(&mut world, job, 13, 1, TaskState::Complete, 2000);
        world.services.values().map(|service| ServiceRow::new(service, &world)).collect()
    }

    #[test]
    fn services_are_listed_as_docker_lists_them() {
        insta::assert_snapshot!(list(&rows(), Look::default()).expect("renders"));
    }

    #[test]
    fn the_keys_of_a_service_are_a_promise() {
        insta::assert_json_snapshot!(rows()[0]);
    }
}
