//! Giving out what there is only one of: subnets and VXLAN identifiers to networks, virtual addresses and published
//! ports to services, addresses to tasks. Pure: what is given is kept in a [`Book`] that mirrors the store and can be
//! built from it at any time.
//!
//! | module | what it holds |
//! |---|---|
//! | [`pool`] | the addresses of one subnet |
//! | [`book`] | everything that is given out, by whom it is held |
//! | [`network`] | subnets and VXLAN identifiers; the predefined network |
//! | [`endpoint`] | virtual addresses and published ports of services |
//! | [`attach`] | addresses of tasks |
//!
//! Invariants: nothing is held twice; an address rests for a while before it is given out again, as long as there are
//! others; no subnet is given out that a node has a route to by other means; what cannot be given is said in figures.

pub mod attach;
pub mod book;
pub mod endpoint;
pub mod network;
pub mod pool;

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

/// Where subnets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllocatorConfig {
    /// Subnets are cut out of this. Default 10.128.0.0/9.
    pub base: Ipv4Net,
    /// Length of their prefix. Default 20, that is 4,093 addresses for tasks and services.
    pub prefix: u8,
    /// Prefix of the predefined network. Default 16.
    pub default_network_prefix: u8,
    /// Tried in this order when nothing is left in `base`. Default 172.16.0.0/12 and 192.168.0.0/16.
    pub fallback: Vec<Ipv4Net>,
    /// Ranges that must not be touched, besides those that the nodes say they have routes to. Default none.
    pub avoid: Vec<IpNet>,
}

impl Default for AllocatorConfig {
    fn default() -> Self {
        let net = |a, b, prefix| Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), prefix);
        let fallback = vec![net(172, 16, 12), net(192, 168, 16)];
        Self { base: net(10, 128, 9), prefix: 20, default_network_prefix: 16, fallback, avoid: Vec::new() }
    }
}
