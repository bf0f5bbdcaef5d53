//! Who is known by which name on which network.
//!
//! Pure. A task sees the names of its own networks only, so two stacks may use the same short names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, TaskId};
use ipnet::IpNet;

use crate::model::{Desired, EndpointMode, Mode, SandboxSpec, Service};

/// What the zone says to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name is known; its addresses of both families. There may be none.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// The name would be ours, but there is no such thing; nobody else is to be asked.
    Nothing,
    /// Not ours: ask these servers, or the node's own if empty.
    Elsewhere(Vec<IpAddr>),
}

/// All names of this node's networks.
#[derive(Debug, Default)]
pub struct Zone {
    built_from: Desired,
    networks: BTreeMap<NetworkId, Names>,
    tasks: BTreeMap<TaskId, View>,
}

#[derive(Debug, Default)]
struct Names {
    name: String,
    ranges: Vec<IpNet>,
    /// Of services and their tasks on all nodes; kept from zone to zone while these services do not change.
    services: Arc<Book>,
    /// Of this node's tasks.
    local: Book,
}

#[derive(Debug, Default)]
struct Book {
    /// Services and their aliases: they win over the names of tasks.
    services: HashMap<String, Vec<IpAddr>>,
    tasks: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

/// How one task sees the zone.
#[derive(Debug, Default)]
struct View {
    networks: Vec<NetworkId>,
    servers: Vec<IpAddr>,
    /// No way to the outside: names of the outside are not asked for either.
    inside_only: bool,
}

impl Zone {
    /// Builds it from what is desired; what did not change is taken over from the zone before.
    pub fn new(desired: &Desired, before: &Self) -> Self {
        let mut zone = Self { built_from: desired.clone(), ..Self::default() };
        let changed = changed_networks(desired, &before.built_from);
        for network in desired.networks.values().filter(|n| n.driver.has_links()) {
            let kept = before.networks.get(&network.id).filter(|_| !changed.contains(&network.id));
            let services = kept.map_or_else(|| Arc::new(service_book(desired, network.id)), |n| n.services.clone());
            let ranges = network.subnets.iter().map(|s| s.range).collect();
            let names = Names { name: fold(&network.name), ranges, services, local: Book::default() };
            zone.networks.insert(network.id, names);
        }
        for spec in desired.sandboxes.values() {
            zone.add_sandbox(desired, spec);
        }
        zone
    }

    fn add_sandbox(&mut self, desired: &Desired, spec: &SandboxSpec) {
        for attachment in spec.attachments() {
            let Some(names) = self.networks.get_mut(&attachment.network) else { continue };
            let all = [&spec.name, &spec.hostname].into_iter().chain(&attachment.aliases);
            names.local.add_task(&spec.name, all.map(String::as_str), &attachment.addresses);
        }
        if !matches!(spec.mode, Mode::Networks(_)) {
            return;
        }
        let networks: Vec<NetworkId> = spec.attachments().iter().map(|a| a.network).collect();
        let inside = |id: &NetworkId| desired.networks.get(id).is_some_and(|n| n.internal);
        let inside_only = spec.dns.servers.is_empty() && networks.iter().all(inside);
        self.tasks.insert(spec.task, View { networks, servers: spec.dns.servers.clone(), inside_only });
    }

    /// Looks a name up as a task sees it. A final dot does not matter, nor does case.
    pub fn lookup(&self, task: TaskId, name: &str) -> Found {
        let Some(view) = self.tasks.get(&task) else { return Found::Nothing };
        let name = fold(name);
        let networks = || view.networks.iter().filter_map(|id| self.networks.get(id));
        if let Some(addresses) = networks().find_map(|n| n.find(&name)) {
            return Found::Addresses(addresses);
        }
        for network in networks() {
            // `web.backend`: the name on that one network.
            let within = name.strip_suffix(&network.name).and_then(|rest| rest.strip_suffix('.'));
            if let Some(within) = within {
                return network.find(within).map_or(Found::Nothing, Found::Addresses);
            }
        }
        if view.inside_only || name.starts_with("tasks.") {
            return Found::Nothing;
        }
        Found::Elsewhere(view.servers.clone())
    }

