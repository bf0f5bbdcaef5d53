//! Steps in the node's own namespace: bridges, forwarding, the packet filter table, leftovers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::known::address;
use super::tunnel::link_mtu;
use super::{Flow, Op, Place, Rules, balance, direct, ports};
use crate::model::{Desired, Driver, Network, Observed, Peer, Proto};
use crate::names::{LinkName, bridge_mac};
use crate::nft::sets::{Bytes, Field, width};
use crate::nft::table::value_fields;
use crate::nft::{Draft, Elements, Octets, Set, TableChange, Value};

/// Makes and mends the bridges of all networks that have one.
pub(super) fn bridges(rules: &Rules, desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    let networks = || desired.networks.values().filter(|n| n.driver.has_bridge());
    let entrance = |v6: bool| desired.nodes.reachable_own().is_some_and(|own| own.entrance(v6).is_some());
    let outside = |v6: bool| {
        entrance(v6) || networks().any(|n| !n.internal && n.subnets.iter().any(|s| s.gateway.is_ipv6() == v6))
    };
    for (v6, on) in [(false, observed.forwarding.0), (true, observed.forwarding.1)] {
        if outside(v6) && !on {
            ops.push(Op::Forward { v6 });
        }
    }
    for network in networks() {
        bridge(rules, desired, network, observed, &mut ops);
    }
    ops
}

fn bridge(rules: &Rules, desired: &Desired, network: &Network, observed: &Observed, ops: &mut Vec<Op>) {
    let name = rules.instance.bridge(network.id);
    let mtu = link_mtu(network, desired, observed);
    let wanted: BTreeSet<IpNet> = network.subnets.iter().filter_map(gateway_address).collect();
    let mut have = BTreeSet::new();
    match observed.bridges.get(&name) {
        None => ops.push(Op::CreateBridge { bridge: name.clone(), mac: bridge_mac(network.id), mtu }),
        Some(state) => {
            if !state.up || state.mtu != mtu {
                ops.push(Op::MendBridge { bridge: name.clone(), mtu });
            }
            have.clone_from(&state.addresses);
        }
    }
    for address in have.difference(&wanted) {
        ops.push(Op::RemoveNodeAddress { link: name.clone(), address: *address });
    }
    for address in wanted.difference(&have) {
        ops.push(Op::AddNodeAddress { link: name.clone(), address: *address });
    }
}

fn gateway_address(subnet: &crate::model::Subnet) -> Option<IpNet> {
    IpNet::new(subnet.gateway, subnet.range.prefix_len()).ok()
}

/// The node's table: isolation, masquerade, published ports; and the connections to forget after the change.
pub(super) fn table(rules: &Rules, desired: &Desired, observed: &Observed) -> Vec<Op> {
    let wanted = elements(rules, desired, observed);
    let mut change = TableChange::between(&observed.table, &wanted);
    if let Some(known) = &rules.keep_unknown {
        known.restrict(&mut change);
    }
    if change.is_empty() {
        return Vec::new();
    }
    let flows = lost_backends(&change, &wanted);
    let forget = (!flows.is_empty()).then_some(Op::Forget { place: Place::Node, flows });
    std::iter::once(Op::Table { place: Place::Node, change }).chain(forget).collect()
}

fn elements(rules: &Rules, desired: &Desired, observed: &Observed) -> Elements {
    let mut elements = Draft::default();
    for network in desired.networks.values().filter(|n| n.driver.has_bridge()) {
        let name = rules.instance.bridge(network.id);
        let key = || Bytes::default().ifname(name.as_str());
        elements.member(Set::Bridges, key().done());
        if !network.parts_tasks() {
            elements.member(Set::Within, key().ifname(name.as_str()).done());
        }
        if network.internal {
            elements.member(Set::Internal, key().done());
        }
        if network.masquerade() {
            elements.member(Set::Masquerade, key().done());
        }
    }
    if let Some(own) = desired.nodes.reachable_own() {
        among_nodes(rules, desired, own, &mut elements);
        direct::elements(rules, desired, observed, &mut elements);
    }
    for frontend in ports::frontends(desired).0.iter().filter(|f| observed.held.contains(&f.port)) {
        balance::published(frontend, &mut elements);
    }
    elements.done()
}

