//! The kernel's WireGuard: settings by generic netlink (`linux/wireguard.h`).
//!
//! The encoding is pure and tested as bytes; the socket is used by nothing else.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rtnetlink::sys::protocols::NETLINK_GENERIC;
use zeroize::Zeroizing;

use super::engine::Engine;
use super::links::Links;
use super::netlink::{Netlink, refused};
use crate::TunnelError;
use crate::key::PublicKey;
use crate::model::{ObservedPeer, Peer, TunnelState};
use crate::name::{DeviceName, Instance};
use crate::uapi::Change;

/// `GENL_ID_CTRL`: where families are asked for.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const VERSION: u8 = 1;
/// Bytes of the header that each message of a family begins with: command, version, two reserved.
const HEADER: usize = 4;
const NESTED: u16 = 0x8000;
/// What is left of an attribute's type without its flags.
const TYPE_MASK: u16 = 0x3fff;

/// `WGDEVICE_A_*`.
mod device {
    pub const NAME: u16 = 2;
    pub const PRIVATE_KEY: u16 = 3;
    pub const PUBLIC_KEY: u16 = 4;
    pub const PORT: u16 = 6;
    pub const PEERS: u16 = 8;
}

/// `WGPEER_A_*`.
mod peer {
    pub const PUBLIC_KEY: u16 = 1;
    pub const FLAGS: u16 = 3;
    pub const ENDPOINT: u16 = 4;
    pub const KEEPALIVE: u16 = 5;
    pub const LAST_HANDSHAKE: u16 = 6;
    pub const ALLOWED: u16 = 9;
    pub const REMOVE: u32 = 1;
    pub const REPLACE_ALLOWED: u32 = 2;
}

/// `WGALLOWEDIP_A_*`.
mod allowed {
    pub const FAMILY: u16 = 1;
    pub const ADDRESS: u16 = 2;
    pub const BITS: u16 = 3;
}

/// The family's socket.
#[derive(Debug)]
pub(super) struct WireGuard {
    netlink: Netlink,
    family: u16,
}

impl WireGuard {
    /// Fails where the kernel has no WireGuard. Asking loads the module where it is one.
    pub fn open() -> Result<Self, TunnelError> {
        let mut netlink = Netlink::open(NETLINK_GENERIC)?;
        let mut ask = Attributes::message(GET_FAMILY);
        ask.put(FAMILY_NAME, b"wireguard\0");
        let answers = netlink.request(CONTROL, 0, &ask.0).map_err(refused("find its WireGuard"))?;
        let id = answers.first().and_then(|answer| attribute(answer.body.get(HEADER..)?, FAMILY_ID));
        let id = id.and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
        let family = id.ok_or_else(|| refused("name its WireGuard")(std::io::ErrorKind::InvalidData.into()))?;
        Ok(Self { netlink, family })
    }
}

impl Engine for WireGuard {
    fn link_kind(&self) -> &'static str {
        "wireguard"
    }

    fn read(&mut self, name: &DeviceName) -> Result<Option<TunnelState>, TunnelError> {
        let mut ask = Attributes::message(GET_DEVICE);
        ask.put_name(name);
        let answers = self.netlink.dump(self.family, &ask.0).map_err(refused(format!("tell about tunnel {name}")))?;
        let mut state = TunnelState::default();
        answers.iter().filter_map(|answer| answer.body.get(HEADER..)).for_each(|part| read_part(part, &mut state));
        Ok(Some(state))
    }

    fn strays(&mut self, _: &Instance) -> Result<Vec<DeviceName>, TunnelError> {
        Ok(Vec::new())
    }

    fn make(&mut self, name: &DeviceName, links: &mut Links) -> Result<(), TunnelError> {
        links.make_wireguard(name)
    }

    fn change(&mut self, name: &DeviceName, change: &Change) -> Result<(), TunnelError> {
        let message = encode(name, change);
        let done = self.netlink.request(self.family, 0, &message);
        done.map(drop).map_err(refused(format!("change the settings of tunnel {name}")))
    }

    fn remove(&mut self, _: &DeviceName) -> Result<(), TunnelError> {
        Ok(())
    }
}

