//! Nodes.

use crate::convert::{ConvertError, enum_of, enums, from_map, optional, parse, required, to_map};
use crate::object::{ManagerStatus, Node, NodeDescription, NodeResources, NodeStatus};
use crate::pb;
use crate::state::NodeState;
use crate::time::Timestamp;

enums! {
    NodeState = pb::node_status::State { Unknown, Down, Ready }
}

impl From<&Node> for pb::Node {
    fn from(node: &Node) -> Self {
        Self {
            id: node.id.to_string(),
            meta: Some((&node.meta).into()),
            spec: Some((&node.spec).into()),
            description: node.description.as_ref().map(Into::into),
            status: Some((&node.status).into()),
            manager: node.manager.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Node> for Node {
    type Error = ConvertError;

    fn try_from(node: pb::Node) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse(&node.id, "id")?,
            meta: required(node.meta, "meta")?,
            spec: required(node.spec, "spec")?,
            description: optional(node.description, "description")?,
            status: optional(node.status, "status")?.unwrap_or_default(),
            manager: optional(node.manager, "manager")?,
        })
    }
}

impl From<&NodeDescription> for pb::NodeDescription {
    fn from(description: &NodeDescription) -> Self {
        Self {
            hostname: description.hostname.clone(),
            platform: Some((&description.platform).into()),
            resources: Some((&description.resources).into()),
            engine_version: description.engine_version.clone(),
            engine_labels: to_map(&description.engine_labels),
            capabilities: description.capabilities.iter().cloned().collect(),
            routes: description.routes.iter().map(ToString::to_string).collect(),
            images: description.images.iter().cloned().collect(),
        }
    }
}

impl TryFrom<pb::NodeDescription> for NodeDescription {
    type Error = ConvertError;

    fn try_from(message: pb::NodeDescription) -> Result<Self, ConvertError> {
        Ok(Self {
            hostname: message.hostname,
            platform: message.platform.map(Into::into).unwrap_or_default(),
            resources: message.resources.map(Into::into).unwrap_or_default(),
            engine_version: message.engine_version,
            engine_labels: from_map(message.engine_labels),
            capabilities: message.capabilities.into_iter().collect(),
            routes: message.routes.iter().map(|range| parse(range, "routes")).collect::<Result<_, _>>()?,
            images: message.images.into_iter().collect(),
        })
    }
}

impl From<&NodeResources> for pb::NodeResources {
    fn from(resources: &NodeResources) -> Self {
        Self { nano_cpus: resources.nano_cpus, memory: resources.memory, generic: to_map(&resources.generic) }
    }
}

impl From<pb::NodeResources> for NodeResources {
    fn from(message: pb::NodeResources) -> Self {
        Self { nano_cpus: message.nano_cpus, memory: message.memory, generic: from_map(message.generic) }
    }
}

impl From<&NodeStatus> for pb::NodeStatus {
    fn from(status: &NodeStatus) -> Self {
        Self {
            state: pb::node_status::State::from(status.state).into(),
            message: status.message.clone(),
            address: status.address.clone(),
            at: status.at.0,
            root: status.root.clone(),
        }
    }
}

impl TryFrom<pb::NodeStatus> for NodeStatus {
    type Error = ConvertError;

    fn try_from(status: pb::NodeStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            state: enum_of::<pb::node_status::State>(status.state, "state")?.into(),
            message: status.message,
            address: status.address,
            at: Timestamp(status.at),
            root: status.root,
        })
    }
}

impl From<&ManagerStatus> for pb::ManagerStatus {
    fn from(status: &ManagerStatus) -> Self {
        let ManagerStatus { raft_id, address, leader, reachable } = status.clone();
        Self { raft_id, address, leader, reachable }
    }
}

impl TryFrom<pb::ManagerStatus> for ManagerStatus {
    type Error = ConvertError;

    fn try_from(status: pb::ManagerStatus) -> Result<Self, ConvertError> {
        let pb::ManagerStatus { raft_id, address, leader, reachable } = status;
        Ok(Self { raft_id, address, leader, reachable })
    }
}
