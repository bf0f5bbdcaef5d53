//! Steps for tasks on nodes of the same link, to which packets go straight by a route instead of by a tunnel ("host-gw").
//!
//! The bridge answers for such an address, the node sends the packet on to the task's node, and that one leads it to its bridge.
//! Only for addresses of the family that the nodes know each other by; the others go by the tunnel, and so does all of an encrypted
//! network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Op, Rules};
use crate::model::{Desired, DirectWay, Driver, Network, Observed, Peer, Service};
use crate::names::LinkName;
use crate::nft::sets::Bytes;
use crate::nft::{Draft, Set};

/// Whether packets of this network for this address of a task on that node go straight.
pub(super) fn goes_straight(network: &Network, peer: &Peer, address: IpAddr) -> bool {
    peer.direct && peer.address.is_ipv6() == address.is_ipv6() && may_go_straight(network)
}

/// Packets of an encrypted network never leave the node as they are, whatever the link carries.
fn may_go_straight(network: &Network) -> bool {
    matches!(network.driver, Driver::Overlay { .. }) && !network.encrypted
}

/// What changes about the ways of this kind. An address never is without a way while it goes over to or from a tunnel.
pub(super) struct Change {
    add: Vec<DirectWay>,
    /// Led elsewhere until now.
    moved: Vec<DirectWay>,
    gone: Vec<DirectWay>,
}

impl Change {
    pub fn new(rules: &Rules, desired: &Desired, observed: &Observed) -> Self {
        let wanted = wanted(rules, desired, observed);
        let add: Vec<DirectWay> = wanted.difference(&observed.direct).cloned().collect();
        let stays: BTreeSet<IpAddr> = add.iter().map(|way| way.address).collect();
        let old = observed.direct.difference(&wanted).cloned();
        let (moved, mut gone) = old.partition::<Vec<_>, _>(|way| stays.contains(&way.address));
        if rules.keep_unknown.is_some() {
            gone.clear();
        }
        Self { add, moved, gone }
    }

    /// Before the tunnels' ways change.
    pub fn add(&self, ops: &mut Vec<Op>) {
        if !self.add.is_empty() {
            ops.push(Op::Direct { remove: self.moved.clone(), add: self.add.clone() });
        }
    }

    /// After they did.
    pub fn remove(self, ops: &mut Vec<Op>) {
        if !self.gone.is_empty() {
            ops.push(Op::Direct { remove: self.gone, add: Vec::new() });
        }
    }
}

fn wanted(rules: &Rules, desired: &Desired, observed: &Observed) -> BTreeSet<DirectWay> {
    let Some(own) = desired.nodes.reachable_own() else { return BTreeSet::new() };
    let Some(below) = observed.underlay_of(own.address) else { return BTreeSet::new() };
    if !desired.nodes.reachable_peers().any(|(_, peer)| peer.direct) {
        return BTreeSet::new();
    }
    let networks = straight_networks(desired);
    let ways = networks.flat_map(|network| {
        let bridge = rules.instance.bridge(network.id);
        let way = move |(peer, address): (&Peer, IpAddr)| DirectWay {
            bridge: bridge.clone(),
            address,
            via: peer.address,
            device: below.link.clone(),
        };
        elsewhere(desired, network).filter(|(peer, address)| goes_straight(network, peer, *address)).map(way)
    });
    ways.collect()
}

/// Addresses from which packets may come straight, and to which they go so, each with its network's bridge: those of tasks on
/// nodes of the same link, whether or not this node sends to them straight.
pub(super) fn elements(rules: &Rules, desired: &Desired, observed: &Observed, elements: &mut Draft) {
    let Some(below) = desired.nodes.reachable_own().and_then(|own| observed.underlay_of(own.address)) else { return };
    for network in straight_networks(desired) {
        let bridge: LinkName = rules.instance.bridge(network.id);
        for (peer, address) in elsewhere(desired, network) {
            if !below.range.contains(&peer.address) || peer.address.is_ipv6() != address.is_ipv6() {
                continue;
            }
            let set = if address.is_ipv6() { Set::Direct6 } else { Set::Direct4 };
            elements.member(set, Bytes::default().address(address).ifname(bridge.as_str()).done());
        }
    }
}

fn straight_networks(desired: &Desired) -> impl Iterator<Item = &Network> {
    desired.networks.values().filter(|network| may_go_straight(network))
}

/// Addresses of tasks on other nodes, each with its node.
fn elsewhere<'a>(desired: &'a Desired, network: &'a Network) -> impl Iterator<Item = (&'a Peer, IpAddr)> {
    let backends = desired.services.values().flat_map(|service: &std::sync::Arc<Service>| &service.backends);
    let places = backends.filter_map(|backend| Some((backend, desired.nodes.reachable_peer(backend.node?)?)));
    places.flat_map(move |(backend, peer)| {
        backend.addresses.get(&network.id).into_iter().flatten().map(move |address| (peer, *address))
    })
}
