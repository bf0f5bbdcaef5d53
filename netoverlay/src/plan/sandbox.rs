//! Steps for one task's namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::TaskId;
use ipnet::IpNet;

use super::route::{MAIN_TABLE, link_table};
use super::translate::Translation;
use super::tunnel::link_mtu;
use super::vips::Vips;
use super::{BridgePort, Flow, LinkEnd, LinkPlan, Op, Place, Route, Rules, SourceRule};
use crate::model::{Attachment, Desired, Driver, Mode, Network, Observed, SandboxSpec, SandboxState, VethState};
use crate::names::{LinkName, task_mac};

/// Whether a task has (or should have) a namespace of its own.
pub(super) fn wants_namespace(desired: &Desired, task: TaskId) -> bool {
    desired.sandboxes.get(&task).is_some_and(|s| s.mode != Mode::Host)
}

/// Makes or mends one task's namespace.
pub(super) fn create(
    rules: &Rules,
    desired: &Desired,
    observed: &Observed,
    task: TaskId,
    vips: &Vips<'_>,
    translation: &Translation<'_>,
) -> Vec<Op> {
    let Some(spec) = desired.sandboxes.get(&task).filter(|s| s.mode != Mode::Host) else { return Vec::new() };
    let mut ops = Vec::new();
    let fresh = SandboxState::default();
    let state = observed.sandboxes.get(&task).unwrap_or_else(|| {
        ops.push(Op::CreateSandbox { task, v6: uses_v6(spec) });
        &fresh
    });
    let links = link_plans(rules, desired, observed, spec);
    let gone = connect(task, &links, state, observed, &mut ops);
    addresses(task, &links, state, &gone, &mut ops);
    rules_and_routes(task, &links, state, &gone, &mut ops);
    translation.task(spec, &mut ops);
    if !spec.attachments().is_empty() {
        vips.table(spec, state, &mut ops);
        if !state.dns {
            ops.push(Op::OpenDns { task });
        }
    }
    ops
}

/// Deletes one task's namespace, and forgets the connections that led to it.
///
/// Its links go with it, a little later and many at once: deleting one by name takes the kernel 20 to 40 ms. One that stays
/// because something still uses the namespace is a leftover for the next full pass.
pub(super) fn delete(observed: &Observed, task: TaskId, translation: &Translation<'_>) -> Vec<Op> {
    let Some(state) = observed.sandboxes.get(&task) else { return Vec::new() };
    let addresses = state.links.values().flat_map(|l| l.addresses.iter().map(IpNet::addr));
    let flows: Arc<[Flow]> =
        addresses.map(|backend| Flow { proto: None, towards: None, backend, port: None, instead: None }).collect();
    let forget = (!flows.is_empty()).then_some(Op::Forget { place: Place::Node, flows });
    let mut ops = Vec::new();
    translation.gone(task, &mut ops);
    ops.push(Op::DeleteSandbox { task });
    ops.extend(forget);
    ops
}

struct Wanted<'a> {
    plan: LinkPlan,
    network: &'a Network,
    attachment: &'a Attachment,
    addresses: BTreeSet<IpNet>,
}

fn link_plans<'a>(rules: &Rules, desired: &'a Desired, observed: &Observed, spec: &'a SandboxSpec) -> Vec<Wanted<'a>> {
    let known = spec.attachments().iter().filter_map(|a| Some((a, desired.networks.get(&a.network)?)));
    known
        .filter(|(_, network)| network.driver.has_links())
        .enumerate()
        .map(|(index, (attachment, network))| Wanted {
            plan: LinkPlan {
                inside: LinkName::inside(index),
                end: link_end(rules, spec.task, network),
                mtu: link_mtu(network, desired, observed),
                mac: attachment
                    .mac
                    .unwrap_or_else(|| task_mac(spec.task, network.id, attachment.addresses.first().copied())),
            },
            network,
            attachment,
            addresses: attachment.addresses.iter().filter_map(|a| with_prefix(network, *a)).collect(),
        })
        .collect()
}

fn link_end(rules: &Rules, task: TaskId, network: &Network) -> LinkEnd {
    match &network.driver {
        Driver::Macvlan { parent, mode } => LinkEnd::Macvlan { parent: LinkName::listed(parent), mode: *mode },
        _ => LinkEnd::Bridge(BridgePort {
            outside: rules.instance.veth(task, network.id),
            bridge: rules.instance.bridge(network.id),
            apart: network.parts_tasks(),
        }),
    }
}

fn with_prefix(network: &Network, address: IpAddr) -> Option<IpNet> {
    let prefix = network.subnet_of(address)?.range.prefix_len();
    IpNet::new(address, prefix).ok()
}

