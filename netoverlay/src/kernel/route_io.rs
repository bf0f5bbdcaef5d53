//! Links, addresses, routes and rules: requests and listings on a route socket.
//!
//! Each request is idempotent: "exists already" on adding and "does not exist" on removing are successes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoBridgePort, InfoData, InfoKind, InfoMacVlan, InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Rt};

use super::KernelError;
use super::netlink::{Netlink, read_route, route_message};
use super::tunnel_io::{Vxlan, is_quiet, read_vxlan};
use crate::model::{MacAddr, MacvlanMode};
use crate::names::LinkName;
use crate::nft::message::CREATE;
use crate::plan::{BridgePort, LinkPlan, Route, SourceRule};

/// Marks our routes and rules; see `/etc/iproute2/rt_protos` for the numbers that others use.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(66);
pub(super) const EXCLUSIVE: u16 = 0x200;
pub(super) const REPLACE: u16 = 0x100;

/// A link as listed.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub mtu: u32,
    pub mac: Option<MacAddr>,
    pub master: Option<u32>,
    /// A bridge port that exchanges no frames with others like it.
    pub isolated: bool,
    /// It is a tunnel.
    pub vxlan: Option<Vxlan>,
    /// A bridge port that asks for no addresses that are known, and learns none.
    pub quiet: bool,
    pub addresses: BTreeSet<IpNet>,
}

pub(super) fn refused(what: impl Into<String>) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Refused { what: what.into(), source }
}

/// Takes some errno values for success.
pub(super) fn unless(codes: &[i32], result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error().is_some_and(|code| codes.contains(&code)) => Ok(()),
        other => other,
    }
}

fn link_message(index: u32, up: bool, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    if up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = attributes;
    message
}

/// Makes a bridge, down.
pub(super) fn create_bridge(
    netlink: &mut Netlink,
    bridge: &LinkName,
    mac: MacAddr,
    mtu: u32,
) -> Result<(), KernelError> {
    let attributes = vec![
        LinkAttribute::IfName(bridge.as_str().to_owned()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    let message = route_message(&Rt::NewLink(link_message(0, false, attributes)), CREATE | EXCLUSIVE);
    unless(&[libc::EEXIST], netlink.request(message)).map_err(refused(format!("make bridge {bridge}")))
}

/// Makes a link whose inner end is born in `namespace`, down, the outer one up and plugged in.
pub(super) fn create_veth(
    netlink: &mut Netlink,
    plan: &LinkPlan,
    port: &BridgePort,
    namespace: BorrowedFd<'_>,
) -> Result<(), KernelError> {
    let what = || format!("connect {} to {}", port.outside, port.bridge);
    let bridge = index_of(netlink, &port.bridge)?;
    let peer = vec![
        LinkAttribute::IfName(plan.inside.as_str().to_owned()),
        LinkAttribute::Address(plan.mac.0.to_vec()),
        LinkAttribute::Mtu(plan.mtu),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
    ];
    // Down: the kernel refuses (ENOTCONN) to open the end that it makes first.
    let peer = InfoData::Veth(InfoVeth::Peer(link_message(0, false, peer)));
    let attributes = vec![
        LinkAttribute::IfName(port.outside.as_str().to_owned()),
        LinkAttribute::Mtu(plan.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(peer)]),
    ];
    let message = route_message(&Rt::NewLink(link_message(0, true, attributes)), CREATE | EXCLUSIVE);
    netlink.request(message).map_err(refused(what()))
}

/// Makes a link on a link of the node; it is born in `namespace`, down.
pub(super) fn create_macvlan(
    netlink: &mut Netlink,
    plan: &LinkPlan,
    parent: &LinkName,
    mode: MacvlanMode,
    namespace: BorrowedFd<'_>,
) -> Result<(), KernelError> {
    let mode = match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
    };
    let settings = InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]);
    let attributes = vec![
        LinkAttribute::IfName(plan.inside.as_str().to_owned()),
        LinkAttribute::Link(index_of(netlink, parent)?),
        LinkAttribute::Address(plan.mac.0.to_vec()),
        LinkAttribute::Mtu(plan.mtu),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(settings)]),
    ];
    let message = route_message(&Rt::NewLink(link_message(0, false, attributes)), CREATE | EXCLUSIVE);
    netlink.request(message).map_err(refused(format!("make a macvlan link on {parent}")))
}

