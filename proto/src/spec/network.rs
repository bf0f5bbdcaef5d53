//! Networks, and how a task joins one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Labels;
use crate::name::{NetworkName, StackName};
use crate::schema::{IpAddress, Subnet};
use crate::validate::network_options;

/// The network that published ports lead through from node to node. It is always there, and no task joins it.
pub const INGRESS_NETWORK: &str = "ingress";

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkSpec {
    /// Unique name.
    pub name: NetworkName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// How it is made.
    #[serde(default)]
    pub driver: NetworkDriver,
    /// Options of the driver.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// No way out of it.
    #[serde(default)]
    pub internal: bool,
    /// Single containers may join.
    #[serde(default)]
    pub attachable: bool,
    /// Give it IPv6 addresses too.
    #[serde(default)]
    pub ipv6: bool,
    /// Address pools; empty lets the allocator choose.
    #[serde(default)]
    pub ipam: Vec<IpamPool>,
}

impl NetworkSpec {
    /// Whether what goes from node to node is encrypted; `None` leaves it to the cluster's default.
    pub fn encrypted(&self) -> Option<bool> {
        if self.driver != NetworkDriver::Overlay {
            return Some(false);
        }
        let value = self.options.get(network_options::ENCRYPTED)?;
        Some(network_options::flag(value) != Some(false))
    }

    /// Whether it is the one that published ports use.
    pub fn is_ingress(&self) -> bool {
        self.driver == NetworkDriver::Overlay && self.name.as_str() == INGRESS_NETWORK
    }
}

/// How a network is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkDriver {
    /// Spans all nodes.
    #[default]
    Overlay,
    /// A bridge on each node of its own.
    Bridge,
    /// The node's own network.
    Host,
    /// Only loopback.
    None,
    /// Straight on a link of the node.
    Macvlan,
}

impl NetworkDriver {
    /// True when a task on it is reached from no other node, but through published ports.
    pub fn stays_on_node(self) -> bool {
        matches!(self, Self::Bridge | Self::Host | Self::None)
    }

    /// `cluster` when it spans nodes, else `local`.
    pub fn scope(self) -> &'static str {
        if self == Self::Overlay { "cluster" } else { "local" }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
            Self::Macvlan => "macvlan",
        }
    }
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IpamPool {
    /// The subnet.
    #[schema(value_type = Subnet)]
    pub subnet: IpNet,
    /// Tasks get addresses from this part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Subnet>)]
    pub ip_range: Option<IpNet>,
    /// The gateway; default the first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub gateway: Option<IpAddr>,
    /// Addresses that are taken, by name.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, IpAddress>)]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// How the tasks of a service join a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkAttachmentSpec {
    /// Name of the network object, or one of `host`, `none`, `bridge`.
    pub network: NetworkName,
    /// More names it answers to on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// A fixed IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub ipv4: Option<IpAddr>,
    /// A fixed IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub ipv6: Option<IpAddr>,
    /// Order in which networks are joined, highest first.
    #[serde(default)]
    pub priority: i32,
    /// The highest one gives the default route.
    #[serde(default)]
    pub gateway_priority: i32,
    /// A fixed hardware address, six hex pairs with colons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_read_as_docker_reads_it() {
        let spec = |driver, value: Option<&str>| NetworkSpec {
            name: "n".parse().expect("a name"),
            stack: None,
            labels: Labels::new(),
            driver,
            options: value.map(|value| (network_options::ENCRYPTED.to_owned(), value.to_owned())).into_iter().collect(),
            internal: false,
            attachable: false,
            ipv6: false,
            ipam: Vec::new(),
        };
        let said = |value| spec(NetworkDriver::Overlay, value).encrypted();
        assert_eq!((said(None), said(Some("")), said(Some("true"))), (None, Some(true), Some(true)));
        assert_eq!((said(Some("false")), said(Some("0")), said(Some("yes"))), (Some(false), Some(false), Some(true)));
        assert_eq!(spec(NetworkDriver::Bridge, None).encrypted(), Some(false), "nothing of it goes from node to node");
    }
}
