//! Who is known by which name on which network.
//!
//! Pure. A task sees the names of its own networks only, so two stacks may use the same short names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use berth_proto::id::{NetworkId, ServiceId, TaskId};
use ipnet::IpNet;

use super::book::Book;
use crate::model::{Desired, Mode, SandboxSpec, Service};

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
    services: Book,
    /// Of this node's tasks.
    tasks: HashMap<String, Vec<IpAddr>>,
    reverse: HashMap<IpAddr, String>,
}

/// How one task sees the zone.
#[derive(Debug, Default)]
struct View {
    networks: Vec<NetworkId>,
    servers: Vec<IpAddr>,
    /// The stack of the task's service: its names come first where another stack's service has the same.
    stack: Option<String>,
    /// No way to the outside: names of the outside are not asked for either, whatever servers are named.
    inside_only: bool,
}

impl Zone {
    /// Builds it from what is desired; what did not change is taken over from the zone before.
    pub fn new(desired: &Desired, before: &Self) -> Self {
        let mut zone = Self { built_from: desired.clone(), ..Self::default() };
        let changed = desired.changed_services(&before.built_from);
        // Taking out and putting in costs twice what a new book does.
        let few = changed.len() * 2 <= desired.services.len();
        for network in desired.networks.values().filter(|n| n.driver.has_links()) {
            let services = before.networks.get(&network.id).filter(|_| few).map_or_else(
                || service_book(desired, network.id),
                |names| changed_book(&names.services, network.id, &changed, &before.built_from, desired),
            );
            let ranges = network.subnets.iter().map(|s| s.range).collect();
            let names = Names { name: fold(&network.name), ranges, services, ..Names::default() };
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
            names.add_task(&spec.name, all.map(String::as_str), &attachment.addresses);
        }
        if !matches!(spec.mode, Mode::Networks(_)) {
            return;
        }
        let networks: Vec<NetworkId> = spec.attachments().iter().map(|a| a.network).collect();
        let inside = |id: &NetworkId| desired.networks.get(id).is_some_and(|n| n.internal);
        let inside_only = networks.iter().all(inside);
        let stack = spec.service.and_then(|id| desired.services.get(&id)).and_then(|service| stack(service));
        self.tasks.insert(spec.task, View { networks, servers: spec.dns.servers.clone(), stack, inside_only });
    }

