//! Tunnels: VXLAN devices, forwarding and neighbour entries, the policy route of replies. Requests and listings on a route
//! socket, idempotent like those of `route_io`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use super::KernelError;
use super::netlink::{Netlink, read_route, route_message};
use super::route_io::{EXCLUSIVE, Link, PROTOCOL, REPLACE, family, index_of, refused, unless};
use crate::model::{MacAddr, Way};
use crate::names::{LinkName, NODE_MARK};
use crate::nft::message::{APPEND, CREATE, Message};
use crate::plan::{TunnelPlan, return_gateway};

/// The table with the default route of replies, and the order of the rule that leads there: before the main table.
const RETURN_TABLE: u32 = 4789;
const RETURN_PRIORITY: u32 = 900;
/// An identifier that was deleted can be taken again a moment later: tried this many times, 10 ms apart.
const ATTEMPTS: u32 = 50;
/// Requests that are sent together.
const TOGETHER: usize = 256;

/// What makes a tunnel what it is, as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Vxlan {
    pub vni: u32,
    pub port: u16,
    pub local: Option<IpAddr>,
}

/// The settings of a VXLAN device among a link's.
pub(super) fn read_vxlan(infos: &[LinkInfo]) -> Option<Vxlan> {
    let settings = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vxlan(settings)) => Some(settings),
        _ => None,
    })?;
    let mut found = Vxlan::default();
    for setting in settings {
        match setting {
            InfoVxlan::Id(vni) => found.vni = *vni,
            InfoVxlan::Port(port) => found.port = *port,
            InfoVxlan::Local(address) => found.local = Some(IpAddr::V4(*address)),
            InfoVxlan::Local6(address) => found.local = Some(IpAddr::V6(*address)),
            _ => {}
        }
    }
    Some(found)
}

/// Whether a bridge's port asks for no addresses that are known, and learns none.
pub(super) fn is_quiet(infos: &[LinkInfo]) -> bool {
    let settings = infos.iter().find_map(|info| match info {
        LinkInfo::PortData(InfoPortData::BridgePort(settings)) => Some(settings),
        _ => None,
    });
    let has = |wanted: fn(&InfoBridgePort) -> bool| settings.is_some_and(|settings| settings.iter().any(wanted));
    has(|s| matches!(s, InfoBridgePort::NeighSupress(true))) && has(|s| matches!(s, InfoBridgePort::Learning(false)))
}

/// Makes a tunnel, down. Its frames go where they are told, nothing is learned from what comes in.
pub(super) fn create(netlink: &mut Netlink, plan: &TunnelPlan) -> Result<(), KernelError> {
    let local = match plan.local {
        Some(IpAddr::V4(address)) => InfoVxlan::Local(address),
        Some(IpAddr::V6(address)) => InfoVxlan::Local6(address),
        // By IPv6, from where the route says.
        None => InfoVxlan::Local6(Ipv6Addr::UNSPECIFIED),
    };
    let settings = vec![InfoVxlan::Id(plan.vni), local, InfoVxlan::Port(plan.port), InfoVxlan::Learning(false)];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(plan.link.as_str().to_owned()),
        LinkAttribute::Address(plan.mac.0.to_vec()),
        LinkAttribute::Mtu(plan.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(settings))]),
    ];
    let message = route_message(&Rt::NewLink(message), CREATE | EXCLUSIVE);
    let mut outcome = netlink.request(message.clone());
    for _ in 0..ATTEMPTS {
        match &outcome {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                std::thread::sleep(std::time::Duration::from_millis(10));
                outcome = netlink.request(message.clone());
            }
            _ => break,
        }
    }
    outcome.map_err(refused(format!("make tunnel {} with identifier {}", plan.link, plan.vni)))
}

/// Puts a tunnel up, with its payload size, into its bridge: quiet there.
pub(super) fn set_up(netlink: &mut Netlink, plan: &TunnelPlan) -> Result<(), KernelError> {
    let index = index_of(netlink, &plan.link)?;
    let message = |attributes| {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = attributes;
        message
    };
    let what = || refused(format!("set up tunnel {}", plan.link));
    let mut attributes = vec![LinkAttribute::Mtu(plan.mtu)];
    if let Some(bridge) = &plan.bridge {
        attributes.push(LinkAttribute::Controller(index_of(netlink, bridge)?));
    }
    netlink.request(route_message(&Rt::SetLink(message(attributes)), 0)).map_err(what())?;
    if plan.bridge.is_some() {
        let settings = vec![InfoBridgePort::NeighSupress(true), InfoBridgePort::Learning(false)];
        let settings = LinkInfo::PortData(InfoPortData::BridgePort(settings));
        let info = LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), settings]);
        netlink.request(route_message(&Rt::NewLink(message(vec![info])), 0)).map_err(what())?;
    }
    Ok(())
}

