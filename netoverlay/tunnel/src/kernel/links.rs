//! Links, addresses and routes, the same for both kinds of device.
//!
//! Each request is idempotent: "exists already" on adding and "does not exist" on removing are successes.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkSerializable};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Rt};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::netlink::{Answer, CREATE, EXCLUSIVE, Netlink, REPLACE, refused, unless};
use crate::TunnelError;
use crate::model::Route;
use crate::name::{DeviceName, INNER_PREFIX, Instance, is_inner};

/// Marks Berth's routes; see `/etc/iproute2/rt_protos` for the numbers that others use.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(66);
const MAIN_TABLE: u8 = 254;
const LOCAL_PATIENCE: Duration = Duration::from_secs(1);
const GUARD_BITS: u8 = 16;
/// The last route that is asked.
const GUARD_METRIC: u32 = u32::MAX;

/// A link as listed.
#[derive(Debug)]
pub(super) struct Link {
    pub name: DeviceName,
    pub index: u32,
    pub kind: String,
    pub up: bool,
    pub mtu: u32,
    pub addresses: BTreeSet<Ipv6Addr>,
}

/// A route socket.
#[derive(Debug)]
pub(super) struct Links(Netlink);

impl Links {
    pub fn open() -> Result<Self, TunnelError> {
        Netlink::open(NETLINK_ROUTE).map(Self)
    }

    fn send(&mut self, message: &Rt, flags: u16) -> std::io::Result<Vec<Answer>> {
        self.0.request(message.message_type(), flags, &bytes(message))
    }

    fn dump(&mut self, what: &str, message: &Rt) -> Result<Vec<Rt>, TunnelError> {
        let answers = self.0.dump(message.message_type(), &bytes(message)).map_err(refused(what))?;
        Ok(answers.iter().filter_map(read).collect())
    }

    /// The links with names of an instance.
    pub fn list(&mut self, instance: &Instance) -> Result<Vec<Link>, TunnelError> {
        let mut links = Vec::new();
        for answer in self.dump("list links", &Rt::GetLink(LinkMessage::default()))? {
            if let Rt::NewLink(message) = answer {
                links.extend(read_link(&message, instance));
            }
        }
        let mut ask = AddressMessage::default();
        ask.header.family = AddressFamily::Inet6;
        for answer in self.dump("list addresses", &Rt::GetAddress(ask))? {
            let Rt::NewAddress(message) = answer else { continue };
            let Some(link) = links.iter_mut().find(|link| link.index == message.header.index) else { continue };
            link.addresses.extend(read_address(&message));
        }
        Ok(links)
    }

    fn index(&mut self, name: &DeviceName) -> Result<u32, TunnelError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_string())];
        let answers = self.send(&Rt::GetLink(message), 0).map_err(refused(format!("find tunnel {name}")))?;
        let found = answers.iter().filter_map(read).find_map(|answer| match answer {
            Rt::NewLink(link) => Some(link.header.index),
            _ => None,
        });
        found.ok_or_else(|| refused(format!("find tunnel {name}"))(std::io::ErrorKind::NotFound.into()))
    }

    /// Makes a link of the kernel's WireGuard, down.
    pub fn make_wireguard(&mut self, name: &DeviceName) -> Result<(), TunnelError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_string()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]),
        ];
        unless(&[libc::EEXIST], self.send(&Rt::NewLink(message), CREATE | EXCLUSIVE))
            .map_err(refused(format!("make tunnel {name}")))
    }

    /// Deletes a link.
    pub fn remove(&mut self, name: &DeviceName) -> Result<(), TunnelError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_string())];
        unless(&[libc::ENODEV], self.send(&Rt::DelLink(message), 0)).map_err(refused(format!("remove tunnel {name}")))
    }

    /// Sets the largest packet, and the link up.
    pub fn set_up(&mut self, name: &DeviceName, mtu: u32) -> Result<(), TunnelError> {
        // No address of its own making, and no packets to find routers: nobody is at the other end for those.
        set(name, "addr_gen_mode", "1")?;
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::Mtu(mtu)];
        self.send(&Rt::SetLink(message), 0).map(drop).map_err(refused(format!("set up tunnel {name}")))
    }

    /// Gives a link that is up an address, and waits until packets to it arrive.
    pub fn add_address(&mut self, name: &DeviceName, address: Ipv6Addr) -> Result<(), TunnelError> {
        // Hosts without IPv6 mostly have it turned off like this, and may have it turned on per link.
        set(name, "disable_ipv6", "0")?;
        let message = address_message(self.index(name)?, address);
        unless(&[libc::EEXIST], self.send(&Rt::NewAddress(message), CREATE | EXCLUSIVE))
            .map_err(refused(format!("give tunnel {name} the address {address}")))?;
        self.wait_until_local(address);
        Ok(())
    }

    /// The kernel begins to listen to an address a little later, in the background; what came before then would be lost. A
    /// kernel that is too busy for that is not waited for long: nothing else depends on it.
    fn wait_until_local(&mut self, address: Ipv6Addr) {
        let start = Instant::now();
        while start.elapsed() < LOCAL_PATIENCE {
            let mut message = RouteMessage::default();
            message.header.address_family = AddressFamily::Inet6;
            message.header.destination_prefix_length = 128;
            message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet6(address))];
            let answers = self.send(&Rt::GetRoute(message), 0).unwrap_or_default();
            let local = |answer| matches!(answer, Rt::NewRoute(route) if route.header.kind == RouteType::Local);
            if answers.iter().filter_map(read).any(local) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes an address away.
    pub fn remove_address(&mut self, name: &DeviceName, address: Ipv6Addr) -> Result<(), TunnelError> {
        let message = address_message(self.index(name)?, address);
        unless(&[libc::EADDRNOTAVAIL], self.send(&Rt::DelAddress(message), 0))
            .map_err(refused(format!("take the address {address} from tunnel {name}")))
    }

    /// Adds a route, or moves the one that there is.
    pub fn set_route(&mut self, route: &Route) -> Result<(), TunnelError> {
        let message = self.route_message(route)?;
        self.send(&Rt::NewRoute(message), CREATE | REPLACE)
            .map(drop)
            .map_err(refused(format!("route {} by tunnel {}", route.to, route.device)))
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), TunnelError> {
        let message = self.route_message(route)?;
        unless(&[libc::ESRCH, libc::ENODEV], self.send(&Rt::DelRoute(message), 0))
            .map_err(refused(format!("remove the route to {} by tunnel {}", route.to, route.device)))
    }

    fn route_message(&mut self, route: &Route) -> Result<RouteMessage, TunnelError> {
        let mut message = empty_route(route.to, 128, RouteType::Unicast);
        message.attributes.push(RouteAttribute::Oif(self.index(&route.device)?));
        message.attributes.extend(route.source.map(|s| RouteAttribute::PrefSource(RouteAddress::Inet6(s))));
        Ok(message)
    }

    /// Makes what has no route of ours undeliverable.
    pub fn add_guard(&mut self) -> Result<(), TunnelError> {
        unless(&[libc::EEXIST], self.send(&Rt::NewRoute(guard()), CREATE | EXCLUSIVE))
            .map_err(refused("keep packets for tunnels from other routes"))
    }

    /// Takes that away.
    pub fn remove_guard(&mut self) -> Result<(), TunnelError> {
        unless(&[libc::ESRCH], self.send(&Rt::DelRoute(guard()), 0))
            .map_err(refused("remove the route that keeps packets for tunnels from others"))
    }

    /// Our routes into some links, and whether the guard is there.
    pub fn routes(&mut self, links: &[Link]) -> Result<(BTreeSet<Route>, bool), TunnelError> {
        let mut ask = RouteMessage::default();
        ask.header.address_family = AddressFamily::Inet6;
        let (mut routes, mut guarded) = (BTreeSet::new(), false);
        for answer in self.dump("list routes", &Rt::GetRoute(ask))? {
            let Rt::NewRoute(message) = answer else { continue };
            if message.header.protocol == PROTOCOL {
                guarded |= is_guard(&message);
                routes.extend(read_route(&message, links));
            }
        }
        Ok((routes, guarded))
    }
}

