//! Connections that programs have led to a backend which has not answered, and is none any more.
//!
//! To its socket such a connection is one to the backend's own address. What it asks again must go to another backend all the
//! same, as with the packet filter: the connection is tracked as one that is translated, from here on. Only sockets that asked
//! for the virtual address are meant; that is known of each ([`crate::ebpf::layout::Map::Peers`]).

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::KernelError;
use super::conntrack::{self, Ends};
use super::netlink::{Answer, Netlink};
use crate::ebpf::layout::read_address;
use crate::nft::message::{Attributes, Message, attribute};
use crate::plan::Flow;

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
const SYN_SENT: u32 = 1 << 2;
/// `struct inet_diag_sockid`.
const ID: usize = 48;
/// `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// `INET_DIAG_REQ_SK_BPF_STORAGES` with `SK_DIAG_BPF_STORAGE_REQ_MAP_FD`.
const REQUEST_STORAGES: u16 = 2;
const REQUEST_MAP: u16 = 1;
/// `INET_DIAG_SK_BPF_STORAGES`, `SK_DIAG_BPF_STORAGE`, `SK_DIAG_BPF_STORAGE_MAP_VALUE`.
const STORAGES: u16 = 20;
const STORAGE: u16 = 1;
const VALUE: u16 = 3;

/// Leads connections that are being opened by flows' lost backends on to others; gives back how many there were.
pub(super) fn lead_on(
    sockets: &mut Netlink,
    filter: &mut Netlink,
    peers: BorrowedFd<'_>,
    flows: &[Flow],
) -> Result<usize, KernelError> {
    let others = flows.iter().filter_map(|flow| Some(((flow.towards?, flow.backend), flow.instead?)));
    let others: HashMap<(IpAddr, IpAddr), IpAddr> = others.collect();
    let mut count = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let refused = |source| KernelError::Refused { what: "list connections that are being opened".into(), source };
        for answer in sockets.dump(&question(family as u8, peers)).map_err(refused)? {
            let Some((ends, vip)) = opened_for(&answer) else { continue };
            let Some(other) = others.get(&(vip, ends.to.ip())) else { continue };
            translate(filter, &ends, *other).map_err(|source| KernelError::Refused {
                what: format!("lead a connection to {} on to {other}", ends.to),
                source,
            })?;
            count += 1;
        }
    }
    Ok(count)
}

fn question(family: u8, peers: BorrowedFd<'_>) -> Message {
    let mut body = vec![family, TCP, 0, 0];
    body.extend(SYN_SENT.to_ne_bytes());
    body.extend([0; ID]);
    let map = Attributes::default().bytes(REQUEST_MAP, &peers.as_raw_fd().to_ne_bytes());
    body.extend(Attributes::default().nest(REQUEST_STORAGES, map).0);
    Message { kind: BY_FAMILY, flags: 0, body }
}

/// A connection, and the virtual address that the socket asked for.
fn opened_for(answer: &Answer) -> Option<(Ends, IpAddr)> {
    let (head, rest) = answer.body.split_at_checked(ANSWER)?;
    let port = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        match i32::from(head[0]) {
            libc::AF_INET => Some(<[u8; 4]>::try_from(&head[at..at + 4]).ok()?.into()),
            _ => Some(read_address(head[at..at + 16].try_into().ok()?)),
        }
    };
    let ends = Ends { from: (address(8)?, port(4)).into(), to: (address(24)?, port(6)).into() };
    let value = attribute(attribute(attribute(rest, STORAGES)?, STORAGE)?, VALUE)?;
    let vip = read_address(value.get(..16)?.try_into().ok()?);
    let backend = read_address(value.get(16..32)?.try_into().ok()?);
    (backend == ends.to.ip()).then_some((ends, vip))
}

fn translate(filter: &mut Netlink, ends: &Ends, other: IpAddr) -> io::Result<()> {
    match filter.request(conntrack::forgetting(ends)) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
        _ => {}
    }
    filter.request(conntrack::translating(ends, other))
}
