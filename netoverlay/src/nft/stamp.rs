//! The table of the ingress device: replies to clients of published ports carry the number of the node that the client called.
//!
//! A reply is marked with that number (`crate::nft::skeleton`) and routed out of the device to an address that stands for any
//! node. Here, as the frame leaves, the mark becomes the last four bytes of its destination, and the tunnel leads it there:
//! one rule for any number of nodes. The mark is taken off afterwards, for the tunnel's outer packet would be routed by it too.

use super::expr::Rule;
use super::message::{self, Hook, Message};

/// `NFPROTO_NETDEV`.
pub const FAMILY: u8 = 5;
/// The chain's name.
pub const CHAIN: &str = "replies";

/// How many rules it has.
pub const RULES: usize = 2;

/// Messages that make the table anew, to go into one transaction. One that is there is replaced.
pub fn messages(table: &str, device: &str) -> Vec<Message> {
    const EGRESS: u32 = 1;
    let comment = super::skeleton::table_comment();
    let hook = Hook { kind: "filter", number: EGRESS, priority: 0 };
    let rules: [Rule; RULES] = [
        Rule::new(CHAIN, "to the node that the client called").stamp(),
        Rule::new(CHAIN, "the tunnel's packet is not marked").unmark(),
    ];
    let mut messages =
        vec![message::new_table(table, &comment), message::delete_table(table), message::new_table(table, &comment)];
    messages.push(message::new_device_chain(table, CHAIN, &hook, device));
    messages.extend(rules.iter().map(|rule| message::new_rule(table, rule)));
    messages.into_iter().map(of_family).collect()
}

/// Messages that delete the table.
pub fn removal(table: &str) -> Vec<Message> {
    [message::new_table(table, ""), message::delete_table(table)].map(of_family).to_vec()
}

/// The same message for tables of this family.
pub fn of_family(mut message: Message) -> Message {
    message.body[0] = FAMILY;
    message
}
