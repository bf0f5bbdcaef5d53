//! Subnets and VXLAN identifiers; the predefined network.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use berth_proto::id::NetworkId;
use berth_proto::object::{Meta, Network, NetworkAllocation};
use berth_proto::spec::{NetworkDriver, NetworkSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Book, DEFAULT_NETWORK, VNIS};
use crate::orchestrator::Turn;
use crate::store::{Change, Object, State, Transaction};

/// Why a network gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No subnet is free.
    #[error("no subnet of /{prefix} is left in {}: {taken} networks have one{}", join(ranges), Claimed(*claimed))]
    Subnets {
        /// Where subnets are cut out of.
        ranges: Vec<Ipv4Net>,
        /// Their prefix.
        prefix: u8,
        /// Networks that have one.
        taken: usize,
        /// Ranges that nodes have routes to.
        claimed: usize,
    },
    /// No VXLAN identifier is free.
    #[error("no VXLAN identifier is left")]
    Vnis,
}

fn join(ranges: &[Ipv4Net]) -> String {
    ranges.iter().map(Ipv4Net::to_string).collect::<Vec<_>>().join(", ")
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

/// Gives each network that has nothing yet what it needs, and makes the predefined one where it is missing. What was given
/// is in the book when this returns. Networks that could get nothing come back with the reason.
pub fn decide(book: &mut Book, transaction: &mut Transaction, turn: &mut Turn<'_>) -> Vec<(NetworkId, NetworkError)> {
    let mut failures = Vec::new();
    let waiting: Vec<Arc<Network>> =
        turn.state.networks().filter(|network| network.allocation.is_none()).cloned().collect();
    let predefined = turn.state.network_by_name(DEFAULT_NETWORK).is_some();
    if waiting.is_empty() && predefined {
        return failures;
    }
    let avoid = avoid(book, turn.state);
    for network in waiting {
        match allocate(book, network.id, &network.spec, &avoid) {
            Ok(allocation) => {
                let network = Network { allocation: Some(allocation), ..Network::clone(&network) };
                book.upsert_network(&network);
                transaction.changes.push(Change::Put(Object::Network(Arc::new(network))));
            }
            Err(error) => failures.push((network.id, error)),
        }
    }
    if !predefined {
        let spec = default_network();
        let id = NetworkId::from_random(turn.bits());
        match allocate(book, id, &spec, &avoid) {
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

/// What no subnet may overlap besides the other networks: what is set, and what any node has a route to. A task on such a
/// network could not reach what the node reaches there, and the node not the task.
fn avoid(book: &Book, state: &State) -> BTreeSet<Ipv4Net> {
    let routes =
        state.nodes().filter_map(|node| node.description.as_ref()).flat_map(|said| said.routes.iter().copied());
    routes.chain(book.config.avoid.iter().copied()).filter_map(v4).collect()
}

fn allocate(
    book: &Book,
    id: NetworkId,
    spec: &NetworkSpec,
    avoid: &BTreeSet<Ipv4Net>,
) -> Result<NetworkAllocation, NetworkError> {
    if matches!(spec.driver, NetworkDriver::Host | NetworkDriver::None) {
        return Ok(NetworkAllocation::default());
    }
    let mut pools: Vec<(IpNet, IpAddr)> = Vec::new();
    for asked in &spec.ipam {
        let subnet = asked.subnet.trunc();
        pools.push((subnet, asked.gateway.unwrap_or_else(|| first_address(subnet))));
    }
    if !pools.iter().any(|(subnet, _)| matches!(subnet, IpNet::V4(_))) {
        let prefix =
            if spec.name.as_str() == DEFAULT_NETWORK { book.config.default_network_prefix } else { book.config.prefix };
        let subnet = IpNet::V4(free_subnet(book, prefix, avoid)?);
        pools.insert(0, (subnet, first_address(subnet)));
    }
    if spec.ipv6 && !pools.iter().any(|(subnet, _)| matches!(subnet, IpNet::V6(_))) {
        let subnet = IpNet::V6(unique_local(id));
        pools.push((subnet, first_address(subnet)));
    }
    let vni = match spec.driver {
        NetworkDriver::Overlay => free_vni(book).ok_or(NetworkError::Vnis)?,
        _ => 0,
    };
    Ok(NetworkAllocation { pools, vni })
}

/// The lowest subnet of the first range that has one which overlaps nothing that is given out or to be avoided.
fn free_subnet(book: &Book, prefix: u8, avoid: &BTreeSet<Ipv4Net>) -> Result<Ipv4Net, NetworkError> {
    let ranges = || std::iter::once(&book.config.base).chain(&book.config.fallback);
    let taken: Vec<Ipv4Net> = book.subnets().filter_map(v4).chain(avoid.iter().copied()).collect();
    ranges().find_map(|range| free_within(*range, prefix, &taken)).ok_or_else(|| NetworkError::Subnets {
        ranges: ranges().copied().collect(),
        prefix,
        taken: book.networks.len(),
        claimed: avoid.len(),
    })
}

fn free_within(range: Ipv4Net, prefix: u8, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let size = 1u64 << (32 - u32::from(prefix));
    let (mut at, end) = (u64::from(u32::from(range.network())), u64::from(u32::from(range.broadcast())));
    while at + size - 1 <= end {
        let subnet = Ipv4Net::new_assert(Ipv4Addr::from(at as u32), prefix);
        let overlap = taken.iter().find(|taken| taken.contains(&subnet) || subnet.contains(*taken));
        let Some(overlap) = overlap else { return Some(subnet) };
        // On to the first multiple of the size behind what is in the way.
        let behind = u64::from(u32::from(overlap.broadcast())) + 1;
        at = behind.max(at + size).div_ceil(size) * size;
    }
    None
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
