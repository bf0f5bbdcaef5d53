//! nf_tables messages as bytes.
//!
//! Owns the encoding of `linux/netfilter/nf_tables.h`: tables, chains, rules, sets, elements, and the transaction around
//! them. There is no kept library that writes verdict maps, concatenations and number generators through netlink; the `nft`
//! program costs a process per change (16 ms against 0.02 ms).

use super::expr::{Rule, Verdict};
use super::sets::{MapsTo, Set, type_number, width};
use super::table::{Elements, Value};

/// A netlink message without its header: type, flags beyond `NLM_F_REQUEST`, payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags` beyond `NLM_F_REQUEST`.
    pub flags: u16,
    /// Everything after the header.
    pub body: Vec<u8>,
}

/// Make it if it does not exist.
pub const CREATE: u16 = 0x400;
/// Put it at the end of the list.
pub const APPEND: u16 = 0x800;
/// All of them.
pub const DUMP: u16 = 0x300;

const SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
/// Elements in one message; an attribute is at most 64 KiB long.
const CHUNK: usize = 500;
/// Bytes that most elements take at most, for room made at once.
const ELEMENT: usize = 56;

/// Message numbers of the subsystem.
#[allow(missing_docs, reason = "named as in the kernel's header")]
pub mod kind {
    pub const NEW_TABLE: u16 = 0;
    pub const GET_TABLE: u16 = 1;
    pub const DEL_TABLE: u16 = 2;
    pub const NEW_CHAIN: u16 = 3;
    pub const GET_CHAIN: u16 = 4;
    pub const NEW_RULE: u16 = 6;
    pub const GET_RULE: u16 = 7;
    pub const NEW_SET: u16 = 9;
    pub const NEW_ELEMENTS: u16 = 12;
    pub const GET_ELEMENTS: u16 = 13;
    pub const DEL_ELEMENTS: u16 = 14;
}

/// Netlink attributes, nested as deep as needed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Attributes(pub Vec<u8>);