/// Removes and adds ways, many requests at a time. What has another node now is replaced, so that no frame finds it missing: the
/// old way then is not there to be removed any more, unless it is one of several.
pub(super) fn change_ways(
    netlink: &mut Netlink,
    tunnel: &LinkName,
    bridge: Option<&LinkName>,
    remove: &[Way],
    add: &[Way],
) -> Result<(), KernelError> {
    let device = index_of(netlink, tunnel)?;
    let places = Places { tunnel: device, neighbours: bridge.map_or(Ok(device), |b| index_of(netlink, b))? };
    let (ends, rest): (Vec<&Way>, Vec<&Way>) =
        remove.iter().partition(|way| matches!(way, Way::Station { .. } | Way::Flood { .. }));
    let removals = |ways: Vec<&Way>| ways.into_iter().map(|way| places.message(way, false)).collect::<Vec<_>>();
    let additions = add.iter().map(|way| places.message(way, true));
    let all: Vec<Message> = removals(rest).into_iter().chain(additions).chain(removals(ends)).collect();
    for part in all.chunks(TOGETHER) {
        let outcome = netlink.request_all(part.to_vec(), &[libc::ENOENT, libc::EEXIST, libc::ENODEV]);
        outcome.map_err(refused(format!("change the ways of tunnel {tunnel}")))?;
    }
    Ok(())
}

struct Places {
    tunnel: u32,
    neighbours: u32,
}

impl Places {
    fn message(&self, way: &Way, is_new: bool) -> Message {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.tunnel;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unspec;
        let mut flags = CREATE | REPLACE;
        match way {
            Way::Flood { via } => {
                flags = CREATE | APPEND;
                message.header.flags = NeighbourFlags::Own;
                message.attributes = vec![NeighbourAttribute::LinkLayerAddress(vec![0; 6]), destination(*via)];
            }
            Way::Station { mac, via } => {
                message.header.flags = NeighbourFlags::Own;
                message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()), destination(*via)];
            }
            Way::Port { mac } => {
                // Static, but not of the bridge itself.
                message.header.state = NeighbourState::Noarp;
                // It stays there although a task on this node sends in its name: static entries alone follow the sender.
                message.header.flags = NeighbourFlags::Controller | NeighbourFlags::Sticky;
                message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
            }
            Way::Neighbour { address, mac } => {
                message.header.family = family(*address);
                message.header.ifindex = self.neighbours;
                message.attributes = vec![destination(*address), NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())];
            }
        }
        match is_new {
            true => route_message(&Rt::NewNeighbour(message), flags),
            false => route_message(&Rt::DelNeighbour(message), 0),
        }
    }
}

fn destination(address: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(NeighbourAddress::from(address))
}

/// Lists the ways of all tunnels. `devices` are the tunnels, each with the device that its neighbours are on.
pub(super) fn ways(
    netlink: &mut Netlink,
    devices: &[(&Link, u32)],
) -> Result<BTreeMap<u32, BTreeSet<Way>>, KernelError> {
    let mut found: BTreeMap<u32, BTreeSet<Way>> = BTreeMap::new();
    if devices.is_empty() {
        return Ok(found);
    }
    for family in [AddressFamily::Bridge, AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = NeighbourMessage::default();
        ask.header.family = family;
        let ask = route_message(&Rt::GetNeighbour(ask), 0);
        for answer in netlink.dump(&ask).map_err(refused("list neighbours"))? {
            let Some(Rt::NewNeighbour(message)) = read_route(&answer) else { continue };
            let index = message.header.ifindex;
            let of = |(link, neighbours): &&(&Link, u32)| match family {
                AddressFamily::Bridge => link.index == index,
                _ => *neighbours == index,
            };
            let Some((link, _)) = devices.iter().find(of) else { continue };
            found.entry(link.index).or_default().extend(read_way(&message, family));
        }
    }
    Ok(found)
}

