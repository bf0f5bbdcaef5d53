//! Who answers for a service, and where the nodes are, as the managers tell it.
//!
//! Owns the type and its reading from the wire.

use std::net::IpAddr;

use berth_proto::convert::ConvertError;
use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Attachment, Endpoint, TunnelKey};
use berth_proto::pb;
use berth_proto::spec::EndpointMode;
use ipnet::IpNet;

use super::assignments::id;

/// Names, virtual addresses, published ports and backends of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEndpoints {
    /// The service.
    pub service: ServiceId,
    /// Its full name.
    pub name: String,
    /// Its stack.
    pub stack: Option<String>,
    /// What its name resolves to.
    pub mode: EndpointMode,
    /// Ports and virtual addresses.
    pub endpoint: Endpoint,
    /// Its tasks on all nodes.
    pub backends: Vec<Backend>,
}

/// One task that answers for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The task.
    pub task: TaskId,
    /// Its slot; `None` for global services.
    pub slot: Option<u64>,
    /// Its node.
    pub node: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its addresses.
    pub attachments: Vec<Attachment>,
    /// True while it takes requests, as far as the managers know.
    pub ready: bool,
    /// True while its names are answered; before it has started and while it stops, only its place is known.
    pub named: bool,
}

/// A node that this one exchanges packets of networks with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Where its tunnels end.
    pub address: IpAddr,
    /// Its addresses on the ingress network, IPv4 first.
    pub ingress: Vec<IpNet>,
    /// What encrypted networks reach it by, oldest first.
    pub keys: Vec<TunnelKey>,
}

impl Peer {
    /// Reads it from the wire.
    pub fn parse(message: pb::Peer) -> Result<Self, ConvertError> {
        let node = id(&message.node_id, "peer.node_id")?;
        let address = message.address.parse().map_err(|_| ConvertError {
            path: "peer.address".to_owned(),
            problem: format!("{:?} is no IP address", message.address),
        })?;
        let ingress = message.ingress.iter().map(|net| {
            let problem =
                |error| ConvertError { path: "peer.ingress".to_owned(), problem: format!("{net:?}: {error}") };
            net.parse().map_err(|error: ipnet::AddrParseError| problem(error))
        });
        let ingress = ingress.collect::<Result<_, _>>()?;
        let keys = message.keys.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { node, address, ingress, keys })
    }
}

impl ServiceEndpoints {
    /// Reads it from the wire.
    pub fn parse(message: pb::ServiceEndpoints) -> Result<Self, ConvertError> {
        let mode = pb::endpoint_spec::Mode::try_from(message.mode).unwrap_or_default().into();
        let endpoint = message.endpoint.map(TryInto::try_into).transpose()?.unwrap_or_default();
        Ok(Self {
            service: id(&message.service_id, "service_id")?,
            name: message.service_name,
            stack: message.stack,
            mode,
            endpoint,
            backends: message.backends.into_iter().map(Backend::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The name inside its stack: `web` of `shop_web`.
    pub fn short_name(&self) -> Option<&str> {
        self.name.strip_prefix(self.stack.as_deref()?)?.strip_prefix('_').filter(|name| !name.is_empty())
    }
}

impl Backend {
    fn parse(message: pb::Backend) -> Result<Self, ConvertError> {
        Ok(Self {
            task: id(&message.task_id, "backend.task_id")?,
            slot: message.slot,
            node: id(&message.node_id, "backend.node_id")?,
            hostname: message.hostname,
            attachments: message.attachments.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            ready: message.ready,
            named: message.named,
        })
    }

    /// `web.1.<id>`; the node's id stands for the slot of a global service.
    pub fn name(&self, service: &str) -> String {
        match self.slot {
            Some(slot) => format!("{service}.{slot}.{}", self.task),
            None => format!("{service}.{}.{}", self.node, self.task),
        }
    }
}
