//! The fixed part of both tables: chains and rules that never change while the daemon runs.
//!
//! Node: `prerouting`/`output` translate published ports, `forward` keeps networks apart, `postrouting` gives clients of the
//! outside the node's address and makes replies of hairpin and 127.0.0.1 connections come back through the node, `input`
//! refuses published ports without a backend, `raw` keeps 127.0.0.0/8 (opened for replies by `route_localnet`) closed to tasks.
//! Every packet of the machine passes here, the node's own too: what most of them are not is asked first (the transport, whether
//! the connection is new), and names of devices, each a look-up, last.
//!
//! Sandbox: `output` translates virtual addresses and the name server's port, `refuse` answers for virtual addresses without
//! a backend.

use std::collections::BTreeSet;

use super::expr::{Device, Family, R0, Rule, Verdict};
use super::message::{self, Hook, Message};
use super::sets::{Scope, Set};
use super::table::{Class, TableChange};
use crate::names::{Instance, LinkForm};
use crate::plan::{PROBE_PORT, TUNNEL_PORT};

/// Raised when a chain or rule here changes: a table of another version is written anew.
const VERSION: u32 = 5;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const NEW: u32 = 8;
const ESTABLISHED_RELATED: u32 = 2 | 4;
const ICMPV6: u8 = 58;

/// Which table, and what its rules have to know.
#[derive(Debug, Clone, Copy)]
pub enum Layout<'a> {
    /// The node's, and what its encrypted links are called.
    Node(&'a LinkForm),
    /// A task's.
    Sandbox,
}

impl Layout<'_> {
    /// Where it lives.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Node(_) => Scope::Node,
            Self::Sandbox => Scope::Sandbox,
        }
    }
}

/// The comment of the table; with the rules' comments it tells whether the table is ours and current.
pub fn table_comment() -> String {
    format!("berth, layout {VERSION}; changed by the daemon only")
}

/// Chain and comment of each fixed rule, in order within a chain.
pub fn expected_rules(scope: Scope) -> Vec<(String, &'static str)> {
    let links = Instance::default().links();
    let layout = match scope {
        Scope::Node => Layout::Node(&links),
        Scope::Sandbox => Layout::Sandbox,
    };
    rules(layout).into_iter().map(|rule| (rule.chain, rule.comment)).collect()
}

/// Messages that write a change, to go into one transaction. The classes that it needs of a table that is there already are not
/// among them: see [`classes`].
pub fn messages(layout: Layout<'_>, table: &str, change: &TableChange) -> Vec<Message> {
    let mut messages = Vec::new();
    if change.rebuild {
        messages.extend(rebuild(layout, table));
        messages.extend(classes(table, &change.classes));
    }
    messages.extend(message::remove_elements(table, &change.remove));
    messages.extend(message::add_elements(table, &change.add));
    messages
}

/// Makes a table anew; one that is there is replaced.
fn rebuild(layout: Layout<'_>, table: &str) -> Vec<Message> {
    let scope = layout.scope();
    let comment = table_comment();
    // Made first so that deleting cannot fail.
    let mut messages =
        vec![message::new_table(table, &comment), message::delete_table(table), message::new_table(table, &comment)];
    let sets = Set::ALL.iter().filter(|s| s.scope() == scope);
    messages.extend((1..).zip(sets).map(|(id, set)| message::new_set(table, *set, id)));
    messages.extend(chains(scope).iter().map(|(name, hook)| message::new_chain(table, name, hook.as_ref())));
    messages.extend(rules(layout).iter().map(|rule| message::new_rule(table, rule)));
    messages
}

/// The balancing chains. Which class a frontend is of and what is in its slots are two look-ups of one packet, and a change may
/// come into force between them: a slot that has just gone is not there any more. The first one is as long as any is.
///
/// Something may lead to them only after they came into force: the kernel takes the rules of all chains as they were when it
/// began with a packet, but elements as they are when it looks them up, and would find a chain of that moment empty.
pub fn classes(table: &str, classes: &BTreeSet<Class>) -> Vec<Message> {
    let mut messages = Vec::new();
    for class in classes {
        let name = class.chain();
        messages.push(message::new_chain(table, &name, None));
        let any = balance(*class, Rule::new(&name, "one of this many backends at random"), class.slots);
        let first = balance(*class, Rule::new(&name, "the first one where that has just gone"), 1);
        messages.extend([any, first].iter().map(|rule| message::new_rule(table, rule)));
    }
    messages
}

