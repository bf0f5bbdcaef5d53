//! Rules as expressions over the kernel's registers.
//!
//! Registers are numbered in 4-byte words, 8 being the first. A concatenated key lies in consecutive words.

use super::message::Attributes;
use super::sets::Set;
use crate::names::{LinkForm, NODE_MARK};

/// The first 4-byte register; the n-th is `R0 + n`.
pub const R0: u32 = 8;

const LINK_LAYER: u32 = 0;
/// Where a frame has its sender.
const SENDER: u32 = 6;
const CT_MARK: u32 = 3;
const META_MARK: u32 = 3;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    /// Offset of the destination address in the header, and its length.
    const fn destination(self) -> (u32, u32) {
        match self {
            Self::V4 => (16, 4),
            Self::V6 => (24, 16),
        }
    }

    const fn source_offset(self) -> u32 {
        match self {
            Self::V4 => 12,
            Self::V6 => 8,
        }
    }

    /// Registers that one address takes.
    pub const fn words(self) -> u32 {
        self.destination().1 / 4
    }
}

/// How a rule ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Drop the packet.
    Drop,
    /// Let it pass this hook's chain.
    Accept,
    /// Go on in another chain, then come back.
    Jump(String),
}

impl Verdict {
    /// As the data of an element or of an immediate.
    pub fn attributes(&self) -> Attributes {
        let code: i32 = match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
        };
        let mut verdict = Attributes::default().be32(1, code as u32);
        if let Self::Jump(chain) = self {
            verdict = verdict.text(2, chain);
        }
        Attributes::default().nest(2, verdict)
    }
}

/// A device name of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// It came in by.
    In,
    /// It goes out by.
    Out,
}

/// A rule under construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The chain it is in.
    pub chain: String,
    /// What it is for; shown by `nft list`, and how the rule is recognised.
    pub comment: &'static str,
    /// Its expressions, encoded.
    pub expressions: Attributes,
}

impl Rule {
    /// An empty rule.
    pub fn new(chain: &str, comment: &'static str) -> Self {
        Self { chain: chain.to_owned(), comment, expressions: Attributes::default() }
    }

    fn push(mut self, name: &str, data: Attributes) -> Self {
        self.expressions = self.expressions.nest(1, Attributes::default().text(1, name).nest(2, data));
        self
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.push("meta", Attributes::default().be32(1, register).be32(2, key))
    }

    fn payload(self, base: u32, offset: u32, len: u32, register: u32) -> Self {
        self.push("payload", Attributes::default().be32(1, register).be32(2, base).be32(3, offset).be32(4, len))
    }

    fn compare(self, register: u32, equal: bool, value: &[u8]) -> Self {
        let data = Attributes::default().bytes(1, value);
        self.push("cmp", Attributes::default().be32(1, register).be32(2, u32::from(!equal)).nest(3, data))
    }

    fn mask(self, register: u32, mask: &[u8]) -> Self {
        let data = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
        let zero = vec![0; mask.len()];
        let ends = Attributes::default().be32(1, register).be32(2, register).be32(3, mask.len() as u32);
        self.push("bitwise", ends.nest(4, data(mask)).nest(5, data(&zero)))
    }

    /// Only this family.
    pub fn family(self, family: Family) -> Self {
        self.meta(15, R0).compare(R0, true, &[family.number()])
    }

    /// Only this transport.
    pub fn transport(self, number: u8) -> Self {
        self.meta(16, R0).compare(R0, true, &[number])
    }

    /// Loads the transport protocol's number.
    pub fn load_transport(self, register: u32) -> Self {
        self.meta(16, register)
    }

    /// Loads the destination port.
    pub fn load_port(self, register: u32) -> Self {
        self.payload(2, 2, 2, register)
    }

    /// Loads the source port.
    pub fn load_source_port(self, register: u32) -> Self {
        self.payload(2, 0, 2, register)
    }

    /// Only to this port.
    pub fn port(self, port: u16) -> Self {
        self.load_port(R0).compare(R0, true, &port.to_be_bytes())
    }

    /// Loads the destination address.
    pub fn load_destination(self, family: Family, register: u32) -> Self {
        let (offset, len) = family.destination();
        self.payload(1, offset, len, register)
    }

    /// Loads the source address.
    pub fn load_source(self, family: Family, register: u32) -> Self {
        self.payload(1, family.source_offset(), family.destination().1, register)
    }

    /// Loads the identifier of a VXLAN packet (RFC 7348 section 5) and the reserved byte after it.
    pub fn load_vni(self, register: u32) -> Self {
        const TRANSPORT: u32 = 2;
        self.payload(TRANSPORT, 8 + 4, 4, register)
    }

    /// Only to this IPv4 address.
    pub fn destination_v4(self, address: [u8; 4]) -> Self {
        self.family(Family::V4).load_destination(Family::V4, R0).compare(R0, true, &address)
    }

