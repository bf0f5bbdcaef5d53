//! Giving out what there is only one of: subnets and VXLAN identifiers to networks, virtual addresses and published
//! ports to services, addresses to tasks. Pure: what is given is kept in a [`Book`] that mirrors the store and can be
//! built from it at any time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`pool`] | the addresses of one subnet |
//! | [`book`] | everything that is given out, by whom it is held |
//! | [`space`] | the ranges that subnets are cut out of |
//! | [`network`] | subnets and VXLAN identifiers; the predefined networks |
//! | [`ingress`] | the nodes' addresses on the network of published ports |
//! | [`endpoint`] | virtual addresses and published ports of services |
//! | [`attach`] | addresses of tasks |
//!
//! Invariants: nothing is held twice; an address rests for a while before it is given out again, as long as there are
//! others; no subnet is given out that a node has a route to by other means; what cannot be given is said in figures.

pub mod attach;
pub mod book;
pub mod endpoint;
pub mod ingress;
pub mod network;
pub mod pool;
pub mod space;

#[cfg(test)]
mod book_tests;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

pub use book::Book;

/// Published ports that are chosen when none is asked for (Docker Swarm: 30000-32767).
pub const PORTS: RangeInclusive<u16> = 30_000..=32_767;
/// How long an address rests before it is given out again while there are others: neighbours and name caches forget it.
pub const REST: Duration = Duration::from_secs(30);
/// VXLAN identifiers that are given out: 24 bits, the lowest 4096 are left to others (Docker Swarm's choice).
pub const VNIS: RangeInclusive<u32> = 4_096..=16_777_215;
/// Network that tasks without any join; made on first start. On each node it is a bridge of its own.
pub const DEFAULT_NETWORK: &str = "bridge";
/// Network that published ports lead through from node to node; made on first start. Every node has an address on it.
pub use berth_proto::spec::INGRESS_NETWORK;

/// Where subnets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatorConfig {
    /// Subnets are cut out of this. Default 10.128.0.0/9.
    pub base: Ipv4Net,
    /// Lengths of their prefixes, shortest first; see [`space::Space::cut`]. Default 16, that is 65,533 addresses for
    /// tasks and services, then 20 and 24.
    pub prefixes: Vec<u8>,
    /// Tried in this order when nothing is left in `base`. Default 172.16.0.0/12 and 192.168.0.0/16.
    pub fallback: Vec<Ipv4Net>,
    /// Ranges that must not be touched, besides those that the nodes say they have routes to. Default none.
    pub avoid: Vec<IpNet>,
}

impl Default for AllocatorConfig {
    fn default() -> Self {
        let net = |a, b, prefix| Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), prefix);
        let fallback = vec![net(172, 16, 12), net(192, 168, 16)];
        Self { base: net(10, 128, 9), prefixes: vec![16, 20, 24], fallback, avoid: Vec::new() }
    }
}