/// Sets a link up, and its payload size and bridge where given.
pub(super) fn set_link(
    netlink: &mut Netlink,
    link: &LinkName,
    mtu: Option<u32>,
    bridge: Option<&LinkName>,
) -> Result<(), KernelError> {
    let index = index_of(netlink, link)?;
    let mut attributes: Vec<LinkAttribute> = mtu.map(LinkAttribute::Mtu).into_iter().collect();
    if let Some(bridge) = bridge {
        attributes.push(LinkAttribute::Controller(index_of(netlink, bridge)?));
    }
    let message = route_message(&Rt::SetLink(link_message(index, true, attributes)), 0);
    netlink.request(message).map_err(refused(format!("set up {link}")))
}

/// Lets a bridge's port exchange frames with its other isolated ports, or not.
pub(super) fn set_isolated(netlink: &mut Netlink, port: &LinkName, isolated: bool) -> Result<(), KernelError> {
    let index = index_of(netlink, port)?;
    let settings = InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(isolated)]);
    let info = LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(settings)]);
    // Settings of a port are changed by "new link" alone, without the flag that would make one.
    let message = route_message(&Rt::NewLink(link_message(index, true, vec![info])), 0);
    netlink.request(message).map_err(refused(format!("set whether {port} is isolated")))
}

/// Deletes a link.
pub(super) fn delete_link(netlink: &mut Netlink, link: &LinkName) -> Result<(), KernelError> {
    let attributes = vec![LinkAttribute::IfName(link.as_str().to_owned())];
    let message = route_message(&Rt::DelLink(link_message(0, false, attributes)), 0);
    unless(&[libc::ENODEV], netlink.request(message)).map_err(refused(format!("delete {link}")))
}

/// The index of a link.
pub(super) fn index_of(netlink: &mut Netlink, link: &LinkName) -> Result<u32, KernelError> {
    let attributes = vec![LinkAttribute::IfName(link.as_str().to_owned())];
    let message = route_message(&Rt::GetLink(link_message(0, false, attributes)), 0);
    let answer = netlink.get(message).map_err(refused(format!("find {link}")))?;
    match answer.as_ref().and_then(read_route) {
        Some(Rt::NewLink(found)) => Ok(found.header.index),
        _ => Err(KernelError::Answer { what: format!("find {link}"), why: "not a link".to_owned() }),
    }
}

/// `None` where a link does not exist.
fn known<T>(found: Result<T, KernelError>) -> Result<Option<T>, KernelError> {
    match found {
        Err(KernelError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        other => other.map(Some),
    }
}

fn address_message(index: u32, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    match address {
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V4(_) => {}
        // Addresses are given out once by the managers: no need to wait for duplicate detection.
        IpNet::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    message
}

/// Gives a link an address.
pub(super) fn add_address(netlink: &mut Netlink, link: &LinkName, address: IpNet) -> Result<(), KernelError> {
    let index = index_of(netlink, link)?;
    let message = route_message(&Rt::NewAddress(address_message(index, address)), CREATE | REPLACE);
    netlink.request(message).map_err(refused(format!("add {address} to {link}")))
}

/// Takes an address from a link.
pub(super) fn remove_address(netlink: &mut Netlink, link: &LinkName, address: IpNet) -> Result<(), KernelError> {
    let Some(index) = known(index_of(netlink, link))? else { return Ok(()) };
    let message = route_message(&Rt::DelAddress(address_message(index, address)), 0);
    unless(&[libc::EADDRNOTAVAIL, libc::ENODEV], netlink.request(message))
        .map_err(refused(format!("remove {address} from {link}")))
}

fn default_route(netlink: &mut Netlink, route: &Route) -> Result<RouteMessage, KernelError> {
    let index = index_of(netlink, &route.device)?;
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.via);
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(route.via)),
        RouteAttribute::Oif(index),
        RouteAttribute::Table(route.table),
    ];
    Ok(message)
}

