//! Everything this node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId, TaskId};

use super::{Network, SandboxSpec, Service};

/// The whole of what is wanted on this node, level-triggered: what is not in it goes away. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Networks with tasks on this node.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Tasks on this node.
    pub sandboxes: BTreeMap<TaskId, Arc<SandboxSpec>>,
    /// Services with a name on one of the networks, or with a port published on this node.
    pub services: BTreeMap<ServiceId, Arc<Service>>,
}

impl Desired {
    /// Replaces all services; those that are as before stay the same in memory, so that comparing is cheap.
    pub fn set_services(&mut self, services: impl IntoIterator<Item = Service>) {
        let before = std::mem::take(&mut self.services);
        for service in services {
            let same = before.get(&service.id).filter(|old| ***old == service).cloned();
            self.services.insert(service.id, same.unwrap_or_else(|| Arc::new(service)));
        }
    }

    /// Services that differ from those of `before`: new, changed or gone.
    pub fn changed_services(&self, before: &Self) -> BTreeSet<ServiceId> {
        let differs = |id: &&ServiceId| match (self.services.get(*id), before.services.get(*id)) {
            (Some(now), Some(then)) => !Arc::ptr_eq(now, then) && now != then,
            _ => true,
        };
        self.services.keys().chain(before.services.keys()).filter(differs).copied().collect()
    }
}
