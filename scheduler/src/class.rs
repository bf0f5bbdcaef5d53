//! What lasting filters read of a node, and its capacity: nodes that are equal in all of it form a class and are filtered
//! once. Id, host name and address are left out: the few constraints that read them are looked at node by node.

use std::collections::BTreeSet;

use berth_proto::object::Node;
use berth_proto::spec::{Labels, Platform};
use berth_proto::state::{Availability, NodeRole, NodeState};

use crate::view::platform;

/// Everything in which the nodes of a class are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Class {
    state: NodeState,
    availability: Availability,
    role: NodeRole,
    labels: Labels,
    engine_labels: Labels,
    platform: Platform,
    capabilities: BTreeSet<String>,
    /// Cpu of each node.
    pub nano_cpus: u64,
    /// Memory of each node in bytes.
    pub memory: u64,
}

impl Class {
    /// The class of a node.
    pub fn of(node: &Node) -> Self {
        let described = node.description.as_ref();
        Self {
            state: node.status.state,
            availability: node.spec.availability,
            role: node.spec.role,
            labels: node.spec.labels.clone(),
            engine_labels: described.map(|description| description.engine_labels.clone()).unwrap_or_default(),
            platform: platform(node),
            capabilities: described.map(|description| description.capabilities.clone()).unwrap_or_default(),
            nano_cpus: described.map_or(0, |description| description.resources.nano_cpus),
            memory: described.map_or(0, |description| description.resources.memory),
        }
    }
}
