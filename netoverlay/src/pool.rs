//! Subnets and addresses to choose from.
//!
//! Pure: which ones are in use is an argument.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Ranges that networks are cut from, and how large each network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetPool {
    /// Ranges, tried in order.
    pub ranges: Vec<Ipv4Net>,
    /// Prefix length of a network.
    pub prefix: u8,
}

/// No subnet is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no free /{prefix} subnet: all {total} of the pool are in use by networks or by routes of this node")]
pub struct PoolExhausted {
    /// Prefix length asked for.
    pub prefix: u8,
    /// Subnets of that size in the pool.
    pub total: u64,
}

impl Default for SubnetPool {
    /// Large networks from the private ranges that home and office networks use least.
    fn default() -> Self {
        let net = |a, b, len| Ipv4Net::new_assert([a, b, 0, 0].into(), len);
        Self { ranges: vec![net(10, 128, 9), net(172, 18, 15), net(172, 20, 14), net(172, 24, 13)], prefix: 16 }
    }
}

impl SubnetPool {
    /// The first subnet that overlaps nothing in use (subnets of networks, routes of the node).
    pub fn pick(&self, in_use: &[IpNet]) -> Result<Ipv4Net, PoolExhausted> {
        let overlaps = |subnet: &Ipv4Net| {
            let subnet = IpNet::V4(*subnet);
            // A default route covers everything and claims nothing.
            in_use.iter().any(|u| u.prefix_len() > 0 && (u.contains(&subnet) || subnet.contains(u)))
        };
        let found = self.ranges.iter().filter_map(|r| r.subnets(self.prefix).ok()).flatten().find(|s| !overlaps(s));
        found.ok_or_else(|| PoolExhausted { prefix: self.prefix, total: self.total() })
    }

    fn total(&self) -> u64 {
        self.ranges.iter().map(|r| 1u64 << self.prefix.saturating_sub(r.prefix_len())).sum()
    }
}

/// Addresses of a subnet that can be given to tasks, in order: without network, broadcast and gateway address.
pub fn usable_addresses(range: IpNet, gateway: IpAddr) -> impl Iterator<Item = IpAddr> {
    // `hosts` leaves out network and broadcast of IPv4, not the subnet-router anycast address of IPv6.
    range.hosts().filter(move |a| *a != gateway && *a != range.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_keep_away_from_what_is_in_use() {
        let pool = SubnetPool::default();
        let first = pool.pick(&[]).unwrap();
        assert_eq!(first.to_string(), "10.128.0.0/16");
        let used = ["0.0.0.0/0", "10.128.5.0/24", "10.129.0.0/16", "192.168.0.0/16"].map(|t| t.parse().unwrap());
        assert_eq!(pool.pick(&used).unwrap().to_string(), "10.130.0.0/16");
        let all = ["10.0.0.0/8", "172.16.0.0/12"].map(|t| t.parse().unwrap());
        let error = pool.pick(&all).unwrap_err();
        assert!(error.to_string().contains("/16"), "{error}");
    }

    #[test]
    fn the_gateway_and_the_edges_are_not_given_out() {
        let all: Vec<String> =
            usable_addresses("10.0.0.0/29".parse().unwrap(), [10, 0, 0, 1].into()).map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        let v6 = usable_addresses("fd00::/125".parse().unwrap(), "fd00::1".parse().unwrap());
        assert_eq!(v6.map(|a| a.to_string()).next().as_deref(), Some("fd00::2"));
    }
}
