//! Names of services on one network, changed service by service.
//!
//! Pure. The maps share their structure with the book before, so that one service among thousands costs what it says, and
//! readers keep the old book while a new one is made.

use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId};
use imbl::HashMap;

use super::zone::{extend, fold};
use crate::model::{EndpointMode, Service};

/// Who says that a name has these addresses.
type Claims = Vec<(ServiceId, Arc<[IpAddr]>)>;

/// Names of services and of their tasks, on all nodes.
#[derive(Debug, Default, Clone)]
pub(super) struct Book {
    /// Services and their aliases: they win over the names of tasks.
    services: HashMap<String, Claims>,
    tasks: HashMap<String, Claims>,
    reverse: HashMap<IpAddr, (ServiceId, Arc<str>)>,
}

impl Book {
    /// The addresses of a service's name.
    pub fn service(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.services.get(name).map(merge)
    }

    /// The addresses of a task's name.
    pub fn task(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.tasks.get(name).map(merge)
    }

    /// The name of an address.
    pub fn reverse(&self, address: IpAddr) -> Option<&str> {
        self.reverse.get(&address).map(|(_, name)| &**name)
    }

    /// Puts a service in the place of what it was before.
    pub fn replace(&mut self, network: NetworkId, before: Option<&Service>, now: Option<&Service>) {
        if let Some(before) = before {
            self.remove(network, before);
        }
        if let Some(now) = now {
            self.add(network, now);
        }
    }

    fn add(&mut self, network: NetworkId, service: &Service) {
        let entries = Entries::of(network, service);
        for (name, addresses) in entries.services {
            self.services.entry(name).or_default().push((service.id, addresses.into()));
        }
        for (name, addresses) in entries.tasks {
            self.tasks.entry(name).or_default().push((service.id, addresses.into()));
        }
        for (address, name) in entries.reverse {
            self.reverse.insert(address, (service.id, name.into()));
        }
    }

    fn remove(&mut self, network: NetworkId, service: &Service) {
        let entries = Entries::of(network, service);
        for (name, _) in &entries.services {
            withdraw(&mut self.services, name, service.id);
        }
        for (name, _) in &entries.tasks {
            withdraw(&mut self.tasks, name, service.id);
        }
        for (address, _) in &entries.reverse {
            if self.reverse.get(address).is_some_and(|(id, _)| *id == service.id) {
                self.reverse.remove(address);
            }
        }
    }
}

fn withdraw(map: &mut HashMap<String, Claims>, name: &str, service: ServiceId) {
    let Some(claims) = map.get_mut(name) else { return };
    claims.retain(|(id, _)| *id != service);
    if claims.is_empty() {
        map.remove(name);
    }
}

fn merge(claims: &Claims) -> Vec<IpAddr> {
    let mut all = Vec::new();
    claims.iter().for_each(|(_, addresses)| extend(&mut all, addresses));
    all
}

/// Everything that one service says on one network.
struct Entries {
    services: Vec<(String, Vec<IpAddr>)>,
    tasks: Vec<(String, Vec<IpAddr>)>,
    reverse: Vec<(IpAddr, String)>,
}

impl Entries {
    fn of(network: NetworkId, service: &Service) -> Self {
        let mut entries = Self { services: Vec::new(), tasks: Vec::new(), reverse: Vec::new() };
        let vips = service.vips.get(&network);
        let named = || service.backends.iter().filter(|b| b.named);
        let here = || named().filter_map(|b| Some((b, b.addresses.get(&network)?)));
        if vips.is_none() && here().next().is_none() && !service.aliases.contains_key(&network) {
            return entries;
        }
        let every: Vec<IpAddr> = here().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
        let answer: Vec<IpAddr> = match (service.mode, vips) {
            (EndpointMode::Vip, Some(vips)) if !vips.is_empty() => vips.clone(),
            _ => here().filter(|(b, _)| b.ready).flat_map(|(_, a)| a.iter().copied()).collect(),
        };
        let aliases = service.aliases.get(&network).into_iter().flatten();
        for name in std::iter::once(&service.name).chain(aliases).map(|name| fold(name)) {
            entries.services.push((format!("tasks.{name}"), every.clone()));
            entries.services.push((name, answer.clone()));
        }
        for (backend, addresses) in here() {
            for name in [&backend.name, &backend.hostname].into_iter().filter(|name| !name.is_empty()) {
                entries.tasks.push((fold(name), addresses.clone()));
            }
            entries.reverse.extend(addresses.iter().map(|address| (*address, fold(&backend.name))));
        }
        entries.reverse.extend(vips.into_iter().flatten().map(|vip| (*vip, fold(&service.name))));
        entries
    }
}
