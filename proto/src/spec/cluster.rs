//! What people set on nodes and on the cluster.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Labels, Strategy};
use crate::schema::DurationText;
use crate::state::{Availability, NodeRole};
use crate::time::duration;

/// What a person sets on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct NodeSpec {
    /// Its part in the cluster.
    pub role: NodeRole,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// Labels that constraints and preferences read.
    pub labels: Labels,
}

/// What a person sets on the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ClusterSpec {
    /// A name for people.
    pub name: String,
    /// Ended tasks kept per slot, the current one included. Default 5, as Docker Swarm has it.
    pub task_history_limit: u32,
    /// Between two heartbeats of an agent. Default 1 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub heartbeat_period: Duration,
    /// How long a node's certificate is good for; it is renewed in the second half of that. Default 90 days, at least 1 hour.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub certificate_lifetime: Duration,
    /// Overlay networks that say nothing of it themselves are encrypted from node to node, that of published ports among them.
    pub encrypt_networks: bool,
    /// How nodes are ranked for services that say nothing of it themselves.
    pub strategy: Strategy,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "default".to_owned(),
            task_history_limit: 5,
            heartbeat_period: Duration::from_secs(1),
            certificate_lifetime: Duration::from_secs(90 * 24 * 3600),
            encrypt_networks: false,
            strategy: Strategy::default(),
        }
    }
}
