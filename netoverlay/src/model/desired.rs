//! Everything this node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId, TaskId};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{Network, Nodes, SandboxSpec, Service};

/// The whole of what is wanted on this node, level-triggered: what is not in it goes away. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Networks with tasks on this node.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Tasks on this node.
    pub sandboxes: BTreeMap<TaskId, Arc<SandboxSpec>>,
    /// Services with a name on one of the networks, or with a port published on this node.
    pub services: OrdMap<ServiceId, Arc<Service>>,
    /// This node among the others.
    pub nodes: Nodes,
}

impl Desired {
    /// Replaces all services; those that are as before stay the same in memory, so that comparing is cheap.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = Service>) {
        let mut gone: BTreeSet<ServiceId> = self.services.keys().copied().collect();
        for service in services {
            gone.remove(&service.id);
            if self.services.get(&service.id).is_none_or(|old| **old != service) {
                self.services.insert(service.id, Arc::new(service));
            }
        }
        for id in gone {
            self.services.remove(&id);
        }
    }

    /// Services that differ from those of `before`: new, changed or gone. Costs what differs: maps that come from each other
    /// share the rest.
    pub fn changed_services(&self, before: &Self) -> BTreeSet<ServiceId> {
        let id = |item: DiffItem<'_, '_, ServiceId, Arc<Service>>| match item {
            DiffItem::Add(id, _) | DiffItem::Remove(id, _) | DiffItem::Update { new: (id, _), .. } => *id,
        };
        before.services.diff(&self.services).map(id).collect()
    }
}
