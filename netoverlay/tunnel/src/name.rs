//! Device names, inner addresses and UDP ports derived from ids.
//!
//! Pure. A name follows from the instance and the key's generation alone, so that a crash at any point leaves a device
//! that the next pass recognises.

use std::fmt;
use std::net::Ipv6Addr;

#[cfg(feature = "node")]
use berth_proto::id::NodeId;
#[cfg(feature = "node")]
use sha2::{Digest, Sha256};

use crate::TunnelError;

/// Longest instance prefix, as everywhere in Berth's interface names.
const MAX_INSTANCE: usize = 4;
/// Base36 digits of the generation that a name carries: two billion keys. The width is fixed, so that instances `b` and
/// `bw` do not take each other's devices for their own.
const WIDTH: usize = 6;
/// First bits of all inner addresses: unique local addresses (RFC 4193) that a person recognises.
pub const INNER_PREFIX: u16 = 0xfdbe;
/// The UDP port that WireGuard is known for. Devices listen on it and on the next one in turn.
pub const DEFAULT_PORT: u16 = 51820;

/// The name of a device of ours: `<instance>w<generation>`, at most 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName(String);

/// What tells several daemons on one host apart: 1 to 4 lower-case letters and digits, a letter first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// Checks a prefix.
    pub fn new(text: &str) -> Result<Self, TunnelError> {
        let ok = (1..=MAX_INSTANCE).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok { Ok(Self(text.to_owned())) } else { Err(TunnelError::Name(text.to_owned())) }
    }

    /// The device of a key.
    pub fn device(&self, generation: u64) -> DeviceName {
        DeviceName(format!("{}w{}", self.0, base36(generation)))
    }

    /// The name of a link, when it has this instance's form.
    pub fn owned(&self, link: &str) -> Option<DeviceName> {
        let digits = link.strip_prefix(self.0.as_str())?.strip_prefix('w')?;
        let ok = digits.len() == WIDTH && digits.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        ok.then(|| DeviceName(link.to_owned()))
    }
}

impl DeviceName {
    /// Reads a name of any instance.
    pub fn parse(text: &str) -> Result<Self, TunnelError> {
        let instance = text.len().checked_sub(WIDTH + 1).and_then(|end| text.get(..end));
        let name = instance.and_then(|instance| Instance::new(instance).ok()).and_then(|i| i.owned(text));
        name.ok_or_else(|| TunnelError::Name(text.chars().take(64).collect()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where packets to a node are sent to inside its tunnel: `fdbe:` and 112 bits of a hash. Two nodes of one address are
/// as good as impossible: with 10,000 nodes and a hundred keys each the chance is 1 in 10^22.
#[cfg(feature = "node")]
pub fn inner_address(node: NodeId, generation: u64) -> Ipv6Addr {
    let hash = Sha256::new()
        .chain_update(b"berth tunnel inner address")
        .chain_update(node.as_u128().to_be_bytes())
        .chain_update(generation.to_be_bytes())
        .finalize();
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&INNER_PREFIX.to_be_bytes());
    octets[2..].copy_from_slice(&hash[..14]);
    Ipv6Addr::from(octets)
}

/// Whether an address is a tunnel's.
pub fn is_inner(address: Ipv6Addr) -> bool {
    address.segments()[0] == INNER_PREFIX
}

/// The UDP port of a key: two generations in a row never share one.
pub fn port(base: u16, generation: u64) -> u16 {
    base.saturating_add((generation % 2) as u16)
}

fn base36(mut value: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; WIDTH];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(value % 36) as usize];
        value /= 36;
    }
    text.iter().map(|b| char::from(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_recognised() {
        let (long, short) = (Instance::new("bt01").unwrap(), Instance::new("b").unwrap());
        let name = long.device(u64::MAX);
        assert!(name.as_str().len() <= 15 && long.owned(name.as_str()) == Some(name.clone()));
        assert_eq!(DeviceName::parse(name.as_str()).unwrap(), name);
        assert!(short.owned(name.as_str()).is_none());
        let nested = Instance::new("bw").unwrap().device(1);
        assert!(short.owned(nested.as_str()).is_none(), "b does not own {nested}");
        assert_eq!(long.device(37).as_str(), "bt01w000011");
        for bad in ["", "eth0", "w000001", "Bw000001", "toolongw000001", "bw00000é"] {
            assert!(DeviceName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn inner_addresses_differ_by_node_and_generation() {
        let node = |n: u128| NodeId::from_random(n << 64 | 7);
        let one = inner_address(node(1), 1);
        assert!(is_inner(one) && one == inner_address(node(1), 1));
        assert!(one != inner_address(node(1), 2) && one != inner_address(node(2), 1));
        // Another version of the program has to find the same address.
        assert_eq!(inner_address(NodeId::from_random(1), 1).to_string(), "fdbe:b42:e5a2:aedc:4892:2eda:bdf7:fede");
        assert_eq!((port(51820, 4), port(51820, 5)), (51820, 51821));
    }
}