impl Attributes {
    /// An attribute with raw bytes.
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.push(kind, value);
        self
    }

    /// A number in network order.
    pub fn be32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Text with its final zero.
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Attributes within an attribute.
    pub fn nest(self, kind: u16, inner: Attributes) -> Self {
        self.bytes(kind | 0x8000, &inner.0)
    }

    /// The same, written in place.
    fn within(&mut self, kind: u16, write: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&(kind | 0x8000).to_ne_bytes());
    }

    fn push(&mut self, kind: u16, value: &[u8]) {
        let len = (value.len() + 4) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Walks attributes: kind without flags, value.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let head = rest.get(..4)?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The attribute of a kind.
pub fn attribute(payload: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(payload).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// A message of the subsystem in the inet family.
pub fn message(kind: u16, flags: u16, attributes: Attributes) -> Message {
    let mut body = vec![FAMILY_INET, 0, 0, 0];
    body.extend_from_slice(&attributes.0);
    Message { kind: (SUBSYSTEM << 8) | kind, flags, body }
}

/// Puts messages into one transaction: all of them happen, or none.
pub fn transaction(messages: Vec<Message>) -> Vec<Message> {
    let edge = |kind: u16| {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        Message { kind, flags: 0, body: vec![0, 0, high, low] }
    };
    std::iter::once(edge(0x10)).chain(messages).chain(std::iter::once(edge(0x11))).collect()
}

/// A table with a comment that `nft` shows.
pub fn new_table(table: &str, comment: &str) -> Message {
    message(kind::NEW_TABLE, CREATE, Attributes::default().text(1, table).bytes(6, &comment_data(comment)))
}

/// Deletes a table with everything in it.
pub fn delete_table(table: &str) -> Message {
    message(kind::DEL_TABLE, 0, Attributes::default().text(1, table))
}

/// A chain, with its hook if it has one.
pub fn new_chain(table: &str, name: &str, hook: Option<&Hook>) -> Message {
    let mut attributes = Attributes::default().text(1, table).text(3, name);
    if let Some(hook) = hook {
        let place = Attributes::default().be32(1, hook.number).be32(2, hook.priority as u32);
        attributes = attributes.nest(4, place).be32(5, 1).text(7, hook.kind);
    }
    message(kind::NEW_CHAIN, CREATE, attributes)
}

/// A chain that sees the packets of one device.
pub fn new_device_chain(table: &str, name: &str, hook: &Hook, device: &str) -> Message {
    let place = Attributes::default().be32(1, hook.number).be32(2, hook.priority as u32).text(3, device);
    let attributes = Attributes::default().text(1, table).text(3, name).nest(4, place).be32(5, 1).text(7, hook.kind);
    message(kind::NEW_CHAIN, CREATE, attributes)
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// Chain type: `nat`, `filter`.
    pub kind: &'static str,
    /// Hook: 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub number: u32,
    /// Order among the chains of the hook.
    pub priority: i32,
}

/// A rule at the end of its chain.
pub fn new_rule(table: &str, rule: &Rule) -> Message {
    let attributes = Attributes::default()
        .text(1, table)
        .text(2, &rule.chain)
        .nest(4, rule.expressions.clone())
        .bytes(7, &comment_data(rule.comment));
    message(kind::NEW_RULE, CREATE | APPEND, attributes)
}

/// A comment in the form in which `nft` stores it: type 0, length, text with its final zero.
pub fn comment_data(comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(120)];
    let mut data = vec![0, (text.len() + 1) as u8];
    data.extend_from_slice(text);
    data.push(0);
    data
}

/// A set or map, empty.
pub fn new_set(table: &str, set: Set, id: u32) -> Message {
    const MAP: u32 = 8;
    let key = Attributes::default().text(1, table).text(2, set.name());
    let (flags, attributes) = match set.maps_to() {
        MapsTo::Nothing => (0, Attributes::default()),
        MapsTo::Chain => (MAP, Attributes::default().be32(6, 0xffff_ff00)),
        MapsTo::Data(fields) => (MAP, Attributes::default().be32(6, type_number(fields)).be32(7, width(fields))),
    };
    let mut all = key.be32(3, flags).be32(4, type_number(set.key())).be32(5, width(set.key()));
    all.0.extend_from_slice(&attributes.0);
    message(kind::NEW_SET, CREATE, all.be32(10, id))
}

/// Adds elements, a bounded number per message.
pub fn add_elements(table: &str, elements: &Elements) -> Vec<Message> {
    element_messages(kind::NEW_ELEMENTS, CREATE, table, elements, true)
}

/// Removes elements by their keys.
pub fn remove_elements(table: &str, elements: &Elements) -> Vec<Message> {
    element_messages(kind::DEL_ELEMENTS, 0, table, elements, false)
}

fn element_messages(kind: u16, flags: u16, table: &str, elements: &Elements, values: bool) -> Vec<Message> {
    let all: Vec<_> = elements.0.iter().collect();
    let mut messages = Vec::new();
    for of_set in all.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
        let set = of_set[0].0.0;
        for chunk in of_set.chunks(CHUNK) {
            let mut attributes = Attributes(Vec::with_capacity(64 + chunk.len() * ELEMENT));
            attributes = attributes.text(1, table).text(2, set.name());
            attributes.within(3, |list| {
                for ((_, key), value) in chunk {
                    list.within(1, |element| {
                        element.within(1, |data| data.push(1, key));
                        if values {
                            push_value(element, value);
                        }
                    });
                }
            });
            messages.push(message(kind, flags, attributes));
        }
    }
    messages
}

fn push_value(element: &mut Attributes, value: &Value) {
    match value {
        Value::Member => {}
        Value::Data(octets) => element.within(2, |data| data.push(1, octets)),
        Value::Chain(class) => element.push(2 | 0x8000, &Verdict::Jump(class.chain()).attributes().0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_back() {
        let inner = Attributes::default().be32(1, 7);
        let all = Attributes::default().text(1, "berth").nest(4, inner).bytes(9, &[1, 2, 3, 4, 5]);
        let kinds: Vec<u16> = attributes(&all.0).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [1, 4, 9]);
        assert_eq!(attribute(attribute(&all.0, 4).unwrap(), 1), Some(&7u32.to_be_bytes()[..]));
        assert_eq!(attribute(&all.0, 9), Some(&[1u8, 2, 3, 4, 5][..]));
    }

    #[test]
    fn a_broken_attribute_ends_the_walk() {
        assert_eq!(attributes(&[200, 0, 1, 0, 9]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
