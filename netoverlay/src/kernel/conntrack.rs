//! Connection tracking: entries that lead to a backend are forgotten.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::KernelError;
use super::netlink::{Answer, Netlink};
use crate::model::Proto;
use crate::nft::message::{Attributes, CREATE, Message, attribute};
use crate::plan::Flow;

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const GET_COUNT: u16 = SUBSYSTEM | 5;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const PROTOCOL: u16 = 4;
/// The state of a connection whose first packet has no answer (`enum tcp_conntrack`).
const SYN_SENT: u8 = 1;
/// Both in one walk.
const FAMILY_ANY: u8 = 0;
const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;

/// Forgets the tracked connections that flows describe; gives back how many there were.
pub(super) fn forget(netlink: &mut Netlink, flows: &[Flow]) -> Result<usize, KernelError> {
    let what = || match flows {
        [one] => format!("forget connections to {}", one.backend),
        many => format!("forget connections to {} backends", many.len()),
    };
    forget_all(netlink, flows).map_err(|source| KernelError::Refused { what: what(), source })
}

fn forget_all(netlink: &mut Netlink, flows: &[Flow]) -> io::Result<usize> {
    // The table of connections is one for all namespaces and walked as a whole: the count of this one is cheap.
    if flows.is_empty() || count(netlink)? == Some(0) {
        return Ok(0);
    }
    let mut by_backend: HashMap<IpAddr, Vec<&Flow>> = HashMap::new();
    for flow in flows {
        by_backend.entry(flow.backend).or_default().push(flow);
    }
    let of = |v6: bool| flows.iter().all(|flow| flow.backend.is_ipv6() == v6);
    let family = match (of(false), of(true)) {
        (true, _) => FAMILY_V4,
        (_, true) => FAMILY_V6,
        _ => FAMILY_ANY,
    };
    let mut forgotten = 0;
    for answer in netlink.dump(&message(GET, family, Attributes::default()))? {
        let Some((original, family)) = matching(&answer, &by_backend).zip(answer.body.first()) else { continue };
        let request = message(DELETE, *family, Attributes::default().bytes(ORIGINAL | 0x8000, original));
        match netlink.request(request) {
            Ok(()) => forgotten += 1,
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(forgotten)
}

/// A connection of TCP by its two ends, both of one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub from: SocketAddr,
    pub to: SocketAddr,
}

impl Ends {
    fn family(&self) -> u8 {
        if self.to.is_ipv6() { FAMILY_V6 } else { FAMILY_V4 }
    }

    fn tuple(from: SocketAddr, to: SocketAddr) -> Attributes {
        let address = |attributes: Attributes, v4: u16, ip: IpAddr| match ip {
            IpAddr::V4(ip) => attributes.bytes(v4, &ip.octets()),
            IpAddr::V6(ip) => attributes.bytes(v4 + 2, &ip.octets()),
        };
        let ips = address(address(Attributes::default(), 1, from.ip()), 2, to.ip());
        let ports = Attributes::default().bytes(1, &[Proto::Tcp.number()]);
        let ports = ports.bytes(2, &from.port().to_be_bytes()).bytes(3, &to.port().to_be_bytes());
        Attributes::default().nest(1, ips).nest(2, ports)
    }
}

/// Asks to forget one connection.
pub(super) fn forgetting(ends: &Ends) -> Message {
    message(DELETE, ends.family(), Attributes::default().nest(ORIGINAL, Ends::tuple(ends.from, ends.to)))
}

/// Asks to track a connection that is being opened, its packets led to another address.
pub(super) fn translating(ends: &Ends, other: IpAddr) -> Message {
    const TIMEOUT: u16 = 7;
    const DESTINATION: u16 = 13;
    /// As long as the kernel itself waits for an answer.
    const SECONDS: u32 = 120;
    let state = Attributes::default().nest(1, Attributes::default().bytes(1, &[SYN_SENT]));
    let range =
        |lowest: u16, highest: u16, octets: &[u8]| Attributes::default().bytes(lowest, octets).bytes(highest, octets);
    let other = match other {
        IpAddr::V4(ip) => range(1, 2, &ip.octets()),
        IpAddr::V6(ip) => range(4, 5, &ip.octets()),
    };
    let attributes = Attributes::default()
        .nest(ORIGINAL, Ends::tuple(ends.from, ends.to))
        .nest(REPLY, Ends::tuple(ends.to, ends.from))
        .be32(TIMEOUT, SECONDS)
        .nest(PROTOCOL, state)
        .nest(DESTINATION, other);
    Message { flags: CREATE, ..message(NEW, ends.family(), attributes) }
}

fn message(kind: u16, family: u8, attributes: Attributes) -> Message {
    let mut body = vec![family, 0, 0, 0];
    body.extend_from_slice(&attributes.0);
    Message { kind, flags: 0, body }
}

fn count(netlink: &mut Netlink) -> io::Result<Option<u32>> {
    let answer = netlink.get(message(GET_COUNT, 0, Attributes::default()))?;
    let value = answer.as_ref().and_then(|a| attribute(a.body.get(4..)?, 1)).and_then(|v| v.try_into().ok());
    Ok(value.map(u32::from_be_bytes))
}

/// The original direction of a connection that one of the flows describes, as the kernel wrote it.
fn matching<'a>(answer: &'a Answer, flows: &HashMap<IpAddr, Vec<&Flow>>) -> Option<&'a [u8]> {
    let body = answer.body.get(4..)?;
    let (original, reply) = (attribute(body, ORIGINAL)?, attribute(body, REPLY)?);
    let proto = attribute(original, 2).and_then(|p| attribute(p, 1)).and_then(|v| v.first().copied());
    let (answers, asks) = (source(reply), source(original));
    let mut about = [answers, asks].into_iter().flatten().filter_map(|address| flows.get(&address)).flatten();
    let wanted = about.any(|flow| {
        flow.proto.is_none_or(|p| proto == Some(p.number()) && (p != Proto::Tcp || is_opening(body)))
            && flow.towards.is_none_or(|address| destination(original) == Some(address))
            && flow.port.is_none_or(|port| source_port(reply) == Some(port))
            && (answers == Some(flow.backend) || flow.proto.is_none() && asks == Some(flow.backend))
    });
    wanted.then_some(original)
}

/// Whether nobody has answered a connection of TCP yet.
fn is_opening(body: &[u8]) -> bool {
    let state = attribute(body, PROTOCOL).and_then(|info| attribute(info, 1)).and_then(|tcp| attribute(tcp, 1));
    state == Some(&[SYN_SENT])
}

fn source(tuple: &[u8]) -> Option<IpAddr> {
    let ip = attribute(tuple, 1)?;
    address(attribute(ip, 1).or_else(|| attribute(ip, 3))?)
}

fn source_port(tuple: &[u8]) -> Option<u16> {
    let port = attribute(attribute(tuple, 2)?, 2)?;
    port.try_into().ok().map(u16::from_be_bytes)
}

fn destination(tuple: &[u8]) -> Option<IpAddr> {
    let ip = attribute(tuple, 1)?;
    address(attribute(ip, 2).or_else(|| attribute(ip, 4))?)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
        _ => None,
    }
}
