//! Kernel names derived from ids.
//!
//! Owns every name that Berth gives to something in the kernel. A name is a function of the instance and the ids alone, so
//! that a crash at any point leaves things that the next pass recognises: repaired, never doubled. Interface names are at
//! most 15 characters (Linux `IFNAMSIZ`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use berth_proto::id::{NetworkId, TaskId};

use crate::model::MacAddr;

/// Longest instance prefix.
pub const MAX_INSTANCE: usize = 4;

/// Characters of an id (or hash) that a link name carries: 51 bits.
const TAIL: usize = 10;

/// What tells several daemons on one host apart: the prefix of all link names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

/// Why a text is not an instance prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an instance prefix: 1 to {MAX_INSTANCE} lower-case letters and digits, a letter first")]
pub struct ParseInstanceError(String);

impl Instance {
    /// Checks a prefix.
    pub fn new(text: &str) -> Result<Self, ParseInstanceError> {
        let ok = (1..=MAX_INSTANCE).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if ok { Ok(Self(text.to_owned())) } else { Err(ParseInstanceError(text.chars().take(64).collect())) }
    }

    /// The bridge of a network.
    pub fn bridge(&self, network: NetworkId) -> LinkName {
        LinkName(format!("{}b{:.TAIL$}", self.0, tail(network.as_u128())))
    }

    /// The node's end of a task's link into a network.
    pub fn veth(&self, task: TaskId, network: NetworkId) -> LinkName {
        LinkName(format!("{}v{:.TAIL$}", self.0, tail(u128::from(link_hash(task, network)))))
    }

    /// The tunnel of a network.
    pub fn tunnel(&self, network: NetworkId) -> LinkName {
        LinkName(format!("{}x{:.TAIL$}", self.0, tail(network.as_u128())))
    }

    /// What the encrypted links of `berth-tunnel` are called.
    pub fn links(&self) -> LinkForm {
        LinkForm(format!("{}w", self.0))
    }

    /// Whether a tunnel's name has this instance's form.
    pub fn owns_tunnel(&self, name: &str) -> bool {
        self.owns(name, 'x')
    }

    /// Whether a bridge's name has this instance's form.
    pub fn owns_bridge(&self, name: &str) -> bool {
        self.owns(name, 'b')
    }

    /// Whether a task link's name has this instance's form.
    pub fn owns_veth(&self, name: &str) -> bool {
        self.owns(name, 'v')
    }

