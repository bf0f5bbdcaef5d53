//! Networks and how tasks join them.

use std::collections::BTreeSet;

use super::{Checker, hostname_problem, network_options};
use crate::spec::{INGRESS_NETWORK, IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec};

/// Names that stand for networks every node has.
const PREDEFINED: [&str; 3] = ["host", "none", "bridge"];

pub(super) fn check(spec: &NetworkSpec, check: &mut Checker) {
    check.labels("labels", &spec.labels);
    if matches!(spec.driver, NetworkDriver::Host | NetworkDriver::None) && !spec.ipam.is_empty() {
        check.within("ipam", |check| check.refuse("this driver has no addresses"));
    }
    network_options::check(spec, check);
    let mut before: Vec<&IpamPool> = Vec::new();
    for (at, pool) in spec.ipam.iter().enumerate() {
        check.within(&format!("ipam[{at}]"), |check| {
            for other in &before {
                let overlap = other.subnet.contains(&pool.subnet.addr()) || pool.subnet.contains(&other.subnet.addr());
                check.rule("subnet", !overlap, || format!("{} overlaps {}", pool.subnet, other.subnet));
            }
            ipam_pool(pool, check);
        });
        before.push(pool);
    }
}

fn ipam_pool(pool: &IpamPool, check: &mut Checker) {
    let subnet = pool.subnet;
    check.rule("subnet", subnet.addr() == subnet.network(), || {
        format!("{subnet} has host bits set; did you mean {}?", subnet.trunc())
    });
    let room = subnet.max_prefix_len() - subnet.prefix_len();
    check.rule("subnet", room >= 2, || format!("{subnet} is too small: it has no room for a gateway and a task"));
    if let Some(range) = pool.ip_range {
        check.rule("ip_range", subnet.contains(&range), || format!("{range} is not inside {subnet}"));
    }
    if let Some(gateway) = pool.gateway {
        check.rule("gateway", subnet.contains(&gateway), || format!("{gateway} is not inside {subnet}"));
    }
    for (name, address) in &pool.aux_addresses {
        check.rule("aux_addresses", subnet.contains(address), || format!("{name}: {address} is not inside {subnet}"));
    }
}

pub(super) fn check_attachments(networks: &[NetworkAttachmentSpec], check: &mut Checker) {
    let mut seen = BTreeSet::new();
    check.each("networks", networks, |check, attachment| {
        let name = &*attachment.network;
        check.rule("network", seen.insert(name.to_owned()), || format!("{name:?} is joined twice"));
        let alone = !PREDEFINED[..2].contains(&name) || networks.len() == 1;
        check.rule("network", alone, || format!("{name:?} cannot be combined with other networks"));
        check.rule("network", name != INGRESS_NETWORK, || {
            format!(
                "{name:?} is only for published ports: leave it out, and publish the ports that others should reach"
            )
        });
        for alias in &attachment.aliases {
            let problem = hostname_problem(alias);
            check.rule("aliases", problem.is_none(), || problem.unwrap_or_default());
        }
        for (field, address, right) in [
            ("ipv4", attachment.ipv4, attachment.ipv4.is_none_or(|ip| ip.is_ipv4())),
            ("ipv6", attachment.ipv6, attachment.ipv6.is_none_or(|ip| ip.is_ipv6())),
        ] {
            check.rule(field, right, || format!("{address:?} is of the other address family"));
        }
        if let Some(mac) = &attachment.mac_address {
            check.rule("mac_address", is_mac(mac), || format!("{mac:?} is not six hex pairs with colons"));
        }
    });
}

fn is_mac(text: &str) -> bool {
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    text.split(':').count() == 6 && text.split(':').all(pair)
}
