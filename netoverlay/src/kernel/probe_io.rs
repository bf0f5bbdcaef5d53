//! Where probes go that go straight: a rule for their mark, a table of routes. Requests and listings on a route socket,
//! idempotent like those of `route_io`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::RouteNetlinkMessage as Rt;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::KernelError;
use super::direct_io::route_to;
use super::netlink::{Netlink, read_route, route_message};
use super::route_io::{EXCLUSIVE, Link, PROTOCOL, REPLACE, index_of, refused};
use crate::model::ProbeWay;
use crate::names::LinkName;
use crate::nft::message::{CREATE, Message};
use crate::plan::{PROBE_MARK, PROBE_PORT};

/// The table with the routes of probes, and the order of the rule that leads there: after that of replies, before the main table.
const PROBE_TABLE: u32 = PROBE_PORT as u32;
const PROBE_PRIORITY: u32 = 901;
/// Requests that are sent together.
const TOGETHER: usize = 256;

/// Removes and adds ways, many requests at a time.
pub(super) fn change(netlink: &mut Netlink, remove: &[ProbeWay], add: &[ProbeWay]) -> Result<(), KernelError> {
    let mut messages = Vec::new();
    let mut known: Option<(LinkName, Option<u32>)> = None;
    for (way, is_new) in remove.iter().map(|way| (way, false)).chain(add.iter().map(|way| (way, true))) {
        match way {
            ProbeWay::Rule { v6 } => messages.push(rule_message(*v6, is_new)),
            ProbeWay::Route { to, via, device } => {
                if known.as_ref().is_none_or(|(name, _)| name != device) {
                    // What led by a device that is gone went with it.
                    known = Some((device.clone(), index_of(netlink, device).ok()));
                }
                let Some(index) = known.as_ref().and_then(|(_, index)| *index) else { continue };
                let route = route_to(*to, *via, index, PROBE_TABLE);
                messages.push(match is_new {
                    true => route_message(&Rt::NewRoute(route), CREATE | REPLACE),
                    false => route_message(&Rt::DelRoute(route), 0),
                });
            }
        }
    }
    for part in messages.chunks(TOGETHER) {
        let harmless = [libc::ENOENT, libc::ESRCH, libc::EEXIST, libc::ENODEV, libc::EAFNOSUPPORT];
        let outcome = netlink.request_all(part.to_vec(), &harmless);
        outcome.map_err(refused("change the routes of probes"))?;
    }
    Ok(())
}

/// Removes everything, whatever it leads to.
pub(super) fn clear(netlink: &mut Netlink, links: &[Link]) -> Result<(), KernelError> {
    let found: Vec<ProbeWay> = list(netlink, links)?.into_iter().collect();
    change(netlink, &found, &[])
}

fn rule_message(v6: bool, is_new: bool) -> Message {
    let mut message = RuleMessage::default();
    message.header.family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(PROBE_PRIORITY),
        RuleAttribute::Protocol(PROTOCOL),
        RuleAttribute::FwMark(PROBE_MARK),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Table(PROBE_TABLE),
    ];
    match is_new {
        true => route_message(&Rt::NewRule(message), CREATE | EXCLUSIVE),
        false => route_message(&Rt::DelRule(message), 0),
    }
}

/// Lists the rules and the routes.
pub(super) fn list(netlink: &mut Netlink, links: &[Link]) -> Result<BTreeSet<ProbeWay>, KernelError> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RuleMessage::default();
        ask.header.family = family;
        let rules = netlink.dump(&route_message(&Rt::GetRule(ask), 0)).map_err(refused("list rules"))?;
        let to_ours = |answer| match read_route(answer) {
            Some(Rt::NewRule(rule)) => rule.attributes.contains(&RuleAttribute::Table(PROBE_TABLE)),
            _ => false,
        };
        if rules.iter().any(to_ours) {
            found.insert(ProbeWay::Rule { v6: family == AddressFamily::Inet6 });
        }
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for answer in netlink.dump(&route_message(&Rt::GetRoute(ask), 0)).map_err(refused("list routes"))? {
            let Some(Rt::NewRoute(message)) = read_route(&answer) else { continue };
            found.extend(read(&message, links));
        }
    }
    Ok(found)
}

fn read(message: &RouteMessage, links: &[Link]) -> Option<ProbeWay> {
    let (mut to, mut via, mut index, mut table) = (None, None, None, 0);
    let address = |address: &RouteAddress| match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(found) => to = address(found),
            RouteAttribute::Gateway(found) => via = address(found),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let device = links.iter().find(|link| Some(link.index) == index)?;
    let is_ours = message.header.protocol == PROTOCOL && table == PROBE_TABLE;
    is_ours.then_some(ProbeWay::Route { to: to?, via: via?, device: LinkName::listed(&device.name) })
}
