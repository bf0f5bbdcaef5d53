//! Routes to tasks on nodes of the same link, and the bridges' answers for their addresses: requests and listings on a route
//! socket, idempotent like those of `route_io`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage as Rt;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType};

use super::KernelError;
use super::netlink::{Netlink, read_route, route_message};
use super::route_io::{Link, PROTOCOL, REPLACE, family, index_of, refused};
use crate::model::DirectWay;
use crate::names::LinkName;
use crate::nft::message::{CREATE, Message};
use crate::plan::MAIN_TABLE;

/// Requests that are sent together.
const TOGETHER: usize = 256;

/// Removes and adds ways, many requests at a time.
pub(super) fn change(netlink: &mut Netlink, remove: &[DirectWay], add: &[DirectWay]) -> Result<(), KernelError> {
    let mut indices: BTreeMap<LinkName, Option<u32>> = BTreeMap::new();
    for name in remove.iter().chain(add).flat_map(|way| [&way.bridge, &way.device]) {
        if !indices.contains_key(name) {
            // What led by a device that is gone went with it.
            indices.insert(name.clone(), index_of(netlink, name).ok());
        }
    }
    let index = |name: &LinkName| indices.get(name).copied().flatten();
    let mut messages = Vec::new();
    for (way, is_new) in remove.iter().map(|way| (way, false)).chain(add.iter().map(|way| (way, true))) {
        if let Some(device) = index(&way.device) {
            let route = route(way, device);
            messages.push(one(is_new, Rt::NewRoute(route.clone()), Rt::DelRoute(route)));
        }
        if let Some(bridge) = index(&way.bridge) {
            let answer = answer(way, bridge);
            messages.push(one(is_new, Rt::NewNeighbour(answer.clone()), Rt::DelNeighbour(answer)));
        }
    }
    for part in messages.chunks(TOGETHER) {
        let outcome = netlink.request_all(part.to_vec(), &[libc::ENOENT, libc::ESRCH, libc::EEXIST, libc::ENODEV]);
        outcome.map_err(refused("change the routes to tasks on nodes of the same link"))?;
    }
    Ok(())
}

fn one(is_new: bool, new: Rt, old: Rt) -> Message {
    if is_new { route_message(&new, CREATE | REPLACE) } else { route_message(&old, 0) }
}

fn route(way: &DirectWay, device: u32) -> RouteMessage {
    route_to(way.address, way.via, device, MAIN_TABLE)
}

/// A route to one address by a node on that link.
pub(super) fn route_to(address: IpAddr, via: IpAddr, device: u32, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = host_prefix(address);
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::Onlink;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(address)),
        RouteAttribute::Gateway(RouteAddress::from(via)),
        RouteAttribute::Oif(device),
        RouteAttribute::Table(table),
    ];
    message
}

const fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn answer(way: &DirectWay, bridge: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(way.address);
    message.header.ifindex = bridge;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::from(way.address))];
    message
}

/// Lists what is whole: a route without its answer, or the other way round, is made anew.
pub(super) fn list(
    netlink: &mut Netlink,
    links: &[Link],
    bridges: &[&Link],
) -> Result<BTreeSet<DirectWay>, KernelError> {
    let mut found = BTreeSet::new();
    if bridges.is_empty() {
        return Ok(found);
    }
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let answers = answers(netlink, family, bridges)?;
        if answers.is_empty() {
            continue;
        }
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for answer in netlink.dump(&route_message(&Rt::GetRoute(ask), 0)).map_err(refused("list routes"))? {
            let Some(Rt::NewRoute(message)) = read_route(&answer) else { continue };
            let Some((address, via, device)) = read(&message, links) else { continue };
            if let Some(bridge) = answers.get(&address) {
                found.insert(DirectWay { address, via, device, bridge: bridge.clone() });
            }
        }
    }
    Ok(found)
}

/// Addresses that our bridges answer for.
fn answers(
    netlink: &mut Netlink,
    family: AddressFamily,
    bridges: &[&Link],
) -> Result<BTreeMap<IpAddr, LinkName>, KernelError> {
    let mut ask = NeighbourMessage::default();
    ask.header.family = family;
    ask.header.flags = NeighbourFlags::Proxy;
    let mut found = BTreeMap::new();
    let ask = route_message(&Rt::GetNeighbour(ask), 0);
    for answer in netlink.dump(&ask).map_err(refused("list addresses that bridges answer for"))? {
        let Some(Rt::NewNeighbour(message)) = read_route(&answer) else { continue };
        let bridge = bridges.iter().find(|link| link.index == message.header.ifindex);
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
            _ => None,
        });
        found.extend(address.zip(bridge.map(|link| LinkName::listed(&link.name))));
    }
    Ok(found)
}

fn read(message: &RouteMessage, links: &[Link]) -> Option<(IpAddr, IpAddr, LinkName)> {
    let (mut to, mut via, mut index) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => to = Some(IpAddr::V4(*a)),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => to = Some(IpAddr::V6(*a)),
            RouteAttribute::Gateway(RouteAddress::Inet(a)) => via = Some(IpAddr::V4(*a)),
            RouteAttribute::Gateway(RouteAddress::Inet6(a)) => via = Some(IpAddr::V6(*a)),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    let to = to.filter(|to| message.header.destination_prefix_length == host_prefix(*to))?;
    let device = links.iter().find(|link| Some(link.index) == index)?;
    (message.header.protocol == PROTOCOL).then_some((to, via?, LinkName::listed(&device.name)))
}
