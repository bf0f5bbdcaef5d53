//! Who answers for a service, and where the nodes are, as the managers tell it.
//!
//! Owns the type and its reading from the wire.

use std::collections::{BTreeMap, BTreeSet};
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

/// What changed behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointsChange {
    /// The service.
    pub service: ServiceId,
    /// Tasks that came or changed.
    pub changed: Vec<Backend>,
    /// Tasks that are gone.
    pub removed: BTreeSet<TaskId>,
}

impl EndpointsChange {
    /// Reads it from the wire.
    pub fn parse(message: pb::ServiceEndpoints) -> Result<Self, ConvertError> {
        let removed = message.removed.iter().map(|task| id(task, "removed"));
        Ok(Self {
            service: id(&message.service_id, "service_id")?,
            removed: removed.collect::<Result<_, _>>()?,
            changed: message.backends.into_iter().map(Backend::parse).collect::<Result<_, _>>()?,
        })
    }
}

impl ServiceEndpoints {
    /// Takes a change in; tasks that changed keep their places, new ones come last.
    pub fn take(&mut self, change: &EndpointsChange) {
        self.backends.retain(|backend| !change.removed.contains(&backend.task));
        let mut new: BTreeMap<TaskId, &Backend> =
            change.changed.iter().map(|backend| (backend.task, backend)).collect();
        for backend in &mut self.backends {
            if let Some(changed) = new.remove(&backend.task) {
                backend.clone_from(changed);
            }
        }
        let come = change.changed.iter().filter(|backend| new.contains_key(&backend.task));
        self.backends.extend(come.cloned());
    }

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

impl From<&ServiceEndpoints> for pb::ServiceEndpoints {
    fn from(it: &ServiceEndpoints) -> Self {
        let mode = match it.mode {
            EndpointMode::Vip => pb::endpoint_spec::Mode::Vip,
            EndpointMode::Dnsrr => pb::endpoint_spec::Mode::Dnsrr,
        };
        let backend = |it: &Backend| pb::Backend {
            task_id: it.task.to_string(),
            slot: it.slot,
            node_id: it.node.to_string(),
            hostname: it.hostname.clone(),
            attachments: it.attachments.iter().map(Into::into).collect(),
            ready: it.ready,
            named: it.named,
        };
        Self {
            service_id: it.service.to_string(),
            service_name: it.name.clone(),
            stack: it.stack.clone(),
            mode: mode.into(),
            endpoint: Some((&it.endpoint).into()),
            backends: it.backends.iter().map(backend).collect(),
            partial: false,
            removed: Vec::new(),
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn backend(task: u128, ready: bool) -> Backend {
        Backend {
            task: TaskId::from_random(task),
            slot: Some(1),
            node: NodeId::from_random(1),
            hostname: String::new(),
            attachments: Vec::new(),
            ready,
            named: true,
        }
    }

    #[test]
    fn changes_add_up_to_the_whole_and_the_whole_is_written_as_it_is_read() {
        let mut endpoints = ServiceEndpoints {
            service: ServiceId::from_random(9),
            name: "s_web".into(),
            stack: Some("s".into()),
            mode: EndpointMode::Vip,
            endpoint: Endpoint::default(),
            backends: vec![backend(1, true), backend(2, true), backend(3, false)],
        };
        endpoints.take(&EndpointsChange {
            service: endpoints.service,
            changed: vec![backend(3, true), backend(4, false)],
            removed: [TaskId::from_random(2)].into(),
        });
        assert_eq!(endpoints.backends, [backend(1, true), backend(3, true), backend(4, false)]);
        assert_eq!(ServiceEndpoints::parse((&endpoints).into()).unwrap(), endpoints);
    }
}
