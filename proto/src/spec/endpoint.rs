//! How a service is reached.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schema::IpAddress;

/// How a service is reached by others and from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct EndpointSpec {
    /// What its name resolves to.
    pub mode: EndpointMode,
    /// Published ports.
    pub ports: Vec<PortConfig>,
}

/// What a service's name resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndpointMode {
    /// One virtual address that is balanced over the tasks.
    #[default]
    Vip,
    /// The addresses of the tasks.
    Dnsrr,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct PortConfig {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// Port in the container.
    #[schema(minimum = 1, maximum = 65535)]
    pub target: u16,
    /// Port outside; `None` lets the allocator choose one from 30000-32767.
    #[schema(minimum = 1, maximum = 65535)]
    pub published: Option<u16>,
    /// Where it answers.
    #[serde(default)]
    pub mode: PublishMode,
    /// Only this address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub host_ip: Option<IpAddr>,
}

/// Transport of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// Where a published port answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PublishMode {
    /// On every node, balanced over all tasks.
    #[default]
    Ingress,
    /// On the node of the task, straight to it.
    Host,
}
