//! The sets and maps of both tables, and the byte form of their keys.
//!
//! The node's table translates published ports and isolates networks; a sandbox's table translates virtual addresses. Rules
//! are constant; services, backends and ports are elements only, so cost per packet does not grow with them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::octets::Octets;

/// Where a table lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// The node's namespace.
    Node,
    /// A task's namespace.
    Sandbox,
}

/// One part of a key or of a map's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Device name, 16 bytes.
    IfName,
    /// IPv4 address.
    V4,
    /// IPv6 address.
    V6,
    /// Transport protocol number, 1 byte.
    Proto,
    /// Port, 2 bytes, network order.
    Port,
    /// VXLAN network identifier as it is in the packet: 3 bytes and a reserved one that is zero.
    Vni,
    /// Slot number, 4 bytes, host order as the kernel's number generator gives it.
    Slot,
}

impl Field {
    /// Bytes on its own.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::IfName | Self::V6 => 16,
            Self::V4 | Self::Slot | Self::Vni => 4,
            Self::Proto => 1,
            Self::Port => 2,
        }
    }

    /// The number by which the `nft` program knows the type, so that it can print our tables.
    pub const fn nft_type(self) -> u32 {
        match self {
            Self::IfName => 41,
            Self::V4 => 7,
            Self::V6 => 8,
            Self::Proto => 12,
            Self::Port => 13,
            Self::Slot | Self::Vni => 19,
        }
    }
}

/// What a set maps its keys to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapsTo {
    /// Nothing: a plain set.
    Nothing,
    /// A jump to a class chain.
    Chain,
    /// Data.
    Data(&'static [Field]),
}

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $scope:ident, [$($key:ident),*], $to:expr;)*) => {
        /// A set or map of one of the tables.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Set { $($(#[$doc])* $name,)* }

        impl Set {
            /// All of them.
            pub const ALL: &'static [Set] = &[$(Set::$name),*];

            /// The name in the kernel.
            pub const fn name(self) -> &'static str { match self { $(Set::$name => $text,)* } }

            /// The table it belongs to.
            pub const fn scope(self) -> Scope { match self { $(Set::$name => Scope::$scope,)* } }

            /// The parts of its key.
            pub const fn key(self) -> &'static [Field] { match self { $(Set::$name => &[$(Field::$key),*],)* } }

            /// What its keys map to.
            pub const fn maps_to(self) -> MapsTo { use MapsTo::*; match self { $(Set::$name => $to,)* } }
        }
    };
}

sets! {
    /// Every device of ours that leads to tasks: bridges, and the node's end of the ingress network.
    Bridges = "bridges", Node, [IfName], Nothing;
    /// The node's end of the ingress network.
    Ingress = "ingress", Node, [IfName], Nothing;
    /// IPv4 addresses of this cluster's nodes.
    Peers4 = "peers4", Node, [V4], Nothing;
    /// IPv6 addresses of this cluster's nodes.
    Peers6 = "peers6", Node, [V6], Nothing;
    /// Tasks on nodes of the same link, IPv4: their address, and their network's bridge on this node.
    Direct4 = "direct4", Node, [V4, IfName], Nothing;
    /// The same, IPv6.
    Direct6 = "direct6", Node, [V6, IfName], Nothing;
    /// Tunnels of ours that go as they are.
    Vnis = "vnis", Node, [Vni], Nothing;
    /// Tunnels of ours that are inside encrypted links only.
    SecureVnis = "secure_vnis", Node, [Vni], Nothing;
    /// UDP ports of this node's encrypted links.
    SecurePorts = "secure_ports", Node, [Port], Nothing;
    /// Bridges of internal networks.
    Internal = "internal", Node, [IfName], Nothing;
    /// Bridges whose traffic to the outside takes the node's address.
    Masquerade = "masquerade", Node, [IfName], Nothing;
    /// Pairs of a bridge with itself: traffic that stays inside one network.
    Within = "within", Node, [IfName, IfName], Nothing;
    /// Published ports on any local IPv4 address.
    Ports4 = "ports4", Node, [Proto, Port], Chain;
    /// Published ports on any local IPv6 address.
    Ports6 = "ports6", Node, [Proto, Port], Chain;
    /// Ports published on one IPv4 address.
    Bound4 = "bound4", Node, [V4, Proto, Port], Chain;
    /// Ports published on one IPv6 address.
    Bound6 = "bound6", Node, [V6, Proto, Port], Chain;
    /// Published ports of clients that another node has sent here, IPv4.
    Arrived4 = "arrived4", Node, [Proto, Port], Chain;
    /// The same, IPv6.
    Arrived6 = "arrived6", Node, [Proto, Port], Chain;
    /// Backends of [`Set::Arrived4`], all on this node.
    ArrivedSlots4 = "arrived_slots4", Node, [Proto, Port, Slot], Data(&[Field::V4, Field::Port]);
    /// Backends of [`Set::Arrived6`], all on this node.
    ArrivedSlots6 = "arrived_slots6", Node, [Proto, Port, Slot], Data(&[Field::V6, Field::Port]);
    /// Backends of [`Set::Ports4`].
    PortSlots4 = "port_slots4", Node, [Proto, Port, Slot], Data(&[Field::V4, Field::Port]);
    /// Backends of [`Set::Ports6`].
    PortSlots6 = "port_slots6", Node, [Proto, Port, Slot], Data(&[Field::V6, Field::Port]);
    /// Backends of [`Set::Bound4`].
    BoundSlots4 = "bound_slots4", Node, [V4, Proto, Port, Slot], Data(&[Field::V4, Field::Port]);
    /// Backends of [`Set::Bound6`].
    BoundSlots6 = "bound_slots6", Node, [V6, Proto, Port, Slot], Data(&[Field::V6, Field::Port]);
    /// Published ports on any address: what is not translated is refused.
    Refuse = "refuse", Node, [Proto, Port], Nothing;
    /// The same for ports on one IPv4 address.
    RefuseBound4 = "refuse_bound4", Node, [V4, Proto, Port], Nothing;
    /// The same for ports on one IPv6 address.
    RefuseBound6 = "refuse_bound6", Node, [V6, Proto, Port], Nothing;
    /// Virtual IPv4 addresses with at least one ready backend.
    Vips4 = "vips4", Sandbox, [V4], Chain;
    /// Virtual IPv6 addresses with at least one ready backend.
    Vips6 = "vips6", Sandbox, [V6], Chain;
    /// Backends of [`Set::Vips4`].
    VipSlots4 = "vip_slots4", Sandbox, [V4, Slot], Data(&[Field::V4]);
    /// Backends of [`Set::Vips6`].
    VipSlots6 = "vip_slots6", Sandbox, [V6, Slot], Data(&[Field::V6]);
    /// Virtual IPv4 addresses without a ready backend.
    VipRefuse4 = "vip_refuse4", Sandbox, [V4], Nothing;
    /// Virtual IPv6 addresses without a ready backend.
    VipRefuse6 = "vip_refuse6", Sandbox, [V6], Nothing;
    /// Where the name server of the sandbox really listens, per transport.
    Dns = "dns", Sandbox, [Proto], Data(&[Field::V4, Field::Port]);
}

