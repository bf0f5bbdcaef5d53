//! Subnets and VXLAN identifiers; the predefined network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use berth_proto::id::NetworkId;
use berth_proto::object::{Meta, Network, NetworkAllocation};
use berth_proto::spec::{NetworkDriver, NetworkSpec};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Book, DEFAULT_NETWORK, VNIS};
use crate::orchestrator::Turn;
use crate::store::{Change, Object, Transaction};

/// Why a network gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No subnet is free.
    #[error("no subnet of /{prefix} is left in {base}: {taken} networks have one")]
    Subnets {
        /// Where subnets are cut out of.
        base: Ipv4Net,
        /// Their prefix.
        prefix: u8,
        /// Networks that have one.
        taken: usize,
    },
    /// No VXLAN identifier is free.
    #[error("no VXLAN identifier is left")]
    Vnis,
}

/// Gives each network that has nothing yet what it needs, and makes the predefined one where it is missing. What was given
/// is in the book when this returns. Networks that could get nothing come back with the reason.
pub fn decide(book: &mut Book, transaction: &mut Transaction, turn: &mut Turn<'_>) -> Vec<(NetworkId, NetworkError)> {
    let mut failures = Vec::new();
    let waiting: Vec<Arc<Network>> =
        turn.state.networks().filter(|network| network.allocation.is_none()).cloned().collect();
    for network in waiting {
        match allocate(book, network.id, &network.spec) {
            Ok(allocation) => {
                let network = Network { allocation: Some(allocation), ..Network::clone(&network) };
                book.upsert_network(&network);
                transaction.changes.push(Change::Put(Object::Network(Arc::new(network))));
            }
            Err(error) => failures.push((network.id, error)),
        }
    }
    if turn.state.network_by_name(DEFAULT_NETWORK).is_none() {
        let spec = default_network();
        let id = NetworkId::from_random(turn.bits());
        match allocate(book, id, &spec) {
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

fn allocate(book: &Book, id: NetworkId, spec: &NetworkSpec) -> Result<NetworkAllocation, NetworkError> {
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
        let subnet = IpNet::V4(free_subnet(book, prefix)?);
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

/// The lowest subnet that overlaps nothing that is given out or to be avoided.
fn free_subnet(book: &Book, prefix: u8) -> Result<Ipv4Net, NetworkError> {
    let config = &book.config;
    let taken: Vec<Ipv4Net> = book.subnets().chain(config.avoid.iter().copied()).filter_map(v4).collect();
    let size = 1u64 << (32 - u32::from(prefix));
    let (mut at, end) = (u64::from(u32::from(config.base.network())), u64::from(u32::from(config.base.broadcast())));
    while at + size - 1 <= end {
        let subnet = Ipv4Net::new_assert(Ipv4Addr::from(at as u32), prefix);
        let overlap = taken.iter().find(|taken| taken.contains(&subnet) || subnet.contains(*taken));
        let Some(overlap) = overlap else { return Ok(subnet) };
        // On to the first multiple of the size behind what is in the way.
        let behind = u64::from(u32::from(overlap.broadcast())) + 1;
        at = behind.max(at + size).div_ceil(size) * size;
    }
    Err(NetworkError::Subnets { base: config.base, prefix, taken: book.networks.len() })
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
