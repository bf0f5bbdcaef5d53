//! A network.

use std::net::IpAddr;
use std::sync::Arc;

use berth_manager::api::find::host_name;
use berth_manager::store::State;
use berth_proto::id::{NetworkId, NodeId, TaskId};
use berth_proto::name::{NetworkName, ServiceName, StackName};
use berth_proto::object;
use berth_proto::schema::{IpAddress, Subnet};
use berth_proto::spec::{Labels, NetworkDriver, NetworkSpec};
use berth_proto::time::Timestamp;
use ipnet::IpNet;
use serde::Serialize;
use utoipa::ToSchema;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Network {
    /// Id.
    pub id: NetworkId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Name.
    pub name: NetworkName,
    /// Stack, if it belongs to one.
    pub stack: Option<StackName>,
    /// How it is made.
    pub driver: NetworkDriver,
    /// `cluster` when it spans nodes, else `local`.
    pub scope: &'static str,
    /// No way out of it.
    pub internal: bool,
    /// What goes from node to node is encrypted.
    pub encrypted: bool,
    /// Subnets that were given to it.
    #[schema(value_type = Vec<Subnet>)]
    pub subnets: Vec<IpNet>,
    /// VXLAN network identifier; null where none is needed or given yet.
    pub vni: Option<u32>,
    /// Labels.
    pub labels: Labels,
    /// What it should be.
    #[schema(value_type = NetworkSpec)]
    pub spec: Arc<NetworkSpec>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Tasks on it that have not ended. Only where one network is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub attached: Option<Vec<Attached>>,
}

/// A task on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Attached {
    /// `service.slot`.
    pub task: String,
    /// Its id.
    pub task_id: TaskId,
    /// Its service.
    pub service: ServiceName,
    /// Host name of its node; null until it is placed.
    pub node: Option<String>,
    /// Id of its node.
    pub node_id: Option<NodeId>,
    /// Its addresses on this network.
    #[schema(value_type = Vec<IpAddress>)]
    pub addresses: Vec<IpAddr>,
}

impl Network {
    /// The shape of a network.
    pub fn new(network: &object::Network) -> Self {
        let given = network.allocation.as_ref();
        Self {
            id: network.id,
            version: network.meta.version,
            name: network.spec.name.clone(),
            stack: network.spec.stack.clone(),
            driver: network.spec.driver,
            scope: network.spec.driver.scope(),
            internal: network.spec.internal,
            encrypted: given.is_some_and(|given| given.encrypted),
            subnets: given.iter().flat_map(|given| &given.pools).map(|(subnet, _)| *subnet).collect(),
            vni: given.map(|given| given.vni).filter(|vni| *vni != 0),
            labels: network.spec.labels.clone(),
            spec: Arc::clone(&network.spec),
            created_at: network.meta.created_at,
            updated_at: network.meta.updated_at,
            attached: None,
        }
    }

    /// With the tasks that are on it.
    #[must_use]
    pub fn with_attached(self, state: &State) -> Self {
        let name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |node| host_name(node).into_owned());
        let mut attached = Vec::new();
        for task in state.services_on_network(self.id).flat_map(|service| state.tasks_of_service(service)) {
            let place = task.attachments.iter().find(|place| place.network == self.id);
            let Some(place) = place.filter(|_| !task.status.state.is_terminal()) else { continue };
            attached.push(Attached {
                task: task.short_name(name),
                task_id: task.id,
                service: task.service_name.clone(),
                node: task.node.map(name),
                node_id: task.node,
                addresses: place.ips().collect(),
            });
        }
        Self { attached: Some(attached), ..self }
    }
}