    fn owns(&self, name: &str, kind: char) -> bool {
        name.strip_prefix(self.0.as_str()).and_then(|rest| rest.strip_prefix(kind)).is_some_and(|rest| {
            rest.len() == TAIL && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
    }
}

/// The form of the names of an instance's encrypted links: `<instance>w` and six characters. Other devices of no instance have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkForm(String);

impl LinkForm {
    /// Characters of a name that are free.
    const FREE: usize = 6;

    /// Which bits of a device's name are compared (the kernel's 16 bytes, zeroes at the end), and with what.
    pub fn bytes(&self) -> ([u8; 16], [u8; 16]) {
        let (mut mask, mut name) = ([0xff; 16], [0; 16]);
        let len = self.0.len();
        name[..len].copy_from_slice(self.0.as_bytes());
        mask[len..len + Self::FREE].fill(0);
        (mask, name)
    }

    /// Whether a device's name has it.
    pub fn matches(&self, name: &str) -> bool {
        name.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.len() == Self::FREE)
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self("bth".to_owned())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a network device, at most 15 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkName(String);

impl LinkName {
    /// The name of a device that the kernel listed.
    pub fn listed(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name of a task's n-th link, seen from inside: `eth0`, `eth1`, …
    pub fn inside(index: usize) -> Self {
        Self(format!("eth{index}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hardware address of a task on a network, when none is asked for. It follows from the first IP address: a task that
/// takes over another one's address takes over its hardware address too, and no neighbour keeps a stale entry.
pub fn task_mac(task: TaskId, network: NetworkId, address: Option<IpAddr>) -> MacAddr {
    match address {
        Some(IpAddr::V4(a)) => MacAddr::derived(fnv1a(&[&network.as_u128().to_be_bytes()[..], &a.octets()].concat())),
        Some(IpAddr::V6(a)) => MacAddr::derived(fnv1a(&[&network.as_u128().to_be_bytes()[..], &a.octets()].concat())),
        None => MacAddr::derived(link_hash(task, network)),
    }
}

/// The hardware address of a network's bridge: fixed, or a bridge takes its lowest port's and changes as tasks come and go.
pub fn bridge_mac(network: NetworkId) -> MacAddr {
    MacAddr::derived(fnv1a(&network.as_u128().to_be_bytes()))
}

/// The hardware address of a network's tunnel: it sends no frames of its own.
pub fn tunnel_mac(network: NetworkId) -> MacAddr {
    MacAddr::derived(fnv1a(&[&network.as_u128().to_be_bytes()[..], b"tunnel"].concat()))
}

/// First bytes of a node's number as it is kept in packet marks: "BT".
pub const NODE_MARK: [u8; 2] = [0x42, 0x54];

/// The hardware address of a node's end of the ingress network. Its last four bytes are the mark of replies to that node.
pub fn ingress_mac(number: Ipv4Addr) -> MacAddr {
    let ([b, t], [_, _, high, low]) = (NODE_MARK, number.octets());
    MacAddr([0x02, 0x42, b, t, high, low])
}

fn link_hash(task: TaskId, network: NetworkId) -> u64 {
    let mut bytes = [0u8; 32];
    bytes[..16].copy_from_slice(&task.as_u128().to_be_bytes());
    bytes[16..].copy_from_slice(&network.as_u128().to_be_bytes());
    fnv1a(&bytes)
}

/// FNV-1a, 64 bits, with a final mix so that the high bits (used by [`MacAddr::derived`]) depend on every byte.
fn fnv1a(bytes: &[u8]) -> u64 {
    let mut hash =
        bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

/// The last `TAIL` base36 digits.
fn tail(mut value: u128) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; TAIL];
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
        let instance = Instance::new("bt01").unwrap();
        let (task, network) = (TaskId::from_random(u128::MAX / 7), NetworkId::from_random(u128::MAX / 3));
        let (bridge, veth) = (instance.bridge(network), instance.veth(task, network));
        assert_eq!((bridge.as_str().len(), veth.as_str().len()), (15, 15));
        assert!(instance.owns_bridge(bridge.as_str()) && !instance.owns_veth(bridge.as_str()));
        assert!(instance.owns_veth(veth.as_str()) && !Instance::default().owns_veth(veth.as_str()));
        assert!(network.to_string().ends_with(&bridge.as_str()[5..]), "a person can match bridge and network");
    }

    #[test]
    fn encrypted_links_are_told_from_all_else() {
        let form = |instance: &str| Instance::new(instance).unwrap().links();
        let masked = |form: &LinkForm, device: &str| {
            let ((mask, name), mut bytes) = (form.bytes(), [0; 16]);
            bytes[..device.len()].copy_from_slice(device.as_bytes());
            let matches = bytes.iter().zip(mask).map(|(byte, mask)| byte & mask).eq(name);
            assert_eq!(matches, form.matches(device), "{device}");
            matches
        };
        assert!(
            masked(&form("bth"), "bthw000001")
                && masked(&form("bt01"), "bt01wzzzzzz")
                && masked(&form("b"), "bw000001")
        );
        let bridge = Instance::new("bthw").unwrap().bridge(NetworkId::from_random(1));
        for other in ["eth0", "bthw0000001", "bthv000001", bridge.as_str(), "bthww000001"] {
            assert!(!masked(&form("bth"), other), "{other}");
        }
    }

    #[test]
    fn prefixes_are_checked() {
        assert!(Instance::new("").is_err() && Instance::new("1ab").is_err() && Instance::new("toolong").is_err());
    }
}
