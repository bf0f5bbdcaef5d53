//! Which ranges of addresses a node has routes to: what networks must not be given.
//!
//! Pure: the routes are an argument.

use ipnet::IpNet;

/// Most ranges that a node tells of. Where there are more (a router with many routes), they are told of more coarsely.
pub const MOST_CLAIMED: usize = 256;

/// A route to more than this is a way to the rest of the world, as the default route is, and claims nothing. VPNs split the
/// default route in two halves.
const WIDEST: u8 = 8;

/// How coarse it gets, step by step: prefix lengths of IPv4 and IPv6.
const STEPS: [(u8, u8); 3] = [(24, 64), (16, 48), (12, 32)];

/// The ranges that routes lead to: sorted, none inside another, at most [`MOST_CLAIMED`].
pub fn claimed(routes: Vec<IpNet>) -> Vec<IpNet> {
    let own: Vec<IpNet> = routes.iter().map(IpNet::trunc).filter(|range| range.prefix_len() >= WIDEST).collect();
    let mut ranges = IpNet::aggregate(&own);
    for (v4, v6) in STEPS {
        if ranges.len() <= MOST_CLAIMED {
            break;
        }
        let coarser = ranges.iter().map(|range| {
            let longest = if range.addr().is_ipv4() { v4 } else { v6 };
            let length = range.prefix_len().min(longest);
            IpNet::new(range.addr(), length).map_or(*range, |coarse| coarse.trunc())
        });
        ranges = IpNet::aggregate(&coarser.collect());
    }
    ranges.sort();
    ranges.truncate(MOST_CLAIMED);
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_are_told_once_and_default_routes_not_at_all() {
        let routes = nets(&[
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "172.17.0.0/16",
            "192.168.1.0/25",
            "192.168.1.128/25",
            "172.17.3.0/24",
            "10.0.0.5/8",
            "fd00:1::/64",
        ]);
        assert_eq!(claimed(routes), nets(&["10.0.0.0/8", "172.17.0.0/16", "192.168.1.0/24", "fd00:1::/64"]));
    }

    #[test]
    fn a_router_with_many_routes_tells_coarsely_and_hides_none() {
        let routes: Vec<IpNet> = (0..=255u8)
            .flat_map(|a| (0..=255u8).step_by(2).map(move |b| IpNet::new([10, a, b, 0].into(), 24).unwrap()))
            .collect();
        let told = claimed(routes.clone());
        assert!(told.len() <= MOST_CLAIMED, "{}", told.len());
        assert!(routes.iter().all(|route| told.iter().any(|range| range.contains(route))));
    }
}