/// Adds a default route.
pub(super) fn add_route(netlink: &mut Netlink, route: &Route) -> Result<(), KernelError> {
    let message = route_message(&Rt::NewRoute(default_route(netlink, route)?), CREATE | REPLACE);
    netlink.request(message).map_err(refused(format!("route via {} on {}", route.via, route.device)))
}

/// Removes a default route. One whose link is gone went with it.
pub(super) fn remove_route(netlink: &mut Netlink, route: &Route) -> Result<(), KernelError> {
    let Some(message) = known(default_route(netlink, route))? else { return Ok(()) };
    let message = route_message(&Rt::DelRoute(message), 0);
    unless(&[libc::ESRCH, libc::ENODEV], netlink.request(message))
        .map_err(refused(format!("remove the route via {}", route.via)))
}

fn rule_message(rule: SourceRule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if rule.is_v6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![RuleAttribute::Priority(rule.priority()), RuleAttribute::Protocol(PROTOCOL)];
    match rule {
        SourceRule::ConnectedFirst { .. } => {
            message.attributes.push(RuleAttribute::Table(crate::plan::MAIN_TABLE));
            message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
        }
        SourceRule::From { source, table } => {
            message.header.src_len = source.prefix_len();
            message.attributes.push(RuleAttribute::Source(source.addr()));
            message.attributes.push(RuleAttribute::Table(table));
        }
    }
    message
}

/// Adds a policy rule.
pub(super) fn add_rule(netlink: &mut Netlink, rule: SourceRule) -> Result<(), KernelError> {
    let message = route_message(&Rt::NewRule(rule_message(rule)), CREATE | EXCLUSIVE);
    unless(&[libc::EEXIST], netlink.request(message)).map_err(refused(format!("add {rule:?}")))
}

/// Removes a policy rule.
pub(super) fn remove_rule(netlink: &mut Netlink, rule: SourceRule) -> Result<(), KernelError> {
    let message = route_message(&Rt::DelRule(rule_message(rule)), 0);
    unless(&[libc::ENOENT], netlink.request(message)).map_err(refused(format!("remove {rule:?}")))
}

/// Lists all links with their addresses; link-local ones are left out.
pub(super) fn links(netlink: &mut Netlink) -> Result<Vec<Link>, KernelError> {
    let mut links = BTreeMap::new();
    let ask = route_message(&Rt::GetLink(LinkMessage::default()), 0);
    for answer in netlink.dump(&ask).map_err(refused("list links"))? {
        let Some(Rt::NewLink(message)) = read_route(&answer) else { continue };
        let link = read_link(&message);
        links.insert(link.index, link);
    }
    let ask = route_message(&Rt::GetAddress(AddressMessage::default()), 0);
    for answer in netlink.dump(&ask).map_err(refused("list addresses"))? {
        let Some(Rt::NewAddress(message)) = read_route(&answer) else { continue };
        let Some(link) = links.get_mut(&message.header.index) else { continue };
        link.addresses.extend(read_address(&message));
    }
    Ok(links.into_values().collect())
}

fn read_link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        mac: None,
        master: None,
        isolated: false,
        vxlan: None,
        quiet: false,
        addresses: BTreeSet::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr),
            LinkAttribute::Controller(master) => link.master = Some(*master),
            LinkAttribute::LinkInfo(infos) => {
                link.isolated = infos.iter().any(is_isolated);
                link.vxlan = read_vxlan(infos);
                link.quiet = is_quiet(infos);
            }
            _ => {}
        }
    }
    link
}

