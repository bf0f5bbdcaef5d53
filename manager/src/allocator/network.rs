//! Subnets and VXLAN identifiers; the predefined networks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use berth_proto::id::NetworkId;
use berth_proto::object::{Meta, Network, NetworkAllocation};
use berth_proto::spec::{IpamPool, NetworkDriver, NetworkSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::space::Space;
use super::{Book, DEFAULT_NETWORK, INGRESS_NETWORK, VNIS};
use crate::orchestrator::Turn;
use crate::store::{Change, Object, State, Transaction};

/// Why a network gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No subnet is free.
    #[error(
        "no subnet of {} is left in {}: {taken} networks have one{}", Prefixes(prefixes), join(ranges), Claimed(*claimed)
    )]
    Subnets {
        /// Where subnets are cut out of.
        ranges: Vec<Ipv4Net>,
        /// Their prefixes.
        prefixes: Vec<u8>,
        /// Networks that have one.
        taken: usize,
        /// Ranges that nodes have routes to.
        claimed: usize,
    },
    /// The subnet that was asked for is not free.
    #[error("{0}")]
    Overlap(#[from] Overlap),
    /// No VXLAN identifier is free.
    #[error("no VXLAN identifier is left")]
    Vnis,
}

/// A subnet that was asked for overlaps one of another network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("subnet {asked} overlaps {subnet} of network {network}")]
pub struct Overlap {
    /// What was asked for.
    pub asked: IpNet,
    /// What is in the way.
    pub subnet: IpNet,
    /// Whose it is.
    pub network: String,
}

fn join(ranges: &[Ipv4Net]) -> String {
    ranges.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
}

struct Prefixes<'a>(&'a [u8]);

impl fmt::Display for Prefixes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, prefix) in self.0.iter().enumerate() {
            let before = match at {
                0 => "",
                at if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}/{prefix}")?;
        }
        Ok(())
    }
}

struct Claimed(usize);

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(", and nodes have routes to 1 other range"),
            many => write!(f, ", and nodes have routes to {many} other ranges"),
        }
    }
}

/// Gives each network that has nothing yet what it needs, lets all follow the cluster's default for encryption, and makes the
/// predefined ones where they are missing. What
/// was given is in the book when this returns. Networks that could get nothing come back with the reason.
pub fn decide(book: &mut Book, transaction: &mut Transaction, turn: &mut Turn<'_>) -> Vec<(NetworkId, NetworkError)> {
    let mut failures = Vec::new();
    let waiting: Vec<Arc<Network>> =
        turn.state.networks().filter(|network| network.allocation.is_none()).cloned().collect();
    let default = turn.state.cluster().is_some_and(|cluster| cluster.spec.encrypt_networks);
    for network in turn.state.networks() {
        let wanted = network.spec.encrypted().unwrap_or(default);
        if let Some(given) = network.allocation.as_ref().filter(|given| given.encrypted != wanted) {
            let allocation = NetworkAllocation { encrypted: wanted, ..given.clone() };
            transaction.update(Network { allocation: Some(allocation), ..Network::clone(network) });
        }
    }
    let missing = |spec: &NetworkSpec| turn.state.network_by_name(&spec.name).is_none();
    let predefined: Vec<NetworkSpec> = [default_network(), ingress_network()].into_iter().filter(missing).collect();
    if waiting.is_empty() && predefined.is_empty() {
        return failures;
    }
    let mut room = Room::of(book, turn.state);
    for network in waiting {
        match room.allocate(book, turn.state, network.id, &network.spec) {
            Ok(allocation) => {
                let network = Network { allocation: Some(allocation), ..Network::clone(&network) };
                book.upsert_network(&network);
                transaction.changes.push(Change::Put(Object::Network(Arc::new(network))));
            }
            Err(error) => failures.push((network.id, error)),
        }
    }
    for spec in predefined {
        let id = NetworkId::from_random(turn.bits());
        match room.allocate(book, turn.state, id, &spec) {
            Ok(allocation) => {
                let network = Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation: Some(allocation) };
                book.upsert_network(&network);
                transaction.create(network);
            }
            Err(error) => failures.push((id, error)),
        }
    }
    failures
}

/// The first subnet that a person asks for and that overlaps another network's; for refusing a spec before it is
/// written. `beside` are networks that come with the same write.
pub fn overlap<'a>(state: &'a State, beside: impl Iterator<Item = &'a Network>, spec: &NetworkSpec) -> Option<Overlap> {
    let others = state.networks().map(|network| &**network).chain(beside).filter(|other| other.spec.name != spec.name);
    let subnets = others.flat_map(|other| {
        let given = other.allocation.iter().flat_map(|given| given.pools.iter().map(|(subnet, _)| *subnet));
        given.chain(asked_subnets(&other.spec)).map(|subnet| (subnet, &*other.spec.name))
    });
    let taken: Vec<(IpNet, &str)> = subnets.collect();
    asked_subnets(spec).find_map(|asked| {
        let (subnet, network) = taken.iter().find(|(subnet, _)| overlaps(asked, *subnet))?;
        Some(Overlap { asked, subnet: *subnet, network: (*network).to_owned() })
    })
}