    /// Looks an address up as a task sees it.
    pub fn reverse(&self, task: TaskId, address: IpAddr) -> Found {
        let Some(view) = self.tasks.get(&task) else { return Found::Nothing };
        let networks = || view.networks.iter().filter_map(|id| self.networks.get(id));
        if let Some(name) = networks().find_map(|n| n.reverse(address).map(|name| format!("{name}.{}", n.name))) {
            return Found::Name(name);
        }
        if view.inside_only || networks().any(|n| n.ranges.iter().any(|r| r.contains(&address))) {
            return Found::Nothing;
        }
        Found::Elsewhere(view.servers.clone())
    }
}

/// Networks on which a service that changed has, or had, names.
fn changed_networks(desired: &Desired, before: &Desired) -> BTreeSet<NetworkId> {
    let changed = desired.changed_services(before);
    let versions = changed.iter().flat_map(|id| [desired.services.get(id), before.services.get(id)]).flatten();
    let on = |service: &Arc<Service>| -> Vec<NetworkId> {
        let backends = service.backends.iter().flat_map(|b| b.addresses.keys());
        service.vips.keys().chain(service.aliases.keys()).chain(backends).copied().collect()
    };
    versions.flat_map(on).collect()
}

fn service_book(desired: &Desired, network: NetworkId) -> Book {
    let mut book = Book::default();
    desired.services.values().for_each(|service| book.add_service(network, service));
    book
}

impl Names {
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(found) = self.services.services.get(name) {
            return Some(found.clone());
        }
        let (everywhere, here) = (self.services.tasks.get(name), self.local.tasks.get(name));
        let mut found = everywhere.or(here)?.clone();
        extend(&mut found, here.map_or(&[], Vec::as_slice));
        Some(found)
    }

    fn reverse(&self, address: IpAddr) -> Option<&String> {
        self.services.reverse.get(&address).or_else(|| self.local.reverse.get(&address))
    }
}

impl Book {
    fn add_service(&mut self, network: NetworkId, service: &Service) {
        let vips = service.vips.get(&network);
        let here = || service.backends.iter().filter_map(|b| Some((b, b.addresses.get(&network)?)));
        if vips.is_none() && here().next().is_none() && !service.aliases.contains_key(&network) {
            return;
        }
        let every: Vec<IpAddr> = here().flat_map(|(_, addresses)| addresses.iter().copied()).collect();
        let answer: Vec<IpAddr> = match (service.mode, vips) {
            (EndpointMode::Vip, Some(vips)) if !vips.is_empty() => vips.clone(),
            _ => here().filter(|(b, _)| b.ready).flat_map(|(_, a)| a.iter().copied()).collect(),
        };
        let aliases = service.aliases.get(&network).into_iter().flatten();
        for name in std::iter::once(&service.name).chain(aliases) {
            extend(self.services.entry(fold(name)).or_default(), &answer);
            extend(self.services.entry(format!("tasks.{}", fold(name))).or_default(), &every);
        }
        for vip in vips.into_iter().flatten() {
            self.reverse.insert(*vip, fold(&service.name));
        }
        for (backend, addresses) in here() {
            self.add_task(&backend.name, [backend.name.as_str(), backend.hostname.as_str()], addresses);
        }
    }

    fn add_task<'a>(&mut self, own: &str, names: impl IntoIterator<Item = &'a str>, addresses: &[IpAddr]) {
        for name in names.into_iter().filter(|n| !n.is_empty()) {
            extend(self.tasks.entry(fold(name)).or_default(), addresses);
        }
        for address in addresses {
            self.reverse.insert(*address, fold(own));
        }
    }
}

fn extend(list: &mut Vec<IpAddr>, more: &[IpAddr]) {
    for address in more {
        if !list.contains(address) {
            list.push(*address);
        }
    }
}

fn fold(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