/// A way as we make it; `None` for what the kernel or others put there.
fn read_way(message: &NeighbourMessage, family: AddressFamily) -> Option<Way> {
    let (mut mac, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some(IpAddr::V6(*a)),
            // Of a forwarding entry the library does not say of which family the address is.
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => address = from_bytes(bytes),
            _ => {}
        }
    }
    let mac = MacAddr(mac?);
    if family != AddressFamily::Bridge {
        let is_ours = message.header.state == NeighbourState::Permanent;
        return Some(Way::Neighbour { address: address.filter(|_| is_ours)?, mac });
    }
    if message.header.flags.contains(NeighbourFlags::Own) {
        let via = address?;
        return Some(if mac.0 == [0; 6] { Way::Flood { via } } else { Way::Station { mac, via } });
    }
    let is_static = message.header.state == NeighbourState::Noarp;
    let is_sticky = message.header.flags.contains(NeighbourFlags::Sticky);
    (is_static && is_sticky).then_some(Way::Port { mac })
}

fn from_bytes(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}

/// Leads marked packets out of the ingress device.
pub(super) fn add_return(netlink: &mut Netlink, link: &LinkName, v6: bool) -> Result<(), KernelError> {
    let index = index_of(netlink, link)?;
    let route = route_message(&Rt::NewRoute(return_route(index, v6)), CREATE | REPLACE);
    netlink.request(route).map_err(refused(format!("route replies by {link}")))?;
    let rule = route_message(&Rt::NewRule(return_rule(v6)), CREATE | EXCLUSIVE);
    unless(&[libc::EEXIST], netlink.request(rule)).map_err(refused("add the rule for replies"))
}

/// Undoes that; the route went with the device.
pub(super) fn remove_return(netlink: &mut Netlink, v6: bool) -> Result<(), KernelError> {
    let rule = route_message(&Rt::DelRule(return_rule(v6)), 0);
    let gone = [libc::ENOENT, libc::EAFNOSUPPORT];
    unless(&gone, netlink.request(rule)).map_err(refused("remove the rule for replies"))
}

fn return_route(index: u32, v6: bool) -> RouteMessage {
    let gateway = return_gateway(v6);
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.header.flags = RouteFlags::Onlink;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
        RouteAttribute::Oif(index),
        RouteAttribute::Table(RETURN_TABLE),
    ];
    message
}

fn return_rule(v6: bool) -> RuleMessage {
    let [b, t] = NODE_MARK;
    let mut message = RuleMessage::default();
    message.header.family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(RETURN_PRIORITY),
        RuleAttribute::Protocol(PROTOCOL),
        RuleAttribute::FwMark(u32::from_ne_bytes([b, t, 0, 0])),
        RuleAttribute::FwMask(u32::from_ne_bytes([255, 255, 0, 0])),
        RuleAttribute::Table(RETURN_TABLE),
    ];
    message
}

/// Whether marked packets of a family leave by the ingress device.
pub(super) fn has_return(netlink: &mut Netlink, v6: bool) -> Result<bool, KernelError> {
    let family = if v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let dump = |netlink: &mut Netlink, ask: &Message| -> io::Result<Vec<Rt>> {
        Ok(netlink.dump(ask)?.iter().filter_map(read_route).collect())
    };
    let mut ask = RuleMessage::default();
    ask.header.family = family;
    let rules = dump(netlink, &route_message(&Rt::GetRule(ask), 0)).map_err(refused("list rules"))?;
    let to_ours = |message: &Rt| match message {
        Rt::NewRule(rule) => rule.attributes.contains(&RuleAttribute::Table(RETURN_TABLE)),
        _ => false,
    };
    let mut ask = RouteMessage::default();
    ask.header.address_family = family;
    let routes = dump(netlink, &route_message(&Rt::GetRoute(ask), 0)).map_err(refused("list routes"))?;
    let in_ours = |message: &Rt| match message {
        Rt::NewRoute(route) => {
            route.header.protocol == PROTOCOL && route.attributes.contains(&RouteAttribute::Table(RETURN_TABLE))
        }
        _ => false,
    };
    Ok(rules.iter().any(to_ours) && routes.iter().any(in_ours))
}
