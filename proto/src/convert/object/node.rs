//! Nodes.

use crate::convert::{
    ConvertError, enum_of, enums, from_map, list, optional, parse, parse_list, required, texts, to_list, to_map,
};
use crate::object::{ManagerStatus, Node, NodeDescription, NodeResources, NodeStatus, TunnelKey};
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
            ingress: texts(&node.ingress),
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
            ingress: parse_list(&node.ingress, "ingress")?,
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
            tunnel_keys: to_list(&description.tunnel_keys),
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
            tunnel_keys: list(message.tunnel_keys, "tunnel_keys")?,
        })
    }
}

impl From<&TunnelKey> for pb::TunnelKey {
    fn from(key: &TunnelKey) -> Self {
        Self { generation: key.generation, public_key: key.public_key.to_vec().into(), port: key.port.into() }
    }
}

impl TryFrom<pb::TunnelKey> for TunnelKey {
    type Error = ConvertError;

    fn try_from(message: pb::TunnelKey) -> Result<Self, ConvertError> {
        let public_key = message.public_key.as_ref().try_into();
        let port = u16::try_from(message.port).ok().filter(|port| *port > 0);
        Ok(Self {
            generation: message.generation,
            public_key: public_key.map_err(|_| ConvertError::new("public_key", "is not 32 bytes long"))?,
            port: port.ok_or_else(|| ConvertError::new("port", format!("{} is no UDP port", message.port)))?,
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