    /// Only (or only not) to an IPv4 loopback address.
    pub fn destination_loopback_v4(self) -> Self {
        let rule = self.family(Family::V4).load_destination(Family::V4, R0);
        rule.mask(R0, &[255, 0, 0, 0]).compare(R0, true, &[127, 0, 0, 0])
    }

    /// Only from an IPv4 loopback address.
    pub fn source_loopback_v4(self) -> Self {
        let rule = self.family(Family::V4).payload(1, Family::V4.source_offset(), 4, R0);
        rule.mask(R0, &[255, 0, 0, 0]).compare(R0, true, &[127, 0, 0, 0])
    }

    /// Not to `::1`.
    pub fn destination_not_loopback_v6(self) -> Self {
        let mut loopback = [0; 16];
        loopback[15] = 1;
        self.family(Family::V6).load_destination(Family::V6, R0).compare(R0, false, &loopback)
    }

    /// Only to an address of this host.
    pub fn destination_is_local(self) -> Self {
        const BY_DESTINATION: u32 = 2;
        self.local(BY_DESTINATION)
    }

    /// Only from an address of this host.
    pub fn source_is_local(self) -> Self {
        const BY_SOURCE: u32 = 1;
        self.local(BY_SOURCE)
    }

    fn local(self, by: u32) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        let fib = Attributes::default().be32(1, R0).be32(2, ADDRESS_TYPE).be32(3, by);
        self.push("fib", fib).compare(R0, true, &LOCAL.to_ne_bytes())
    }

    /// Only connections in one of these states (`NF_CT_STATE_BIT`: 2 established, 4 related, 8 new).
    pub fn state(self, bits: u32) -> Self {
        self.conntrack_bits(0, bits, true)
    }

    /// Past connection tracking.
    pub fn untracked(self) -> Self {
        self.push("notrack", Attributes::default())
    }

    /// Only frames that a node's end of the ingress network sent: see [`crate::names::ingress_mac`].
    pub fn from_node(self) -> Self {
        self.payload(LINK_LAYER, SENDER + 2, 2, R0).compare(R0, true, &NODE_MARK)
    }

    /// Keeps that node's number with the tracked connection.
    pub fn remember_node(self) -> Self {
        let rule = self.payload(LINK_LAYER, SENDER + 2, 4, R0);
        rule.push("ct", Attributes::default().be32(2, CT_MARK).be32(4, R0))
    }

    /// Tells connections of one client by several nodes apart: a client may use one port to call many. In the direction of the
    /// answers they are not, so that a port that is used twice is changed.
    pub fn zone_of_node(self) -> Self {
        const ZONE: u32 = 17;
        const ORIGINAL: u8 = 0;
        let rule = self.payload(LINK_LAYER, SENDER + 4, 2, R0);
        rule.push("ct", Attributes::default().be32(2, ZONE).bytes(3, &[ORIGINAL]).be32(4, R0))
    }

    /// Only the direction of the answers.
    pub fn reply_direction(self) -> Self {
        const DIRECTION: u32 = 1;
        const REPLY: u8 = 1;
        self.push("ct", Attributes::default().be32(1, R0).be32(2, DIRECTION)).compare(R0, true, &[REPLY])
    }

    /// Only connections that have a node's number with them.
    pub fn connection_of_node(self) -> Self {
        let rule = self.push("ct", Attributes::default().be32(1, R0).be32(2, CT_MARK));
        rule.mask(R0, &[255, 255, 0, 0]).compare(R0, true, &[NODE_MARK[0], NODE_MARK[1], 0, 0])
    }

    /// Marks the packet with what its connection is marked with.
    pub fn mark_as_connection(self) -> Self {
        let rule = self.push("ct", Attributes::default().be32(1, R0).be32(2, CT_MARK));
        rule.push("meta", Attributes::default().be32(2, META_MARK).be32(3, R0))
    }

    /// Only packets that are marked with a node's number; it becomes the end of the frame's destination.
    pub fn stamp(self) -> Self {
        const DESTINATION: u32 = 0;
        let rule = self.meta(META_MARK, R0).mask(R0, &[255, 255, 0, 0]);
        let rule = rule.compare(R0, true, &[NODE_MARK[0], NODE_MARK[1], 0, 0]).meta(META_MARK, R0);
        let write = Attributes::default().be32(5, R0).be32(2, LINK_LAYER).be32(3, DESTINATION + 2).be32(4, 4);
        rule.push("payload", write)
    }

    /// Takes the packet's mark away, so that the tunnel's own packet is routed like any other.
    pub fn unmark(self) -> Self {
        let none = Attributes::default().be32(1, R0).nest(2, Attributes::default().bytes(1, &[0; 4]));
        self.push("immediate", none).push("meta", Attributes::default().be32(2, META_MARK).be32(3, R0))
    }

    /// Only the packets that begin a TCP connection, of either side.
    pub fn begins_tcp(self) -> Self {
        const TCP: u8 = 6;
        const FLAGS_AT: u32 = 13;
        const SYN: u8 = 2;
        const RESET: u8 = 4;
        self.transport(TCP).payload(2, FLAGS_AT, 1, R0).mask(R0, &[SYN | RESET]).compare(R0, true, &[SYN])
    }

    /// After [`Self::begins_tcp`]: no larger segments than the route takes (RFC 879, `TCPMSS` of iptables).
    pub fn clamp_segments(self) -> Self {
        const MAXSEG: u8 = 2;
        const TCP_OPTION: u32 = 1;
        const ROUTE_MSS: u32 = 3;
        let rule = self.push("rt", Attributes::default().be32(1, R0).be32(2, ROUTE_MSS));
        let swap = Attributes::default().be32(1, R0).be32(2, R0).be32(3, 1).be32(4, 2).be32(5, 2);
        let write = Attributes::default().bytes(2, &[MAXSEG]).be32(3, 2).be32(4, 2).be32(6, TCP_OPTION).be32(7, R0);
        rule.push("byteorder", swap).push("exthdr", write)
    }

    /// Only connections whose destination was (or was not) translated.
    pub fn translated(self, yes: bool) -> Self {
        const DST_NAT: u32 = 1 << 5;
        self.conntrack_bits(2, DST_NAT, yes)
    }

    fn conntrack_bits(self, key: u32, bits: u32, set: bool) -> Self {
        let load = Attributes::default().be32(1, R0).be32(2, key);
        self.push("ct", load).mask(R0, &bits.to_ne_bytes()).compare(R0, !set, &0u32.to_ne_bytes())
    }

    /// Loads a device name, 4 words.
    pub fn load_device(self, device: Device, register: u32) -> Self {
        let key = match device {
            Device::In => 6,
            Device::Out => 7,
        };
        self.meta(key, register)
    }

    /// Only if the device is (or is not) in the set.
    pub fn device_in(self, device: Device, set: Set, yes: bool) -> Self {
        self.load_device(device, R0).lookup(set, R0, yes)
    }

    /// Only if it came in by something else than an encrypted link, a device whose name has that form.
    pub fn not_by_link(self, form: &LinkForm) -> Self {
        let (mask, name) = form.bytes();
        self.load_device(Device::In, R0).mask(R0, &mask).compare(R0, false, &name)
    }

    /// Only if the key at a register is (or is not) in the set.
    pub fn lookup(self, set: Set, register: u32, yes: bool) -> Self {
        let lookup = Attributes::default().text(1, set.name()).be32(2, register).be32(5, u32::from(!yes));
        self.push("lookup", lookup)
    }

    /// Replaces the key at a register by what the map has for it; ends the rule if it has nothing.
    pub fn map(self, set: Set, register: u32) -> Self {
        self.push("lookup", Attributes::default().text(1, set.name()).be32(2, register).be32(3, register))
    }

    /// Goes on where the verdict map says for the key at a register.
    pub fn branch(self, set: Set, register: u32) -> Self {
        self.push("lookup", Attributes::default().text(1, set.name()).be32(2, register).be32(3, 0))
    }

    /// Loads a random number below `modulus`.
    pub fn random(self, modulus: u32, register: u32) -> Self {
        const RANDOM: u32 = 1;
        let numgen = Attributes::default().be32(1, register).be32(2, modulus).be32(3, RANDOM).be32(4, 0);
        self.push("numgen", numgen)
    }

    /// Translates the destination to the address at a register, and the port at another one.
    pub fn redirect(self, family: Family, address: u32, port: Option<u32>) -> Self {
        const DNAT: u32 = 1;
        let mut nat = Attributes::default().be32(1, DNAT).be32(2, u32::from(family.number())).be32(3, address);
        if let Some(port) = port {
            nat = nat.be32(5, port);
        }
        self.push("nat", nat)
    }

    /// Takes the outgoing device's address as source.
    pub fn masquerade(self) -> Self {
        self.push("masq", Attributes::default())
    }

    /// Refuses a TCP connection.
    pub fn reset(self) -> Self {
        self.push("reject", Attributes::default().be32(1, 1).bytes(2, &[0]))
    }

    /// Answers "port unreachable", whatever the family.
    pub fn unreachable(self) -> Self {
        self.push("reject", Attributes::default().be32(1, 2).bytes(2, &[1]))
    }

    /// Ends the rule.
    pub fn verdict(self, verdict: &Verdict) -> Self {
        self.push("immediate", Attributes::default().be32(1, 0).nest(2, verdict.attributes()))
    }
}