fn is_isolated(info: &LinkInfo) -> bool {
    let LinkInfo::PortData(InfoPortData::BridgePort(settings)) = info else { return false };
    settings.iter().any(|setting| matches!(setting, InfoBridgePort::Isolated(true)))
}

fn read_address(message: &AddressMessage) -> Option<IpNet> {
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    let address = find(true).or_else(|| find(false))?;
    let link_local = matches!(address, IpAddr::V6(a) if a.is_unicast_link_local());
    if link_local { None } else { IpNet::new(address, message.header.prefix_len).ok() }
}

/// Lists our routes.
pub(super) fn routes(netlink: &mut Netlink, links: &[Link]) -> Result<BTreeSet<Route>, KernelError> {
    let mut routes = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for answer in netlink.dump(&route_message(&Rt::GetRoute(ask), 0)).map_err(refused("list routes"))? {
            if let Some(Rt::NewRoute(message)) = read_route(&answer) {
                routes.extend(read_route_entry(&message, links));
            }
        }
    }
    Ok(routes)
}

fn read_route_entry(message: &RouteMessage, links: &[Link]) -> Option<Route> {
    if message.header.protocol != PROTOCOL || message.header.destination_prefix_length != 0 {
        return None;
    }
    let (mut via, mut index, mut table) = (None, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(a)) => via = Some(IpAddr::V4(*a)),
            RouteAttribute::Gateway(RouteAddress::Inet6(a)) => via = Some(IpAddr::V6(*a)),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let device = links.iter().find(|l| Some(l.index) == index)?;
    Some(Route { table, via: via?, device: LinkName::listed(&device.name) })
}

/// Lists what the node's tables lead to, by whatever way but over `own` links; default routes are left out. Programs that keep
/// private networks together (VPNs) have tables of their own beside the main one.
pub(super) fn destinations(netlink: &mut Netlink, own: &[Link]) -> Result<Vec<IpNet>, KernelError> {
    const LOCAL_TABLE: u32 = 255;
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for answer in netlink.dump(&route_message(&Rt::GetRoute(ask), 0)).map_err(refused("list routes"))? {
            let Some(Rt::NewRoute(message)) = read_route(&answer) else { continue };
            let local = u32::from(message.header.table) == LOCAL_TABLE;
            let over = |a: &RouteAttribute| matches!(a, RouteAttribute::Oif(i) if own.iter().any(|l| l.index == *i));
            let ours = message.header.protocol == PROTOCOL;
            if !local && !ours && !message.attributes.iter().any(over) {
                found.extend(message.attributes.iter().find_map(|a| destination(&message, a)));
            }
        }
    }
    Ok(found)
}

fn destination(message: &RouteMessage, attribute: &RouteAttribute) -> Option<IpNet> {
    let address = match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => IpAddr::V4(*a),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) if !a.is_unicast_link_local() => IpAddr::V6(*a),
        _ => return None,
    };
    IpNet::new(address, message.header.destination_prefix_length).ok().filter(|net| net.prefix_len() > 0)
}

/// Lists our policy rules.
pub(super) fn rules(netlink: &mut Netlink) -> Result<BTreeSet<SourceRule>, KernelError> {
    let mut rules = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RuleMessage::default();
        ask.header.family = family;
        for answer in netlink.dump(&route_message(&Rt::GetRule(ask), 0)).map_err(refused("list rules"))? {
            if let Some(Rt::NewRule(message)) = read_route(&answer) {
                rules.extend(read_rule(&message, family == AddressFamily::Inet6));
            }
        }
    }
    Ok(rules)
}

fn read_rule(message: &RuleMessage, v6: bool) -> Option<SourceRule> {
    let (mut ours, mut source, mut table) = (false, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => ours = *protocol == PROTOCOL,
            RuleAttribute::Source(address) => source = IpNet::new(*address, message.header.src_len).ok(),
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let rule = match source {
        Some(source) => SourceRule::From { source, table },
        None => SourceRule::ConnectedFirst { v6 },
    };
    ours.then_some(rule)
}

pub(super) fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet }
}