/// Bytes of a key or value with these parts. Parts of a concatenation are padded to 4 bytes (nf_tables registers).
pub fn width(fields: &[Field]) -> u32 {
    match fields {
        [one] => one.bytes(),
        many => many.iter().map(|f| f.bytes().next_multiple_of(4)).sum(),
    }
}

/// The type number `nft` gives a (concatenated) type: six bits per part.
pub fn type_number(fields: &[Field]) -> u32 {
    fields.iter().fold(0, |number, field| (number << 6) | field.nft_type())
}

/// Builds the bytes of a key or value part by part, in the order the set declares them.
#[derive(Debug, Default)]
pub struct Bytes {
    octets: Octets,
    parts: usize,
}

impl Bytes {
    fn part(mut self, bytes: &[u8]) -> Self {
        if self.parts > 0 {
            self.octets.pad();
        }
        let fits = self.octets.push(bytes);
        debug_assert!(fits, "no set has a key as long as this");
        self.parts += 1;
        self
    }

    /// A device name.
    pub fn ifname(self, name: &str) -> Self {
        let mut bytes = [0u8; 16];
        let len = name.len().min(15);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        self.part(&bytes)
    }

    /// An address, of the family that the set declares.
    pub fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(a) => self.part(&a.octets()),
            IpAddr::V6(a) => self.part(&a.octets()),
        }
    }

    /// A transport protocol number.
    pub fn proto(self, number: u8) -> Self {
        self.part(&[number])
    }

    /// A port.
    pub fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    /// A VXLAN network identifier.
    pub fn vni(self, vni: u32) -> Self {
        self.part(&(vni << 8).to_be_bytes())
    }

    /// A slot.
    pub fn slot(self, slot: u32) -> Self {
        self.part(&slot.to_ne_bytes())
    }

    /// The bytes. One part stands alone, several are padded to 4 each.
    pub fn done(mut self) -> Octets {
        if self.parts > 1 {
            self.octets.pad();
        }
        self.octets
    }
}

/// Prints a key or value for a person: `10.0.0.2 . tcp . 80`.
pub fn render(fields: &[Field], bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut parts = Vec::new();
    for field in fields {
        let len = field.bytes() as usize;
        let Some((value, _)) = rest.split_at_checked(len) else { break };
        parts.push(match field {
            Field::IfName => String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            Field::V4 => <[u8; 4]>::try_from(value).map(|o| Ipv4Addr::from(o).to_string()).unwrap_or_default(),
            Field::V6 => <[u8; 16]>::try_from(value).map(|o| Ipv6Addr::from(o).to_string()).unwrap_or_default(),
            Field::Proto => match value[0] {
                6 => "tcp".to_owned(),
                17 => "udp".to_owned(),
                other => other.to_string(),
            },
            Field::Port => u16::from_be_bytes([value[0], value[1]]).to_string(),
            Field::Vni => (u32::from_be_bytes([value[0], value[1], value[2], value[3]]) >> 8).to_string(),
            Field::Slot => u32::from_ne_bytes([value[0], value[1], value[2], value[3]]).to_string(),
        });
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    parts.join(" . ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::octets::MAX_OCTETS;

    #[test]
    fn keys_have_the_declared_width() {
        let key = Bytes::default().address(Ipv4Addr::new(10, 0, 0, 2).into()).proto(6).port(80).slot(3).done();
        assert_eq!(key.len() as u32, width(Set::BoundSlots4.key()));
        assert_eq!(render(Set::BoundSlots4.key(), &key), "10.0.0.2 . tcp . 80 . 3");
        assert_eq!(Bytes::default().proto(17).done().len() as u32, width(Set::Dns.key()));
        assert_eq!(Bytes::default().ifname("bthb0123456789").done().len() as u32, width(Set::Bridges.key()));
    }

    #[test]
    fn every_key_and_value_has_room() {
        for set in Set::ALL {
            assert!(width(set.key()) as usize <= MAX_OCTETS, "{}", set.name());
            if let MapsTo::Data(fields) = set.maps_to() {
                assert!(width(fields) as usize <= MAX_OCTETS, "{}", set.name());
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Set::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(names.len(), Set::ALL.len());
    }
}
