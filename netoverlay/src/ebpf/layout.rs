//! What the maps of the programs hold, byte by byte. Pure.
//!
//! Addresses are 16 bytes, those of IPv4 as `::ffff:a.b.c.d`: what a socket of IPv6 calls them. Numbers are in the machine's
//! order, as the programs read them.

use std::net::{IpAddr, Ipv6Addr};

use berth_proto::id::NetworkId;

use super::frontends::Frontend;

/// Raised when a map or a program changes: what another version has pinned is made anew.
pub const VERSION: u32 = 2;

/// Networks of one task that the programs look at. Of a task on more, the packet filter translates what is on the others.
pub const MOST_NETWORKS: usize = 8;

/// Slots of all services that the programs are given. Where there are more the packet filter translates everything.
pub const MOST_SLOTS: usize = 1 << 16;

/// A map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Map {
    /// Cookie of a task's network namespace → the networks it is on.
    Tasks,
    /// Network and virtual address → how many backends, and the digest of their list.
    Services,
    /// Network, virtual address, digest and slot → backend. A changed list has other keys, so it is there as a whole before
    /// [`Map::Services`] leads to it.
    Slots,
    /// Network, virtual address and backend: whether it is still one.
    Members,
    /// Cookie of a datagram socket, virtual address and port → the backend that it talks to.
    Flows,
    /// Cookie of a datagram socket, backend and port → the virtual address whose answers these are.
    Answers,
    /// Per stream socket: the virtual address that was asked for, and the backend.
    Peers,
}

/// How the kernel keeps a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A hash table that we write.
    Hash,
    /// A hash table that the programs write, the oldest entries making room.
    Recent,
    /// Part of a socket, gone with it.
    Socket,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Tasks, Self::Services, Self::Slots, Self::Members, Self::Flows, Self::Answers, Self::Peers];

    /// What it is pinned as; in the kernel `berth_<name>`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
            Self::Services => "services",
            Self::Slots => "slots",
            Self::Members => "members",
            Self::Flows => "flows",
            Self::Answers => "answers",
            Self::Peers => "peers",
        }
    }

    /// How the kernel keeps it.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Tasks | Self::Services | Self::Slots | Self::Members => Kind::Hash,
            Self::Flows | Self::Answers => Kind::Recent,
            Self::Peers => Kind::Socket,
        }
    }

    /// Bytes of a key.
    pub const fn key(self) -> usize {
        match self {
            Self::Tasks => 8,
            Self::Services => 32,
            Self::Slots => 40,
            Self::Members => 48,
            Self::Flows | Self::Answers => 32,
            Self::Peers => 4,
        }
    }

    /// Bytes of a value.
    pub const fn value(self) -> usize {
        match self {
            Self::Tasks => 8 + 16 * MOST_NETWORKS,
            Self::Services => 8,
            Self::Slots | Self::Flows | Self::Answers => 16,
            Self::Members => 4,
            Self::Peers => 32,
        }
    }

    /// Most entries; room for the old list of each service beside the new one.
    pub const fn entries(self) -> u32 {
        match self {
            Self::Tasks => 1 << 13,
            Self::Services => 1 << 16,
            Self::Slots | Self::Members => 2 * MOST_SLOTS as u32,
            Self::Flows | Self::Answers => 1 << 14,
            Self::Peers => 0,
        }
    }
}

/// An address as the maps have it.
pub fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The other way round.
pub fn read_address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// Value of [`Map::Tasks`]. The programs take the first network that has the address.
pub fn networks(list: &[NetworkId]) -> Vec<u8> {
    let count = list.len().min(MOST_NETWORKS) as u32;
    let mut value = [count.to_ne_bytes(), [0; 4]].concat();
    value.extend(list.iter().take(MOST_NETWORKS).flat_map(|id| id.as_u128().to_be_bytes()));
    value.resize(Map::Tasks.value(), 0);
    value
}

/// The other way round; `None` if it is none of ours.
pub fn read_networks(value: &[u8]) -> Option<Vec<NetworkId>> {
    let count = number(value, 0)? as usize;
    let ids = value.get(8..8 + 16 * count.min(MOST_NETWORKS))?.chunks_exact(16);
    Some(ids.filter_map(|id| id.try_into().ok()).map(|id| NetworkId::from_random(u128::from_be_bytes(id))).collect())
}