/// Picks one of the first `slots` at random and translates to what the map has for it.
fn balance(class: Class, rule: Rule, slots: u32) -> Rule {
    let family = match class.map {
        Set::Ports6 | Set::Bound6 | Set::Arrived6 | Set::Vips6 => Family::V6,
        _ => Family::V4,
    };
    match class.map {
        Set::Vips4 | Set::Vips6 => {
            let slot = R0 + family.words();
            let rule = rule.load_destination(family, R0).random(slots, slot);
            rule.map(class.slot_map(), R0).redirect(family, R0, None)
        }
        Set::Bound4 | Set::Bound6 => {
            let after = R0 + family.words();
            let rule = rule.load_destination(family, R0).load_transport(after).load_port(after + 1);
            let rule = rule.random(slots, after + 2).map(class.slot_map(), R0);
            rule.redirect(family, R0, Some(R0 + family.words()))
        }
        _ => {
            let rule = rule.load_transport(R0).load_port(R0 + 1).random(slots, R0 + 2);
            rule.map(class.slot_map(), R0).redirect(family, R0, Some(R0 + family.words()))
        }
    }
}

fn chains(scope: Scope) -> Vec<(&'static str, Option<Hook>)> {
    let base = |kind, number, priority| Some(Hook { kind, number, priority });
    match scope {
        Scope::Node => vec![
            ("raw", base("filter", 0, -300)),
            ("raw_output", base("filter", 3, -300)),
            ("replies", base("filter", 0, -150)),
            ("replies_output", base("route", 3, -150)),
            ("prerouting", base("nat", 0, -100)),
            ("output", base("nat", 3, -100)),
            ("postrouting", base("nat", 4, 100)),
            ("forward", base("filter", 2, 0)),
            ("input", base("filter", 1, 0)),
            ("published", None),
            ("arrived", None),
            ("raw_udp", None),
            ("raw_output_udp", None),
        ],
        Scope::Sandbox => vec![("refuse", base("filter", 3, -150)), ("output", base("nat", 3, -100))],
    }
}

fn rules(layout: Layout<'_>) -> Vec<Rule> {
    match layout {
        Layout::Node(links) => [tunnels(links), arrived(), published(), edges(), forward(), input()].concat(),
        Layout::Sandbox => sandbox(),
    }
}

fn published() -> Vec<Rule> {
    let to = |chain: &str, comment| {
        Rule::new(chain, comment).destination_is_local().verdict(&Verdict::Jump("published".to_owned()))
    };
    let bound = |family: Family, set| {
        let rule = Rule::new("published", "ports published on one address").family(family).load_destination(family, R0);
        rule.load_transport(R0 + family.words()).load_port(R0 + family.words() + 1).branch(set, R0)
    };
    let any = |rule: Rule, set| rule.load_transport(R0).load_port(R0 + 1).branch(set, R0);
    let rule = || Rule::new("published", "ports published on every address");
    vec![
        to("prerouting", "clients outside"),
        to("output", "clients on this node"),
        bound(Family::V4, Set::Bound4),
        any(rule().family(Family::V4), Set::Ports4),
        bound(Family::V6, Set::Bound6),
        any(rule().destination_not_loopback_v6(), Set::Ports6),
    ]
}

/// Outer packets of tunnels: from nodes of the cluster alone, those of encrypted networks out of encrypted links alone, whoever
/// their sender says that he is; and past connection tracking, which holds for the links' own packets too.
fn tunnels(links: &LinkForm) -> Vec<Rule> {
    let datagrams = |chain: &str, to: &str| {
        let rule = Rule::new(chain, "tunnels and encrypted links").transport(UDP);
        rule.verdict(&Verdict::Jump(to.to_owned()))
    };
    let tunnel = |chain, comment, vnis| Rule::new(chain, comment).port(TUNNEL_PORT).load_vni(R0).lookup(vnis, R0, true);
    let untracked = |chain, vnis| tunnel(chain, "tunnels are not tracked", vnis).untracked();
    let link = |chain| Rule::new(chain, "encrypted links are not tracked");
    let stranger = |family: Family, peers| {
        let rule = Rule::new("raw_udp", "tunnels are for nodes of the cluster").family(family).port(TUNNEL_PORT);
        let rule = rule.load_vni(R0).lookup(Set::Vnis, R0, true).load_source(family, R0).lookup(peers, R0, false);
        rule.verdict(&Verdict::Drop)
    };
    // Tasks leave with the node's address: what they send would be taken for the node's own.
    let of_task = |family: Family, peers| {
        let rule = Rule::new("raw_udp", "tasks have no business with tunnels").family(family);
        let rule = rule.port(TUNNEL_PORT).device_in(Device::In, Set::Bridges, true).load_destination(family, R0);
        rule.lookup(peers, R0, true).verdict(&Verdict::Drop)
    };
    vec![
        datagrams("raw", "raw_udp"),
        datagrams("raw_output", "raw_output_udp"),
        of_task(Family::V4, Set::Peers4),
        of_task(Family::V6, Set::Peers6),
        stranger(Family::V4, Set::Peers4),
        stranger(Family::V6, Set::Peers6),
        tunnel("raw_udp", "encrypted networks by encrypted links only", Set::SecureVnis)
            .not_by_link(links)
            .verdict(&Verdict::Drop),
        untracked("raw_udp", Set::Vnis),
        untracked("raw_udp", Set::SecureVnis),
        untracked("raw_output_udp", Set::Vnis),
        untracked("raw_output_udp", Set::SecureVnis),
        link("raw_udp").load_port(R0).lookup(Set::SecurePorts, R0, true).untracked(),
        link("raw_output_udp").load_source_port(R0).lookup(Set::SecurePorts, R0, true).untracked(),
    ]
}

