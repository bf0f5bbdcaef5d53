//! What the tasks hold on one node. Adding and taking away are exact inverses, so that the sum never drifts.

use std::collections::BTreeMap;

use berth_proto::id::ServiceId;

use crate::demand::{Demand, HostPort};
use crate::hash::IdMap;
use crate::view::Hold;

/// What the tasks hold on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Reserved cpu; 1_000_000_000 is one whole cpu.
    pub nano_cpus: u64,
    /// Reserved memory in bytes.
    pub memory: u64,
    /// Tasks that hold something here.
    pub tasks: u32,
    /// Those of them that belong to this node (global services).
    pub bound: u32,
    generic: BTreeMap<String, u64>,
    ports: Vec<HostPort>,
    services: IdMap<ServiceId, u32>,
}

impl Usage {
    /// Takes what a task needs. Those asked to stop do not count as a task of their service.
    pub(crate) fn add(&mut self, service: ServiceId, demand: &Demand, ports: &[HostPort], hold: Hold) {
        self.nano_cpus += demand.nano_cpus;
        self.memory += demand.memory;
        self.tasks += 1;
        self.bound += u32::from(hold.bound);
        for (name, count) in &demand.generic {
            *self.generic.entry(name.clone()).or_default() += count;
        }
        self.ports.extend_from_slice(ports);
        if hold.counted {
            *self.services.entry(service).or_default() += 1;
        }
    }

    /// Gives back what [`Usage::add`] took with the same arguments.
    pub(crate) fn take(&mut self, service: ServiceId, demand: &Demand, ports: &[HostPort], hold: Hold) {
        self.nano_cpus -= demand.nano_cpus;
        self.memory -= demand.memory;
        self.tasks -= 1;
        self.bound -= u32::from(hold.bound);
        for (name, count) in &demand.generic {
            if let Some(held) = self.generic.get_mut(name) {
                *held -= count;
                if *held == 0 {
                    self.generic.remove(name);
                }
            }
        }
        for port in ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
        if hold.counted
            && let Some(held) = self.services.get_mut(&service)
        {
            *held -= 1;
            if *held == 0 {
                self.services.remove(&service);
            }
        }
    }

    /// How much of a named thing is held.
    pub fn generic(&self, name: &str) -> u64 {
        self.generic.get(name).copied().unwrap_or_default()
    }

    /// The named things that are held.
    pub(crate) fn generics(&self) -> impl Iterator<Item = (&str, u64)> {
        self.generic.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Tasks of that service that are meant to work here.
    pub fn of_service(&self, service: ServiceId) -> u32 {
        self.services.get(&service).copied().unwrap_or_default()
    }

    /// The held port that clashes with this one.
    pub fn clash(&self, port: &HostPort) -> Option<&HostPort> {
        self.ports.iter().find(|held| held.clashes_with(port))
    }

    /// The same figures, whatever order they came in.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let sorted = |usage: &Self| {
            let mut ports = usage.ports.clone();
            ports.sort_unstable();
            ports
        };
        sorted(self) == sorted(other)
            && Self { ports: Vec::new(), ..self.clone() } == Self { ports: Vec::new(), ..other.clone() }
    }
}