fn bytes(message: &Rt) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    message.serialize(&mut body);
    body
}

/// `None` for what the library cannot read: never one of ours.
fn read(answer: &Answer) -> Option<Rt> {
    let mut header = NetlinkHeader::default();
    header.message_type = answer.kind;
    Rt::deserialize(&header, &answer.body).ok()
}

fn read_link(message: &LinkMessage, instance: &Instance) -> Option<Link> {
    let (mut name, mut kind, mut mtu) = (None, String::new(), 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = instance.owned(text),
            LinkAttribute::Mtu(bytes) => mtu = *bytes,
            LinkAttribute::LinkInfo(infos) => {
                let named =
                    infos.iter().find_map(|i| if let LinkInfo::Kind(kind) = i { Some(kind.to_string()) } else { None });
                kind = named.unwrap_or_default();
            }
            _ => {}
        }
    }
    let up = message.header.flags.contains(LinkFlags::Up);
    Some(Link { name: name?, index: message.header.index, kind, up, mtu, addresses: BTreeSet::new() })
}

fn read_address(message: &AddressMessage) -> Option<Ipv6Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(address)) if !address.is_unicast_link_local() => Some(*address),
        _ => None,
    })
}

fn address_message(index: u32, address: Ipv6Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = 128;
    message.header.index = index;
    // Nobody on a tunnel could answer that the address is taken.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Address(IpAddr::V6(address))];
    message
}

fn empty_route(to: Ipv6Addr, bits: u8, kind: RouteType) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = bits;
    message.header.table = MAIN_TABLE;
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = kind;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet6(to))];
    message
}

fn guard() -> RouteMessage {
    let to = Ipv6Addr::new(INNER_PREFIX, 0, 0, 0, 0, 0, 0, 0);
    let mut message = empty_route(to, GUARD_BITS, RouteType::Unreachable);
    message.attributes.push(RouteAttribute::Priority(GUARD_METRIC));
    message
}

fn destination(message: &RouteMessage) -> Option<Ipv6Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet6(address)) if is_inner(*address) => Some(*address),
        _ => None,
    })
}

fn is_guard(message: &RouteMessage) -> bool {
    let bits = message.header.destination_prefix_length;
    message.header.kind == RouteType::Unreachable && bits == GUARD_BITS && destination(message).is_some()
}

fn read_route(message: &RouteMessage, links: &[Link]) -> Option<Route> {
    let to = destination(message).filter(|_| message.header.destination_prefix_length == 128)?;
    let (mut index, mut source) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::PrefSource(RouteAddress::Inet6(address)) => source = Some(*address),
            _ => {}
        }
    }
    let link = links.iter().find(|link| Some(link.index) == index)?;
    Some(Route { to, device: link.name.clone(), source })
}

/// Writes a setting of a link where the kernel has it.
fn set(name: &DeviceName, setting: &str, value: &'static str) -> Result<(), TunnelError> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(name.as_str()).join(setting);
    if !path.exists() {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| TunnelError::Setting { path, value, source })
}