fn asked_subnets(spec: &NetworkSpec) -> impl Iterator<Item = IpNet> {
    spec.ipam.iter().map(|asked| asked.subnet.trunc())
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// The network that tasks without any join.
pub fn default_network() -> NetworkSpec {
    NetworkSpec {
        name: DEFAULT_NETWORK.parse().expect("a constant that is a name"),
        stack: None,
        labels: Default::default(),
        driver: NetworkDriver::Bridge,
        options: Default::default(),
        internal: false,
        attachable: true,
        ipv6: false,
        ipam: Vec::new(),
    }
}

/// The network that published ports lead through.
fn ingress_network() -> NetworkSpec {
    NetworkSpec {
        name: INGRESS_NETWORK.parse().expect("a constant that is a name"),
        driver: NetworkDriver::Overlay,
        attachable: false,
        ipv6: true,
        ..default_network()
    }
}

/// What is free while one pass gives out.
struct Room {
    space: Space,
    claimed: usize,
}

impl Room {
    /// No subnet may overlap another network's, what is set, or what any node has a route to: a task on such a network
    /// could not reach what the node reaches there, and the node not the task.
    fn of(book: &Book, state: &State) -> Self {
        let routes =
            state.nodes().filter_map(|node| node.description.as_ref()).flat_map(|said| said.routes.iter().copied());
        let avoid: BTreeSet<Ipv4Net> = routes.chain(book.config.avoid.iter().copied()).filter_map(v4).collect();
        let ranges = std::iter::once(book.config.base).chain(book.config.fallback.iter().copied());
        let claimed = avoid.len();
        let mut space = Space::new(ranges, avoid);
        book.subnets().filter_map(v4).for_each(|subnet| space.take(subnet));
        Self { space, claimed }
    }

    fn allocate(
        &mut self,
        book: &Book,
        state: &State,
        id: NetworkId,
        spec: &NetworkSpec,
    ) -> Result<NetworkAllocation, NetworkError> {
        if matches!(spec.driver, NetworkDriver::Host | NetworkDriver::None) {
            return Ok(NetworkAllocation::default());
        }
        let mut pools: Vec<(IpNet, IpAddr)> = Vec::new();
        for asked in &spec.ipam {
            pools.push(asked_pool(book, state, asked)?);
        }
        let vni = match spec.driver {
            NetworkDriver::Overlay => free_vni(book).ok_or(NetworkError::Vnis)?,
            _ => 0,
        };
        if !pools.iter().any(|(subnet, _)| matches!(subnet, IpNet::V4(_))) {
            let subnet = self.space.cut(&book.config.prefixes).ok_or_else(|| self.exhausted(book))?;
            pools.insert(0, (IpNet::V4(subnet), first_address(IpNet::V4(subnet))));
        }
        if spec.ipv6 && !pools.iter().any(|(subnet, _)| matches!(subnet, IpNet::V6(_))) {
            let subnet = IpNet::V6(unique_local(id));
            pools.push((subnet, first_address(subnet)));
        }
        pools.iter().filter_map(|(subnet, _)| v4(*subnet)).for_each(|subnet| self.space.take(subnet));
        let default = || state.cluster().is_some_and(|cluster| cluster.spec.encrypt_networks);
        Ok(NetworkAllocation { pools, vni, encrypted: spec.encrypted().unwrap_or_else(default) })
    }

    fn exhausted(&self, book: &Book) -> NetworkError {
        NetworkError::Subnets {
            ranges: self.space.ranges().to_vec(),
            prefixes: book.config.prefixes.clone(),
            taken: book.networks.len(),
            claimed: self.claimed,
        }
    }
}

/// Two who ask at the same time are both let in: the second one gets nothing here.
fn asked_pool(book: &Book, state: &State, asked: &IpamPool) -> Result<(IpNet, IpAddr), Overlap> {
    let subnet = asked.subnet.trunc();
    for (other, network) in &book.networks {
        if let Some(pool) = network.pools.iter().find(|pool| overlaps(pool.subnet(), subnet)) {
            let name = state.network(*other).map_or_else(|| other.to_string(), |other| other.spec.name.to_string());
            return Err(Overlap { asked: subnet, subnet: pool.subnet(), network: name });
        }
    }
    Ok((subnet, asked.gateway.unwrap_or_else(|| first_address(subnet))))
}

fn v4(net: IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(net),
        IpNet::V6(_) => None,
    }
}

/// A unique local prefix (RFC 4193) whose global id and subnet come from the network's random id.
fn unique_local(id: NetworkId) -> Ipv6Net {
    let random = (id.as_u128() >> 72) << 64;
    let network = (0xfd_u128 << 120) | (random & ((1 << 120) - 1));
    Ipv6Net::new_assert(Ipv6Addr::from(network), 64)
}

fn free_vni(book: &Book) -> Option<u32> {
    let next = book.vnis.last().map_or(*VNIS.start(), |last| last + 1);
    if VNIS.contains(&next) { Some(next) } else { VNIS.into_iter().find(|vni| !book.vnis.contains(vni)) }
}

fn first_address(subnet: IpNet) -> IpAddr {
    match subnet {
        IpNet::V4(net) if net.prefix_len() >= 31 => IpAddr::V4(net.network()),
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) + 1)),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) + 1)),
    }
}