/// Clients of published ports that another node has sent here, and the way back of the replies to them.
fn arrived() -> Vec<Rule> {
    let marked = |chain, comment| Rule::new(chain, comment).reply_direction().connection_of_node().mark_as_connection();
    let to = |family: Family, set| {
        let rule = Rule::new("arrived", "sent here by the node that the client called").family(family);
        rule.load_transport(R0).load_port(R0 + 1).branch(set, R0)
    };
    vec![
        Rule::new("raw", "connections by different nodes are different")
            .device_in(Device::In, Set::Ingress, true)
            .from_node()
            .zone_of_node(),
        Rule::new("replies", "remember the node that the client called")
            .state(NEW)
            .device_in(Device::In, Set::Ingress, true)
            .from_node()
            .remember_node(),
        marked("replies", "back to the node that the client called").device_in(Device::In, Set::Bridges, true),
        marked("replies_output", "refusals back to the node that the client called"),
        to(Family::V4, Set::Arrived4),
        to(Family::V6, Set::Arrived6),
        Rule::new("prerouting", "clients that another node has sent here")
            .device_in(Device::In, Set::Ingress, true)
            .verdict(&Verdict::Jump("arrived".to_owned())),
        Rule::new("prerouting", "they are sent to no third node")
            .device_in(Device::In, Set::Ingress, true)
            .verdict(&Verdict::Accept),
    ]
}

fn edges() -> Vec<Rule> {
    let node = |family: Family, peers| {
        let rule = Rule::new(
            "postrouting",
            "nodes by this one to tasks that may be theirs: replies must come back to this one",
        );
        let rule = rule.family(family).device_in(Device::Out, Set::Ingress, true);
        rule.load_source(family, R0).lookup(peers, R0, true).masquerade()
    };
    let kept = |family: Family, straight| {
        let rule = Rule::new("postrouting", "within one network, straight to another node").family(family);
        let rule = rule.load_destination(family, R0).load_device(Device::In, R0 + family.words());
        rule.lookup(straight, R0, true).verdict(&Verdict::Accept)
    };
    vec![
        Rule::new("postrouting", "clients that another node has sent here keep their address")
            .device_in(Device::In, Set::Ingress, true)
            .verdict(&Verdict::Accept),
        Rule::new("postrouting", "this node to other nodes' tasks: replies must come back to it")
            .device_in(Device::Out, Set::Ingress, true)
            .source_is_local()
            .masquerade(),
        node(Family::V4, Set::Peers4),
        node(Family::V6, Set::Peers6),
        Rule::new("raw", "tasks have no business with the node's loopback")
            .destination_loopback_v4()
            .device_in(Device::In, Set::Bridges, true)
            .verdict(&Verdict::Drop),
        kept(Family::V4, Set::Direct4),
        kept(Family::V6, Set::Direct6),
        Rule::new("postrouting", "tasks to the outside")
            .device_in(Device::In, Set::Masquerade, true)
            .device_in(Device::Out, Set::Bridges, false)
            .masquerade(),
        Rule::new("postrouting", "tasks to published ports: replies must come back through the node")
            .device_in(Device::In, Set::Bridges, true)
            .device_in(Device::Out, Set::Bridges, true)
            .translated(true)
            .masquerade(),
        Rule::new("postrouting", "127.0.0.1 to published ports")
            .source_loopback_v4()
            .device_in(Device::Out, Set::Bridges, true)
            .masquerade(),
    ]
}