/// Key of [`Map::Services`], and the start of those of slots and members.
pub fn frontend(frontend: &Frontend) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&frontend.network.as_u128().to_be_bytes());
    key[16..].copy_from_slice(&address(frontend.vip));
    key
}

/// The other way round.
pub fn read_frontend(key: &[u8]) -> Option<Frontend> {
    let network = NetworkId::from_random(u128::from_be_bytes(key.get(..16)?.try_into().ok()?));
    Some(Frontend { network, vip: read_address(key.get(16..32)?.try_into().ok()?) })
}

/// Value of [`Map::Services`].
pub fn service(backends: &[IpAddr]) -> [u8; 8] {
    let mut value = [0; 8];
    value[..4].copy_from_slice(&(backends.len() as u32).to_ne_bytes());
    value[4..].copy_from_slice(&digest(backends).to_ne_bytes());
    value
}

/// Key of [`Map::Slots`].
pub fn slot(of: &Frontend, digest: u32, slot: u32) -> [u8; 40] {
    let mut key = [0; 40];
    key[..32].copy_from_slice(&frontend(of));
    key[32..36].copy_from_slice(&digest.to_ne_bytes());
    key[36..].copy_from_slice(&slot.to_ne_bytes());
    key
}

/// Key of [`Map::Members`].
pub fn member(of: &Frontend, backend: IpAddr) -> [u8; 48] {
    let mut key = [0; 48];
    key[..32].copy_from_slice(&frontend(of));
    key[32..].copy_from_slice(&address(backend));
    key
}

/// The types in [`types`].
pub const TYPE_OF_KEY: u32 = 1;
/// The value's.
pub const TYPE_OF_VALUE: u32 = 3;

/// What the kernel wants to be told of key and value of a map of [`Kind::Socket`] (BTF, `Documentation/bpf/btf.rst`): a number
/// and bytes.
pub fn types(map: Map) -> Vec<u8> {
    const INTEGER: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    let number = [0, INTEGER, 4, 32];
    let byte = [0, INTEGER, 1, 8];
    let bytes = [0, ARRAY, 0, 2, 1, map.value() as u32];
    let types: Vec<u32> = number.into_iter().chain(byte).chain(bytes).collect();
    let size = 4 * types.len() as u32;
    // Magic number, version 1, no flags; the header's size; offset and size of the types and of the one, empty, name.
    let mut all = [0xeb9f_u16.to_ne_bytes(), [1, 0]].concat();
    all.extend([24, 0, size, size, 1].into_iter().chain(types).flat_map(u32::to_ne_bytes));
    all.push(0);
    all
}

/// The number at a place.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Tells lists of backends apart (FNV-1a, 32 bits). Two that follow each other and have the same one would be exchanged slot by
/// slot, and a connection in between would get a backend of either.
pub fn digest(backends: &[IpAddr]) -> u32 {
    let bytes = backends.iter().flat_map(|backend| address(*backend));
    bytes.fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let ids: Vec<NetworkId> = (0..3).map(NetworkId::from_random).collect();
        assert_eq!(read_networks(&networks(&ids)), Some(ids));
        let many: Vec<NetworkId> = (0..20).map(NetworkId::from_random).collect();
        assert_eq!(read_networks(&networks(&many)), Some(many[..MOST_NETWORKS].to_vec()));
        for vip in ["10.0.0.1", "fd00::1"] {
            let of = Frontend { network: NetworkId::from_random(9), vip: vip.parse().unwrap() };
            assert_eq!(read_frontend(&frontend(&of)), Some(of));
        }
    }

    #[test]
    fn maps_are_numbered_in_their_order() {
        assert!(Map::ALL.iter().enumerate().all(|(at, map)| *map as usize == at));
    }

    #[test]
    fn keys_and_values_have_the_sizes_that_the_maps_have() {
        let of = Frontend { network: NetworkId::from_random(9), vip: [10, 0, 0, 1].into() };
        assert_eq!(frontend(&of).len(), Map::Services.key());
        assert_eq!(slot(&of, 1, 2).len(), Map::Slots.key());
        assert_eq!(member(&of, of.vip).len(), Map::Members.key());
        assert_eq!(networks(&[]).len(), Map::Tasks.value());
        assert_eq!(service(&[]).len(), Map::Services.value());
    }
}