/// Removes links that are not as wanted and makes the missing ones. Returns the links that lose what is on them: those that are
/// not wanted any more, and those that are made anew.
fn connect(
    task: TaskId,
    links: &[Wanted<'_>],
    state: &SandboxState,
    observed: &Observed,
    ops: &mut Vec<Op>,
) -> BTreeSet<LinkName> {
    let mut gone = BTreeSet::new();
    let wanted: BTreeMap<&LinkName, &LinkPlan> = links.iter().map(|l| (&l.plan.inside, &l.plan)).collect();
    for name in state.links.keys().filter(|n| n.as_str().starts_with("eth") && !wanted.contains_key(n)) {
        ops.push(Op::DeleteTaskLink { task, link: name.clone() });
        gone.insert(name.clone());
    }
    for plan in wanted.values() {
        let inside = state.links.get(&plan.inside).filter(|inside| inside.mac == plan.mac);
        let outside = match &plan.end {
            LinkEnd::Bridge(port) => observed.veths.get(&port.outside).map(|outside| (port, outside)),
            LinkEnd::Macvlan { .. } => None,
        };
        let is_whole = matches!(plan.end, LinkEnd::Macvlan { .. }) || outside.is_some();
        if let Some(inside) = inside.filter(|_| is_whole) {
            if let Some((port, outside)) = outside {
                plug(port, outside, ops);
            }
            if !inside.up || inside.mtu != plan.mtu {
                ops.push(Op::MendLink { task, link: plan.inside.clone(), mtu: plan.mtu });
            }
            continue;
        }
        if let Some((port, _)) = outside {
            ops.push(Op::DeleteLink { link: port.outside.clone() });
        }
        if state.links.contains_key(&plan.inside) {
            ops.push(Op::DeleteTaskLink { task, link: plan.inside.clone() });
        }
        ops.push(Op::Connect { task, link: (*plan).clone() });
        gone.insert(plan.inside.clone());
    }
    gone
}

fn plug(port: &BridgePort, outside: &VethState, ops: &mut Vec<Op>) {
    if !outside.up || outside.bridge.as_ref() != Some(&port.bridge) || outside.apart != port.apart {
        let BridgePort { outside, bridge, apart } = port.clone();
        ops.push(Op::Plug { outside, bridge, apart });
    }
}

fn addresses(task: TaskId, links: &[Wanted<'_>], state: &SandboxState, gone: &BTreeSet<LinkName>, ops: &mut Vec<Op>) {
    let none = BTreeSet::new();
    for link in links {
        let name = &link.plan.inside;
        let have = state.links.get(name).filter(|_| !gone.contains(name)).map_or(&none, |l| &l.addresses);
        for address in have.difference(&link.addresses) {
            ops.push(Op::RemoveAddress { task, link: name.clone(), address: *address });
        }
        for address in link.addresses.difference(have) {
            ops.push(Op::AddAddress { task, link: name.clone(), address: *address });
        }
    }
}

fn rules_and_routes(
    task: TaskId,
    links: &[Wanted<'_>],
    state: &SandboxState,
    gone: &BTreeSet<LinkName>,
    ops: &mut Vec<Op>,
) {
    let (routes, rules) = routing(links);
    for rule in state.rules.difference(&rules) {
        ops.push(Op::RemoveRule { task, rule: *rule });
    }
    // The kernel takes a link's routes away with the link.
    let have: BTreeSet<Route> = state.routes.iter().filter(|r| !gone.contains(&r.device)).cloned().collect();
    for route in have.difference(&routes) {
        ops.push(Op::RemoveRoute { task, route: route.clone() });
    }
    for route in routes.difference(&have) {
        ops.push(Op::AddRoute { task, route: route.clone() });
    }
    for rule in rules.difference(&state.rules) {
        ops.push(Op::AddRule { task, rule: *rule });
    }
}

/// The default route goes to the attachment of the highest gateway priority that has a way out, per family. A task on several
/// such networks also answers each client by the link it was addressed on.
fn routing(links: &[Wanted<'_>]) -> (BTreeSet<Route>, BTreeSet<SourceRule>) {
    let (mut routes, mut rules) = (BTreeSet::new(), BTreeSet::new());
    for v6 in [false, true] {
        let ways: Vec<(usize, &Wanted<'_>, IpAddr, Vec<IpNet>)> = links
            .iter()
            .enumerate()
            .filter(|(_, link)| !link.network.internal)
            .filter_map(|(index, link)| {
                let own: Vec<IpNet> = link.addresses.iter().filter(|a| a.addr().is_ipv6() == v6).copied().collect();
                let gateway = link.network.subnet_of(own.first()?.addr())?.gateway;
                Some((index, link, gateway, own))
            })
            .collect();
        let default = ways.iter().rev().max_by_key(|(_, link, _, _)| link.attachment.gateway_priority);
        if let Some((_, link, gateway, _)) = default {
            routes.insert(Route { table: MAIN_TABLE, via: *gateway, device: link.plan.inside.clone() });
        }
        if ways.len() < 2 {
            continue;
        }
        rules.insert(SourceRule::ConnectedFirst { v6 });
        for (index, link, gateway, own) in &ways {
            let table = link_table(*index);
            routes.insert(Route { table, via: *gateway, device: link.plan.inside.clone() });
            rules.extend(own.iter().map(|a| SourceRule::From { source: IpNet::from(a.addr()), table }));
        }
    }
    (routes, rules)
}

fn uses_v6(spec: &SandboxSpec) -> bool {
    spec.attachments().iter().any(|a| a.addresses.iter().any(IpAddr::is_ipv6))
}
