//! Rules as expressions over the kernel's registers.
//!
//! Registers are numbered in 4-byte words, 8 being the first. A concatenated key lies in consecutive words.

use super::message::Attributes;
use super::sets::Set;

/// The first 4-byte register; the n-th is `R0 + n`.
pub const R0: u32 = 8;

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

    /// Only to this port.
    pub fn port(self, port: u16) -> Self {
        self.load_port(R0).compare(R0, true, &port.to_be_bytes())
    }

    /// Loads the destination address.
    pub fn load_destination(self, family: Family, register: u32) -> Self {
        let (offset, len) = family.destination();
        self.payload(1, offset, len, register)
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
        const ADDRESS_TYPE: u32 = 3;
        const BY_DESTINATION: u32 = 2;
        const LOCAL: u32 = 2;
        let fib = Attributes::default().be32(1, R0).be32(2, ADDRESS_TYPE).be32(3, BY_DESTINATION);
        self.push("fib", fib).compare(R0, true, &LOCAL.to_ne_bytes())
    }

    /// Only connections in one of these states (`NF_CT_STATE_BIT`: 2 established, 4 related, 8 new).
    pub fn state(self, bits: u32) -> Self {
        self.conntrack_bits(0, bits, true)
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