/// A request that changes a device, from the family's header on.
fn encode(name: &DeviceName, change: &Change) -> Zeroizing<Vec<u8>> {
    let mut message = Attributes::message(SET_DEVICE);
    message.put_name(name);
    if let Some((key, port)) = &change.identity {
        message.put(device::PRIVATE_KEY, key.bytes());
        message.put(device::PORT, &port.to_ne_bytes());
    }
    if !change.set.is_empty() || !change.remove.is_empty() {
        message.nest(device::PEERS, |peers| {
            for key in &change.remove {
                peers.nest(0, |peer| {
                    peer.put(peer::PUBLIC_KEY, &key.0);
                    peer.put(peer::FLAGS, &peer::REMOVE.to_ne_bytes());
                });
            }
            change.set.iter().for_each(|peer| peers.nest(0, |attributes| encode_peer(peer, attributes)));
        });
    }
    Zeroizing::new(message.0)
}

fn encode_peer(peer: &Peer, attributes: &mut Attributes) {
    attributes.put(peer::PUBLIC_KEY, &peer.key.0);
    attributes.put(peer::FLAGS, &peer::REPLACE_ALLOWED.to_ne_bytes());
    attributes.put(peer::ENDPOINT, &socket_address(peer.endpoint));
    attributes.put(peer::KEEPALIVE, &0u16.to_ne_bytes());
    attributes.nest(peer::ALLOWED, |ranges| {
        ranges.nest(0, |range| {
            range.put(allowed::FAMILY, &(libc::AF_INET6 as u16).to_ne_bytes());
            range.put(allowed::ADDRESS, &peer.inner.octets());
            range.put(allowed::BITS, &[128]);
        });
    });
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            bytes.extend_from_slice(&v4.port().to_be_bytes());
            bytes.extend_from_slice(&v4.ip().octets());
            bytes.extend_from_slice(&[0; 8]);
        }
        SocketAddr::V6(v6) => {
            bytes.extend_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend_from_slice(&v6.port().to_be_bytes());
            bytes.extend_from_slice(&v6.flowinfo().to_be_bytes());
            bytes.extend_from_slice(&v6.ip().octets());
            bytes.extend_from_slice(&v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn read_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some((Ipv6Addr::from(address), port).into())
        }
        _ => None,
    }
}

/// One message of a listing. A device with many peers comes in several, and a peer with many ranges in parts.
fn read_part(body: &[u8], state: &mut TunnelState) {
    for (kind, value) in attributes(body) {
        match kind {
            // All zeros is no key.
            device::PUBLIC_KEY => {
                state.key = <[u8; 32]>::try_from(value).ok().filter(|key| *key != [0; 32]).map(PublicKey);
            }
            device::PORT => {
                state.port = <[u8; 2]>::try_from(value).map_or(0, u16::from_ne_bytes);
            }
            device::PEERS => attributes(value).for_each(|(_, peer)| read_peer(peer, state)),
            _ => {}
        }
    }
    // A device that was just made has a port of the kernel's choice once it is up, and no key.
    if state.key.is_none() {
        state.port = 0;
    }
}

fn read_peer(body: &[u8], state: &mut TunnelState) {
    let Some(key) = attribute(body, peer::PUBLIC_KEY).and_then(|key| <[u8; 32]>::try_from(key).ok()) else { return };
    let found: &mut ObservedPeer = state.peers.entry(PublicKey(key)).or_default();
    for (kind, value) in attributes(body) {
        match kind {
            peer::ENDPOINT => found.endpoint = read_socket_address(value),
            peer::LAST_HANDSHAKE => found.met = value.iter().any(|byte| *byte != 0),
            peer::ALLOWED => found.allowed.extend(read_ranges(value)),
            _ => {}
        }
    }
}

/// A range that is no single IPv6 address is none of ours: it reads as one that nobody has, so that it is replaced.
fn read_ranges(body: &[u8]) -> BTreeSet<Ipv6Addr> {
    let read = |range: &[u8]| {
        let single = attribute(range, allowed::BITS) == Some(&[128]);
        let address = attribute(range, allowed::ADDRESS).and_then(|address| <[u8; 16]>::try_from(address).ok());
        address.filter(|_| single).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
    };
    attributes(body).map(|(_, range)| read(range)).collect()
}

/// Netlink attributes being written.
struct Attributes(Vec<u8>);

impl Attributes {
    fn message(command: u8) -> Self {
        // Large enough for most at once: what grows leaves copies of the key behind.
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(&[command, VERSION, 0, 0]);
        Self(bytes)
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        self.0.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn put_name(&mut self, name: &DeviceName) {
        let text = [name.as_str().as_bytes(), &[0]].concat();
        self.put(device::NAME, &text);
    }

    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
    }
}

fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SecretKey;

    fn name() -> DeviceName {
        DeviceName::parse("bthw000001").unwrap()
    }

    fn peer(n: u8, endpoint: &str) -> Peer {
        Peer { key: PublicKey([n; 32]), endpoint: endpoint.parse().unwrap(), inner: Ipv6Addr::from([n; 16]) }
    }

    #[test]
    fn a_key_and_a_port_as_bytes() {
        let key = SecretKey::from_bytes([0x40; 32]);
        let bytes = encode(&name(), &Change { identity: Some((key, 0x1234)), ..Change::default() });
        let mut expected = vec![1, 1, 0, 0, 15, 0, 2, 0];
        expected.extend_from_slice(b"bthw000001\0\0");
        expected.extend_from_slice(&[36, 0, 3, 0]);
        expected.extend_from_slice(&[0x40; 32]);
        expected.extend_from_slice(&[6, 0, 6, 0, 0x34, 0x12, 0, 0]);
        assert_eq!(*bytes, expected);
    }

    #[test]
    fn peers_as_bytes() {
        let change =
            Change { set: vec![peer(5, "192.0.2.1:51820")], remove: vec![PublicKey([9; 32])], ..Change::default() };
        let bytes = encode(&name(), &change);
        let mut expected = vec![1, 1, 0, 0, 15, 0, 2, 0];
        expected.extend_from_slice(b"bthw000001\0\0");
        expected.extend_from_slice(&[4 + 48 + 120, 0, 8, 0x80]);
        expected.extend_from_slice(&[48, 0, 0, 0x80, 36, 0, 1, 0]);
        expected.extend_from_slice(&[9; 32]);
        expected.extend_from_slice(&[8, 0, 3, 0, 1, 0, 0, 0]);
        expected.extend_from_slice(&[120, 0, 0, 0x80, 36, 0, 1, 0]);
        expected.extend_from_slice(&[5; 32]);
        expected.extend_from_slice(&[8, 0, 3, 0, 2, 0, 0, 0]);
        expected.extend_from_slice(&[20, 0, 4, 0, 2, 0, 0xca, 0x6c, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[6, 0, 5, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[44, 0, 9, 0x80, 40, 0, 0, 0x80]);
        expected.extend_from_slice(&[6, 0, 1, 0, 10, 0, 0, 0, 20, 0, 2, 0]);
        expected.extend_from_slice(&[5; 16]);
        expected.extend_from_slice(&[5, 0, 3, 0, 128, 0, 0, 0]);
        assert_eq!(*bytes, expected);
    }

    #[test]
    fn endpoints_as_the_kernel_has_them() {
        for text in ["192.0.2.1:51820", "[2001:db8::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            let bytes = socket_address(address);
            assert_eq!(bytes.len(), if address.is_ipv4() { 16 } else { 28 });
            assert_eq!(read_socket_address(&bytes), Some(address));
        }
        assert_eq!(read_socket_address(&[1, 0]), None);
    }

    #[test]
    fn what_is_written_is_read_even_in_parts() {
        let (key, peers) = (SecretKey::from_bytes([3; 32]), [peer(1, "192.0.2.1:1"), peer(2, "[2001:db8::1]:2")]);
        let mut state = TunnelState::default();
        for (n, peer) in peers.iter().enumerate() {
            let mut part = encode(&name(), &Change { set: vec![peer.clone()], ..Change::default() }).to_vec();
            if n == 0 {
                let mut head = Attributes(Vec::new());
                head.put(device::PUBLIC_KEY, &key.public().0);
                head.put(device::PORT, &51821u16.to_ne_bytes());
                part.extend(head.0);
            }
            read_part(&part[HEADER..], &mut state);
        }
        assert_eq!((state.key, state.port), (Some(key.public()), 51821));
        for peer in &peers {
            let found = &state.peers[&peer.key];
            assert_eq!((found.endpoint, &found.allowed), (Some(peer.endpoint), &BTreeSet::from([peer.inner])));
        }
        let mut fresh = TunnelState::default();
        let mut none = Attributes(Vec::new());
        none.put(device::PUBLIC_KEY, &[0; 32]);
        none.put(device::PORT, &777u16.to_ne_bytes());
        read_part(&none.0, &mut fresh);
        assert_eq!(fresh, TunnelState::default(), "a device without a key is a new one");
    }

    /// The largest message of a plan: the length of an attribute has 16 bits.
    #[test]
    fn as_many_peers_as_a_plan_has_fit() {
        let set = (0..crate::plan::MAX_PEERS).map(|n| peer(n as u8, "[2001:db8::1]:2")).collect();
        let bytes = encode(&name(), &Change { set, ..Change::default() });
        assert!(bytes.len() < 60_000, "{}", bytes.len());
    }
}