    /// Looks a name up as a task sees it. A final dot does not matter, nor does case.
    pub fn lookup(&self, task: TaskId, name: &str) -> Found {
        let Some(view) = self.tasks.get(&task) else { return Found::Nothing };
        let name = fold(name);
        let networks = || view.networks.iter().filter_map(|id| self.networks.get(id));
        let own = view.stack.as_ref().and_then(|stack| {
            let full = match name.strip_prefix("tasks.") {
                Some(name) => format!("tasks.{stack}_{name}"),
                None => format!("{stack}_{name}"),
            };
            networks().find_map(|n| n.services.service(&full))
        });
        if let Some(addresses) = own.or_else(|| networks().find_map(|n| n.find(&name))) {
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

/// The stack that a service's full name begins with: its short name is the first of its other names.
fn stack(service: &Service) -> Option<String> {
    let full = fold(&service.name);
    let mut short = service.aliases.values().filter_map(|names| names.first());
    short.find_map(|short| full.strip_suffix(&fold(short))?.strip_suffix('_').map(str::to_owned))
}

fn service_book(desired: &Desired, network: NetworkId) -> Book {
    let mut book = Book::default();
    desired.services.values().for_each(|service| book.replace(network, None, Some(service)));
    book
}

fn changed_book(
    before: &Book,
    network: NetworkId,
    changed: &BTreeSet<ServiceId>,
    then: &Desired,
    now: &Desired,
) -> Book {
    let mut book = before.clone();
    for id in changed {
        book.replace(network, then.services.get(id).map(|s| &**s), now.services.get(id).map(|s| &**s));
    }
    book
}

impl Names {
    fn find(&self, name: &str) -> Option<Vec<IpAddr>> {
        if let Some(found) = self.services.service(name) {
            return Some(found);
        }
        let (everywhere, here) = (self.services.task(name), self.tasks.get(name));
        let mut found = everywhere.or_else(|| here.cloned())?;
        extend(&mut found, here.map_or(&[], Vec::as_slice));
        Some(found)
    }

    fn reverse(&self, address: IpAddr) -> Option<&str> {
        self.services.reverse(address).or_else(|| self.reverse.get(&address).map(String::as_str))
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

/// Adds the addresses that are not in the list yet.
pub(super) fn extend(list: &mut Vec<IpAddr>, more: &[IpAddr]) {
    for address in more {
        if !list.contains(address) {
            list.push(*address);
        }
    }
}

/// The form in which names are compared.
pub(super) fn fold(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Attachment, Backend, DnsConfig, Driver, EndpointMode, Network, Subnet};

    fn net(n: u8) -> NetworkId {
        NetworkId::from_random(u128::from(n))
    }

    fn task(t: u8) -> TaskId {
        TaskId::from_random(u128::from(t))
    }

    /// Two networks, each with a service `web` of its own; task 9 is on network 1, task 8 on both.
    fn desired() -> Desired {
        let mut desired = Desired::default();
        for n in [1u8, 2] {
            let network = Network {
                id: net(n),
                name: format!("stack{n}_default"),
                driver: Driver::Bridge,
                subnets: vec![Subnet::with_first_gateway(format!("10.{n}.0.0/24").parse().unwrap()).unwrap()],
                internal: false,
                encrypted: false,
                mtu: None,
                options: Default::default(),
            };
            desired.networks.insert(network.id, network);
            let id = ServiceId::from_random(u128::from(n));
            desired.services.insert(id, Arc::new(service(n)));
        }
        for (t, networks) in [(9, vec![1]), (8, vec![2, 1])] {
            desired.sandboxes.insert(task(t), Arc::new(sandbox(t, &networks)));
        }
        desired
    }

    fn service(n: u8) -> Service {
        let backend = |t: u8| Backend {
            task: task(t),
            name: format!("stack{n}_web.{t}.x"),
            hostname: format!("box{t}"),
            node: None,
            addresses: [(net(n), vec![[10, n, 0, t].into()])].into(),
            macs: Default::default(),
            outside: vec![],
            ready: t != 4,
            named: true,
        };
        Service {
            id: ServiceId::from_random(u128::from(n)),
            name: format!("stack{n}_web"),
            aliases: [(net(n), vec!["web".into()])].into(),
            mode: EndpointMode::Vip,
            vips: [(net(n), vec![[10, n, 0, 200].into()])].into(),
            backends: vec![backend(3), backend(4)],
            ports: vec![],
        }
    }

    fn sandbox(t: u8, networks: &[u8]) -> SandboxSpec {
        let attachment = |n: &u8| Attachment {
            network: net(*n),
            addresses: vec![[10, *n, 0, t].into()],
            mac: None,
            aliases: vec!["Also".into()],
            gateway_priority: 0,
        };
        SandboxSpec {
            task: task(t),
            name: format!("t{t}"),
            hostname: format!("h{t}"),
            domainname: None,
            service: None,
            mode: Mode::Networks(networks.iter().map(attachment).collect()),
            ports: vec![],
            dns: DnsConfig::default(),
            extra_hosts: vec![],
            ready: true,
        }
    }

    fn found(addresses: &[[u8; 4]]) -> Found {
        Found::Addresses(addresses.iter().map(|a| IpAddr::from(*a)).collect())
    }

    #[test]
    fn short_names_are_those_of_the_tasks_networks() {
        let zone = Zone::new(&desired(), &Zone::default());
        assert_eq!(zone.lookup(task(9), "web"), found(&[[10, 1, 0, 200]]));
        assert_eq!(zone.lookup(task(8), "WEB."), found(&[[10, 2, 0, 200]]), "its first network wins");
        assert_eq!(zone.lookup(task(8), "web.stack1_default"), found(&[[10, 1, 0, 200]]));
        assert_eq!(zone.lookup(task(8), "nobody.stack1_default"), Found::Nothing);
        assert_eq!(zone.lookup(task(9), "stack2_web"), Found::Elsewhere(vec![]), "not on its network");
        assert_eq!(zone.lookup(task(9), "tasks.web"), found(&[[10, 1, 0, 3], [10, 1, 0, 4]]));
        assert_eq!(zone.lookup(task(9), "also"), found(&[[10, 1, 0, 8], [10, 1, 0, 9]]));
        assert_eq!(zone.lookup(task(77), "web"), Found::Nothing, "an unknown task");
    }

    #[test]
    fn addresses_have_names() {
        let zone = Zone::new(&desired(), &Zone::default());
        let name = |t, a: [u8; 4]| zone.reverse(task(t), a.into());
        assert_eq!(name(9, [10, 1, 0, 3]), Found::Name("stack1_web.3.x.stack1_default".into()));
        assert_eq!(name(9, [10, 1, 0, 200]), Found::Name("stack1_web.stack1_default".into()));
        assert_eq!(name(9, [10, 1, 0, 77]), Found::Nothing, "in the network's range, unused");
        assert_eq!(name(9, [10, 2, 0, 3]), Found::Elsewhere(vec![]));
    }

    #[test]
    fn a_zone_made_from_the_one_before_says_the_same() {
        let first = desired();
        let mut second = first.clone();
        let mut one = service(1);
        one.backends.remove(0);
        (one.mode, one.vips) = (EndpointMode::Dnsrr, Default::default());
        second.services.insert(one.id, Arc::new(one));
        second.services.remove(&ServiceId::from_random(2));
        let step = Zone::new(&second, &Zone::new(&first, &Zone::default()));
        let fresh = Zone::new(&second, &Zone::default());
        for name in ["web", "stack1_web", "tasks.web", "box3", "box4", "stack1_web.3.x", "stack2_web", "also"] {
            for t in [8, 9] {
                assert_eq!(step.lookup(task(t), name), fresh.lookup(task(t), name), "{name} from {t}");
            }
        }
        for address in [[10, 1, 0, 3], [10, 1, 0, 4], [10, 1, 0, 200], [10, 2, 0, 3]] {
            assert_eq!(step.reverse(task(8), address.into()), fresh.reverse(task(8), address.into()), "{address:?}");
        }
        assert_eq!(step.lookup(task(9), "web"), found(&[]), "known, but none is ready");
    }

    #[test]
    fn a_name_of_the_own_stack_comes_first_on_a_network_of_several() {
        let mut desired = desired();
        // Both stacks' services on network 1, and a task of each there.
        for n in [1u8, 2] {
            let mut both = service(n);
            both.aliases.insert(net(1), vec!["web".into()]);
            both.vips.insert(net(1), vec![[10, 1, 0, 200 + n].into()]);
            let mut of_stack = sandbox(20 + n, &[1]);
            of_stack.service = Some(both.id);
            desired.services.insert(both.id, Arc::new(both));
            desired.sandboxes.insert(of_stack.task, Arc::new(of_stack));
        }
        let zone = Zone::new(&desired, &Zone::default());
        for n in [1u8, 2] {
            let vip = Found::Addresses(vec![[10, 1, 0, 200 + n].into()]);
            assert_eq!(zone.lookup(task(20 + n), "web"), vip, "stack {n}");
        }
        let both = Found::Addresses(vec![[10, 1, 0, 201].into(), [10, 1, 0, 202].into()]);
        assert_eq!(zone.lookup(task(9), "web"), both, "to a task of neither they are equal");
    }

    #[test]
    fn internal_networks_do_not_ask_outside() {
        let mut desired = desired();
        let mut named = sandbox(9, &[1]);
        named.dns.servers = vec![[192, 0, 2, 1].into()];
        desired.sandboxes.insert(task(9), Arc::new(named));
        desired.networks.values_mut().for_each(|n| n.internal = true);
        let zone = Zone::new(&desired, &Zone::default());
        assert_eq!(zone.lookup(task(9), "example.org"), Found::Nothing);
    }
}
