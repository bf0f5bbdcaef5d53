//! Rows of `service ls` and `stack services`. Pure.

use berth_proto::object::{Replicas, Service};
use berth_proto::spec::{PortConfig, Protocol, PublishMode};
use berth_proto::time::Timestamp;
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
    /// How their number follows the load, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleRow>,
    /// Image as written.
    pub image: String,
    /// Published ports.
    pub ports: Vec<PortConfig>,
    /// Where the last update is.
    pub update_status: Option<&'static str>,
    #[serde(skip)]
    max_per_node: u64,
}

/// How the number of replicas follows the load.
#[derive(Debug, Clone, Serialize)]
pub struct AutoscaleRow {
    /// Fewest, outside of the schedule's windows.
    pub min: u64,
    /// Most, outside of the schedule's windows.
    pub max: u64,
    /// Since when the number is what it is; null as long as it is the first one.
    pub since: Option<Timestamp>,
    /// Why it is.
    pub reason: Option<String>,
}

impl AutoscaleRow {
    /// Of a service that is scaled by its load.
    fn new(service: &Service) -> Option<Self> {
        let spec = service.spec.autoscale.as_ref()?;
        let decided = service.autoscaled.as_ref();
        Some(Self {
            min: spec.min,
            max: spec.max,
            since: decided.map(|decided| decided.since),
            reason: decided.map(|decided| decided.reason.clone()),
        })
    }
}

/// A line about the number of replicas of a service that is scaled by its load.
pub fn scaled_by_load(service: &Service) -> Option<String> {
    let AutoscaleRow { min, max, since, reason } = AutoscaleRow::new(service)?;
    let why = match (since, reason) {
        (Some(since), Some(reason)) => format!(", since {since}: {reason}"),
        _ => String::new(),
    };
    let replicas = service.replicas().unwrap_or_default();
    Some(format!("{} is scaled by its load between {min} and {max}: {replicas} replicas{why}", service.spec.name))
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
            autoscale: AutoscaleRow::new(service),
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
        let mut replicas = self.replicas.to_string();
        if let Some(AutoscaleRow { min, max, .. }) = &self.autoscale {
            replicas.push_str(&format!(" (auto {min}-{max})"));
        }
        if self.max_per_node > 0 {
            replicas.push_str(&format!(" (max {} per node)", self.max_per_node));
        }
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
    fn a_service_that_is_scaled_by_its_load_shows_its_bounds_and_why() {
        let mut world = world();
        let autoscale = json!({ "min": 2, "max": 10, "cpu": 50 });
        let web = add_service(&mut world, 1, "web", json!({ "autoscale": autoscale }));
        add_task(&mut world, web, 10, 1, TaskState::Running, 1000);
        let service = world.services.get_mut(&web).expect("added");
        assert_eq!(scaled_by_load(service).expect("is"), "web is scaled by its load between 2 and 10: 2 replicas");
        let reason = "cpu 83 % of 50 %: 2 → 4 replicas".to_owned();
        service.autoscaled = Some(berth_proto::object::Autoscaled { replicas: 4, since: Timestamp(0), reason });
        let said = scaled_by_load(service).expect("is");
        assert!(said.ends_with(": 4 replicas, since 1970-01-01T00:00:00Z: cpu 83 % of 50 %: 2 → 4 replicas"), "{said}");
        let row = ServiceRow::new(&world.services[&web], &world);
        assert_eq!(row.cells(false)[3], "1/4 (auto 2-10)");
        let json = serde_json::to_value(&row).expect("a row");
        assert_eq!((&json["autoscale"]["max"], &json["replicas"]["desired"]), (&json!(10), &json!(4)));
    }

    #[test]
    fn the_keys_of_a_service_are_a_promise() {
        insta::assert_json_snapshot!(rows()[0]);
    }
}
