//! Published ports are held by a socket each, so that no other program of the node takes them.
//!
//! The sockets never serve anybody: packets to a published port are translated to a backend or refused before they get here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use crate::model::{Proto, PublishedPort};

/// A published port could not be had.
#[derive(Debug, thiserror::Error)]
#[error("port {port} cannot be published on this node: {}", Why { owner, source })]
pub struct PortError {
    /// The port.
    pub port: PublishedPort,
    /// Who has it, if that could be found out.
    pub owner: Option<PortOwner>,
    /// What the kernel said.
    pub source: io::Error,
}

/// A program that uses a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// Process id.
    pub pid: u32,
    /// Its command name.
    pub command: String,
}

struct Why<'a> {
    owner: &'a Option<PortOwner>,
    source: &'a io::Error,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.owner, self.source.kind()) {
            (Some(owner), _) => write!(f, "it is in use by {} (pid {})", owner.command, owner.pid),
            (None, io::ErrorKind::AddrInUse) => f.write_str("it is in use by another program"),
            (None, io::ErrorKind::AddrNotAvailable) => f.write_str("the node does not have this address"),
            (None, _) => f.write_str("the kernel refuses it"),
        }
    }
}

/// The sockets that hold ports, none of them ever accepts.
#[derive(Debug, Default)]
pub(super) struct HeldPorts {
    held: BTreeMap<PublishedPort, Holder>,
}

#[derive(Debug)]
enum Holder {
    Tcp(#[allow(dead_code, reason = "kept open, never used")] TcpListener),
    Udp(#[allow(dead_code, reason = "kept open, never used")] UdpSocket),
}

impl HeldPorts {
    /// Holds these ports besides those held already.
    pub fn hold_more(&mut self, wanted: &[PublishedPort]) -> Vec<PortError> {
        let mut errors = Vec::new();
        for port in wanted {
            if self.held.contains_key(port) {
                continue;
            }
            // The same node port may lead elsewhere from now on: one socket moves to the new entry.
            let same = self.same_socket(port);
            if let Some(holder) = same.and_then(|key| self.held.remove(&key)) {
                self.held.insert(*port, holder);
                continue;
            }
            match hold(*port) {
                Ok(holder) => drop(self.held.insert(*port, holder)),
                Err(source) => errors.push(PortError { port: *port, owner: owner(*port), source }),
            }
        }
        errors
    }

    /// The held port that is the same on the node, whatever it leads to: targets are what ports differ in last.
    fn same_socket(&self, port: &PublishedPort) -> Option<PublishedPort> {
        let at = |target| PublishedPort { target, ..*port };
        self.held.range(at(0)..=at(u16::MAX)).next().map(|(held, _)| *held)
    }

    /// Lets go of all others.
    pub fn retain(&mut self, wanted: &[PublishedPort]) {
        let wanted: BTreeSet<&PublishedPort> = wanted.iter().collect();
        self.held.retain(|port, _| wanted.contains(port));
    }

    /// The ports held.
    pub fn list(&self) -> Vec<PublishedPort> {
        self.held.keys().copied().collect()
    }
}

fn hold(port: PublishedPort) -> io::Result<Holder> {
    match port.host_ip {
        Some(ip) => bind(port, ip),
        // One socket for both families; IPv4 alone where the node has no IPv6.
        None => match bind(port, Ipv6Addr::UNSPECIFIED.into()) {
            Err(e) if e.raw_os_error() == Some(libc::EAFNOSUPPORT) || e.kind() == io::ErrorKind::AddrNotAvailable => {
                bind(port, Ipv4Addr::UNSPECIFIED.into())
            }
            other => other,
        },
    }
}

fn bind(port: PublishedPort, ip: IpAddr) -> io::Result<Holder> {
    let address = SocketAddr::new(ip, port.published);
    match port.proto {
        Proto::Tcp => TcpListener::bind(address).map(Holder::Tcp),
        Proto::Udp => UdpSocket::bind(address).map(Holder::Udp),
    }
}

/// Finds the process that has a port: by socket inode in `/proc/net`, then by open file.
fn owner(port: PublishedPort) -> Option<PortOwner> {
    let tables = match port.proto {
        Proto::Tcp => ["tcp", "tcp6"],
        Proto::Udp => ["udp", "udp6"],
    };
    let inodes = tables.iter().filter_map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok());
    let inode = inodes.filter_map(|table| inode_of(&table, port)).next()?;
    let wanted = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        if files.flatten().any(|f| fs::read_link(f.path()).is_ok_and(|target| target.as_os_str() == wanted.as_str())) {
            let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
            return Some(PortOwner { pid, command });
        }
    }
    None
}

/// The inode of the socket that listens on the port (TCP) or is bound to it (UDP).
fn inode_of(table: &str, port: PublishedPort) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let (local, state) = (columns.nth(1)?, columns.nth(1)?);
        let (_, number) = local.rsplit_once(':')?;
        let bound = u16::from_str_radix(number, 16).ok()? == port.published;
        let inode = columns.nth(5)?.parse().ok()?;
        (bound && (port.proto == Proto::Udp || state == LISTEN)).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(published: u16) -> PublishedPort {
        PublishedPort { proto: Proto::Tcp, host_ip: Some(Ipv4Addr::LOCALHOST.into()), published, target: 80 }
    }

    #[test]
    fn a_taken_port_names_its_owner() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wanted = port(other.local_addr().unwrap().port());
        let errors = HeldPorts::default().hold_more(&[wanted]);
        let text = errors[0].to_string();
        assert_eq!(errors[0].owner.as_ref().map(|o| o.pid), Some(std::process::id()));
        assert!(text.contains(&format!("{}/tcp", wanted.published)) && text.contains("pid"), "{text}");
    }

    #[test]
    fn a_held_port_moves_to_a_new_target_without_being_let_go() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut held = HeldPorts::default();
        assert!(held.hold_more(&[port(free)]).is_empty());
        let moved = PublishedPort { target: 8080, ..port(free) };
        assert!(held.hold_more(&[moved]).is_empty());
        assert_eq!(held.list(), [moved]);
        held.retain(&[]);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, free)).is_ok());
    }
}
