//! Steps for probes that go straight: they find out whether a node of the same link can be sent packets by that link that bear
//! no address of the machine, before packets of tasks are sent so ("host-gw").
//!
//! A probe goes from this node's address on the ingress network to the other one's, marked with [`PROBE_MARK`]. A rule leads
//! such packets to a table of their own, with a route to each node of the link by that node's own address. Nothing else is ever
//! marked so; the answers come back by the tunnel, as everything else between these addresses.

use std::collections::BTreeSet;

use super::{Op, Rules};
use crate::model::{Desired, Observed, ProbeWay};

/// UDP port at which every node answers probes, at its addresses on the ingress network.
pub const PROBE_PORT: u16 = 4779;
/// Mark of probes that go straight. Differs from all marks of replies ([`crate::names::NODE_MARK`]).
pub const PROBE_MARK: u32 = 0x4250_4779;

/// Makes the missing ways and removes those that are not wanted.
pub(super) fn ways(rules: &Rules, desired: &Desired, observed: &Observed, ops: &mut Vec<Op>) {
    let wanted = wanted(desired, observed);
    let add: Vec<ProbeWay> = wanted.difference(&observed.probes).cloned().collect();
    let mut remove: Vec<ProbeWay> = observed.probes.difference(&wanted).cloned().collect();
    if rules.keep_unknown.is_some() {
        remove
            .retain(|old| add.iter().any(|new| old.destination().is_some() && old.destination() == new.destination()));
    }
    if !add.is_empty() || !remove.is_empty() {
        ops.push(Op::Probes { remove, add });
    }
}

/// A route to every node that is on the link of this node's own address, of the family that the nodes know each other by.
fn wanted(desired: &Desired, observed: &Observed) -> BTreeSet<ProbeWay> {
    let Some(own) = desired.nodes.reachable_own() else { return BTreeSet::new() };
    let Some(below) = observed.underlay_of(own.address) else { return BTreeSet::new() };
    let v6 = own.address.is_ipv6();
    let near = desired.nodes.reachable_peers().filter(|(_, peer)| below.range.contains(&peer.address));
    let route = |to, via| ProbeWay::Route { to, via, device: below.link.clone() };
    let mut ways: BTreeSet<ProbeWay> =
        near.filter_map(|(_, peer)| Some(route(peer.entrance(v6)?, peer.address))).collect();
    if !ways.is_empty() {
        ways.insert(ProbeWay::Rule { v6 });
    }
    ways
}
