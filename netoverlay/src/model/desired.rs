//! Everything this node should have.

use std::collections::BTreeMap;

use berth_proto::id::{NetworkId, ServiceId, TaskId};

use super::{Network, SandboxSpec, Service};

/// The whole of what is wanted on this node, level-triggered: what is not in it goes away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Networks with tasks on this node.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Tasks on this node.
    pub sandboxes: BTreeMap<TaskId, SandboxSpec>,
    /// Services with a name on one of the networks, or with a port published on this node.
    pub services: BTreeMap<ServiceId, Service>,
}