/// Who may send by tunnels, which tunnels are ours, and the ingress device.
fn among_nodes(rules: &Rules, desired: &Desired, own: &Peer, elements: &mut Draft) {
    let peers = desired.nodes.reachable_peers().map(|(_, peer)| peer.address);
    for address in peers.chain([own.address]) {
        let set = if address.is_ipv6() { Set::Peers6 } else { Set::Peers4 };
        elements.member(set, Bytes::default().address(address).done());
    }
    for port in &desired.nodes.secure_ports {
        elements.member(Set::SecurePorts, Bytes::default().port(*port).done());
    }
    for network in desired.networks.values() {
        let vnis = if network.encrypted { Set::SecureVnis } else { Set::Vnis };
        match network.driver {
            Driver::Overlay { vni } => elements.member(vnis, Bytes::default().vni(vni).done()),
            Driver::Ingress { vni } => {
                elements.member(vnis, Bytes::default().vni(vni).done());
                let link = rules.instance.tunnel(network.id);
                elements.member(Set::Bridges, Bytes::default().ifname(link.as_str()).done());
                elements.member(Set::Ingress, Bytes::default().ifname(link.as_str()).done());
            }
            Driver::Bridge | Driver::Macvlan { .. } | Driver::Host | Driver::None => {}
        }
    }
}

/// Backends that a published port no longer leads to: tracked "connections" of UDP would keep going there, and clients of TCP
/// that have no answer yet would keep asking there.
fn lost_backends(change: &TableChange, wanted: &Elements) -> Arc<[Flow]> {
    let slots =
        [Set::PortSlots4, Set::PortSlots6, Set::BoundSlots4, Set::BoundSlots6, Set::ArrivedSlots4, Set::ArrivedSlots6];
    let data = |value: &Value| if let Value::Data(data) = value { Some(*data) } else { None };
    let backends = |elements: &Elements| -> BTreeSet<(Option<Proto>, Octets, Octets)> {
        let all = elements.0.iter().filter(|((set, _), _)| slots.contains(set));
        all.filter_map(|((set, key), value)| Some((transport(*set, key), frontend_key(*set, key)?, data(value)?)))
            .collect()
    };
    let removed = backends(&change.remove);
    if removed.is_empty() {
        return Arc::default();
    }
    let still = backends(wanted);
    let lost = removed.difference(&still).filter_map(|(proto, frontend, data)| {
        let set = slots.iter().find(|set| Some(**set as u8) == frontend.first().copied())?;
        let field = value_fields(*set)[0];
        let at = field.bytes() as usize;
        let port = u16::from_be_bytes([*data.get(at)?, *data.get(at + 1)?]);
        Some(((*proto)?, address(field, data)?, port))
    });
    let lost: BTreeSet<(Proto, IpAddr, u16)> = lost.collect();
    let flow =
        |(proto, backend, port)| Flow { proto: Some(proto), towards: None, backend, port: Some(port), instead: None };
    lost.into_iter().map(flow).collect()
}

/// The set, and its key without the slot.
fn frontend_key(set: Set, key: &[u8]) -> Option<Octets> {
    let slot = width(&[Field::Slot]) as usize;
    let mut id = Octets::new(&[set as u8])?;
    id.push(key.get(..key.len().checked_sub(slot)?)?).then_some(id)
}

fn transport(set: Set, key: &[u8]) -> Option<Proto> {
    let before = match set.key()[0] {
        Field::V4 => 4,
        Field::V6 => 16,
        _ => 0,
    };
    let number = *key.get(before)?;
    [Proto::Tcp, Proto::Udp].into_iter().find(|proto| proto.number() == number)
}

/// Links that nothing wants: task links whose task or network is gone, then bridges.
pub(super) fn leftovers(rules: &Rules, desired: &Desired, observed: &Observed) -> Vec<Op> {
    let wanted_veths: BTreeSet<LinkName> = desired
        .sandboxes
        .values()
        .flat_map(|s| s.attachments().iter().map(|a| rules.instance.veth(s.task, a.network)))
        .collect();
    let wanted_bridges: BTreeSet<LinkName> =
        desired.networks.values().filter(|n| n.driver.has_bridge()).map(|n| rules.instance.bridge(n.id)).collect();
    let veths = observed.veths.keys().filter(|v| !wanted_veths.contains(*v));
    let bridges = observed.bridges.keys().filter(|b| !wanted_bridges.contains(*b));
    veths.chain(bridges).map(|link| Op::DeleteLink { link: link.clone() }).collect()
}