fn forward() -> Vec<Rule> {
    let rule = |comment| Rule::new("forward", comment);
    let straight = |family: Family, straight, is_from: bool| {
        let (loaded, device) = match is_from {
            true => (
                rule("within one network, straight from another node").family(family).load_source(family, R0),
                Device::Out,
            ),
            false => (
                rule("within one network, straight to another node").family(family).load_destination(family, R0),
                Device::In,
            ),
        };
        loaded.load_device(device, R0 + family.words()).lookup(straight, R0, true).verdict(&Verdict::Accept)
    };
    vec![
        rule("no larger segments than the tunnel takes")
            .begins_tcp()
            .device_in(Device::Out, Set::Ingress, true)
            .clamp_segments(),
        rule("replies").state(ESTABLISHED_RELATED).verdict(&Verdict::Accept),
        rule("published ports").device_in(Device::Out, Set::Bridges, true).translated(true).verdict(&Verdict::Accept),
        rule("within one network")
            .load_device(Device::In, R0)
            .load_device(Device::Out, R0 + 4)
            .lookup(Set::Within, R0, true)
            .verdict(&Verdict::Accept),
        straight(Family::V4, Set::Direct4, true),
        straight(Family::V6, Set::Direct6, true),
        straight(Family::V4, Set::Direct4, false),
        straight(Family::V6, Set::Direct6, false),
        rule("unpublished ports, and one network from another")
            .device_in(Device::Out, Set::Bridges, true)
            .verdict(&Verdict::Drop),
        rule("internal networks to the outside").device_in(Device::In, Set::Internal, true).verdict(&Verdict::Drop),
    ]
}

fn input() -> Vec<Rule> {
    let bound = |family: Family, set| {
        let words = family.words();
        let rule = |comment| {
            let rule = Rule::new("input", comment).family(family).load_destination(family, R0);
            rule.load_transport(R0 + words).load_port(R0 + words + 1).lookup(set, R0, true)
        };
        let text = "published on one address, no backend";
        [rule(text).transport(TCP).reset(), rule(text).unreachable()]
    };
    let any = || {
        let rule = Rule::new("input", "published, no backend").load_transport(R0).load_port(R0 + 1);
        rule.lookup(Set::Refuse, R0, true)
    };
    let internal = || Rule::new("input", "internal networks to the node").device_in(Device::In, Set::Internal, true);
    let nodes = |comment| Rule::new("input", comment).device_in(Device::In, Set::Ingress, true);
    let known = Rule::new("input", "replies").state(ESTABLISHED_RELATED).verdict(&Verdict::Accept);
    let mut rules = vec![known, any().transport(TCP).reset(), any().unreachable()];
    rules.extend(bound(Family::V4, Set::RefuseBound4));
    rules.extend(bound(Family::V6, Set::RefuseBound6));
    rules.push(internal().transport(ICMPV6).verdict(&Verdict::Accept));
    rules.push(internal().verdict(&Verdict::Drop));
    rules.push(nodes("probes of other nodes").transport(ICMP).verdict(&Verdict::Accept));
    rules.push(nodes("probes of other nodes").transport(ICMPV6).verdict(&Verdict::Accept));
    rules.push(nodes("probes of other nodes").transport(UDP).port(PROBE_PORT).verdict(&Verdict::Accept));
    rules.push(nodes("nothing else of this node by the ingress network").verdict(&Verdict::Drop));
    rules
}

fn sandbox() -> Vec<Rule> {
    let refuse = |family: Family, set| {
        let rule = || {
            let rule = Rule::new("refuse", "virtual address without a backend").family(family);
            rule.load_destination(family, R0).lookup(set, R0, true)
        };
        [rule().transport(TCP).reset(), rule().unreachable()]
    };
    let vip = |family: Family, set| {
        Rule::new("output", "virtual addresses").family(family).load_destination(family, R0).branch(set, R0)
    };
    let names = Rule::new("output", "the name server's real port")
        .destination_v4([127, 0, 0, 11])
        .port(53)
        .load_transport(R0)
        .map(Set::Dns, R0)
        .redirect(Family::V4, R0, Some(R0 + 1));
    let mut rules = vec![names, vip(Family::V4, Set::Vips4), vip(Family::V6, Set::Vips6)];
    rules.extend(refuse(Family::V4, Set::VipRefuse4));
    rules.extend(refuse(Family::V6, Set::VipRefuse6));
    rules
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::nft::sets::Bytes;
    use crate::nft::table::Draft;

    #[test]
    fn every_rule_is_in_a_chain_and_within_the_registers() {
        for scope in [Scope::Node, Scope::Sandbox] {
            let names: Vec<&str> = chains(scope).iter().map(|(name, _)| *name).collect();
            for (chain, comment) in expected_rules(scope) {
                assert!(names.contains(&chain.as_str()), "{comment}: {chain}");
                assert!(comment.len() < 100, "{comment}");
            }
        }
    }

    #[test]
    fn a_rebuild_comes_before_elements() {
        let mut change = TableChange { rebuild: true, ..TableChange::default() };
        let mut bridges = Draft::default();
        bridges.member(Set::Bridges, Bytes::default().ifname("").done());
        change.add = Arc::new(bridges.done());
        let messages = messages(Layout::Node(&Instance::default().links()), "t", &change);
        assert_eq!(messages.last().map(|m| m.kind & 0xff), Some(message::kind::NEW_ELEMENTS));
        assert_eq!(messages[1].kind & 0xff, message::kind::DEL_TABLE);
    }
}
