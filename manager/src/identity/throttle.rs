//! How many wrong tokens one address may try. Bounded: it remembers only so many addresses. Pure: `now` is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use berth_proto::time::Timestamp;

/// Wrong tokens that one address may try within [`WINDOW`].
const TRIES: u32 = 10;
/// After this long they are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; the one that began to try first makes room.
const ADDRESSES: usize = 4096;

/// Counts wrong tokens by address.
#[derive(Debug, Default)]
pub struct Throttle {
    wrong: HashMap<IpAddr, Tries>,
}

#[derive(Debug, Clone, Copy)]
struct Tries {
    count: u32,
    since: Timestamp,
}

impl Throttle {
    /// Whether the address may try a token.
    pub fn allows(&self, address: IpAddr, now: Timestamp) -> bool {
        let tries = self.wrong.get(&network(address));
        tries.is_none_or(|tries| tries.count < TRIES || now.since(tries.since) >= WINDOW)
    }

    /// A wrong token came from the address.
    pub fn failed(&mut self, address: IpAddr, now: Timestamp) {
        let address = network(address);
        if let Some(tries) = self.wrong.get_mut(&address).filter(|tries| now.since(tries.since) < WINDOW) {
            tries.count += 1;
            return;
        }
        if self.wrong.len() >= ADDRESSES && !self.wrong.contains_key(&address) {
            let oldest = self.wrong.iter().min_by_key(|(_, tries)| tries.since).map(|(address, _)| *address);
            oldest.map(|oldest| self.wrong.remove(&oldest));
        }
        self.wrong.insert(address, Tries { count: 1, since: now });
    }
}

/// What one sender is taken for: an IPv4 address, or the 64 bits of an IPv6 address that a machine cannot choose.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(it) => IpAddr::V6(Ipv6Addr::from_bits(it.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    #[test]
    fn an_address_waits_after_too_many_wrong_tokens_and_others_do_not() {
        let mut throttle = Throttle::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for second in 0..10 {
            assert!(throttle.allows(one, at(second)), "{second}");
            throttle.failed(one, at(second));
        }
        assert!(!throttle.allows(one, at(10)) && throttle.allows(other, at(10)));
        assert!(throttle.allows(one, at(60)));
        throttle.failed(one, at(60));
        assert!(throttle.allows(one, at(61)), "it counts anew");
    }

    #[test]
    fn one_network_is_one_sender_and_memory_is_bounded() {
        let mut throttle = Throttle::default();
        let v6 = |network: u128, host: u128| IpAddr::V6(Ipv6Addr::from_bits(network << 64 | host));
        (0..10).for_each(|host| throttle.failed(v6(1, host), at(0)));
        assert!(!throttle.allows(v6(1, 99), at(1)) && throttle.allows(v6(2, 99), at(1)));
        (0..2 * ADDRESSES as u128).for_each(|network| throttle.failed(v6(network, 0), at(2)));
        assert_eq!(throttle.wrong.len(), ADDRESSES);
    }
}
