//! One task's namespace: its sockets, its settings, its listing.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_proto::id::TaskId;

use super::netlink::Netlink;
use super::{DnsSockets, KernelError, NameSockets, namespace, nft_io, proc, route_io};
use crate::model::{LinkState, Proto, SandboxState};
use crate::names::LinkName;
use crate::nft::sets::{Bytes, Scope};
use crate::nft::skeleton::Layout;
use crate::nft::{Draft, Elements, Set, TableChange};
use crate::plan::{Route, SourceRule};

/// Where the name server really listens: a port of the kernel's choice, so that a task may have a name server of its own on
/// port 53; the sandbox's table translates.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A namespace and sockets in it.
#[derive(Debug)]
pub(super) struct Namespace {
    pub fd: OwnedFd,
    pub route: Netlink,
    filter: Netlink,
    table: String,
    /// Ports of the name server's sockets that this process opened: UDP, TCP.
    names: Option<(u16, u16)>,
    /// The name server's sockets, opened ahead.
    ahead: Option<(UdpSocket, TcpListener)>,
    /// The same, kept since a former life of the agent.
    given: Option<(UdpSocket, TcpListener)>,
    /// Copies of those that were opened, until somebody keeps them.
    copies: Option<NameSockets>,
    /// Its table was written ahead and nobody was in it since.
    fresh: bool,
}

impl Namespace {
    /// Makes a new one with its loopback up, the settings that every container gets, its table and the name server's sockets:
    /// all that does not depend on the task.
    pub fn create(table: String) -> Result<Self, KernelError> {
        let (fd, (route, filter, ahead)) = namespace::create(|| {
            let (mut route, mut filter) = (Netlink::route()?, Netlink::filter()?);
            route_io::set_link(&mut route, &LinkName::listed("lo"), None, None)?;
            // Inherited from a node that forwards: a task on two networks must not lead from one into the other unless it is
            // told to (`sysctls`, set later).
            proc::write_if_there("ipv4/ip_forward", "0")?;
            proc::write_if_there("ipv6/conf/all/forwarding", "0")?;
            // As Docker gives it: containers are not the place to guard ports below 1024 or ping.
            proc::write_if_there("ipv4/ip_unprivileged_port_start", "0")?;
            proc::write_if_there("ipv4/ping_group_range", "0 2147483647")?;
            // Links are born with IPv6 off; a task with IPv6 addresses turns it on first.
            proc::write_if_there("ipv6/conf/default/disable_ipv6", "1")?;
            proc::write_if_there("ipv6/conf/default/accept_ra", "0")?;
            let empty = TableChange { rebuild: true, ..TableChange::default() };
            nft_io::change(&mut filter, Layout::Sandbox, &table, &empty)?;
            Ok((route, filter, listen().ok()))
        })?;
        Ok(Self { fd, route, filter, table, names: None, ahead, given: None, copies: None, fresh: true })
    }

    /// Takes over one that is there.
    pub fn adopt(fd: OwnedFd, table: String) -> Result<Self, KernelError> {
        let (route, filter) = namespace::enter(&fd, || Ok((Netlink::route()?, Netlink::filter()?)))?;
        Ok(Self { fd, route, filter, table, names: None, ahead: None, given: None, copies: None, fresh: false })
    }

    /// Lets links born from now on have IPv6.
    pub fn enable_v6(&self) -> Result<(), KernelError> {
        namespace::enter(&self.fd, || proc::write_if_there("ipv6/conf/default/disable_ipv6", "0"))
    }

    /// Its number; 0 where the kernel has none for it.
    pub fn cookie(&self) -> u64 {
        self.route.netns_cookie().unwrap_or_default()
    }

    /// Lists it.
    pub fn list(&mut self) -> Result<SandboxState, KernelError> {
        let links = route_io::links(&mut self.route)?;
        let mut state = SandboxState {
            routes: route_io::routes(&mut self.route, &links)?,
            rules: route_io::rules(&mut self.route)?,
            ..SandboxState::default()
        };
        for link in &links {
            let Some(mac) = link.mac.filter(|_| link.name != "lo") else { continue };
            let entry = LinkState { up: link.up, mtu: link.mtu, mac, addresses: link.addresses.clone() };
            state.links.insert(LinkName::listed(&link.name), entry);
        }
        let (table, names) = nft_io::list(&mut self.filter, Scope::Sandbox, &self.table)?;
        state.table = table;
        state.dns = self.names.is_some_and(|ports| names == name_elements(ports));
        Ok(state)
    }

    /// Opens the name server's sockets and leads port 53 to them.
    pub fn open_dns(&mut self, task: TaskId) -> Result<DnsSockets, KernelError> {
        let fail = |source| KernelError::Dns { task, source };
        let (udp, tcp) = match (self.given.take(), self.ahead.take()) {
            (Some(kept), _) => kept,
            (None, opened) => {
                let (udp, tcp) = match opened {
                    Some(sockets) => sockets,
                    None => namespace::enter(&self.fd, || listen().map_err(fail))?,
                };
                self.copies = Some(NameSockets {
                    udp: udp.try_clone().map_err(fail)?.into(),
                    tcp: tcp.try_clone().map_err(fail)?.into(),
                });
                (udp, tcp)
            }
        };
        let ports = (udp.local_addr().map_err(fail)?.port(), tcp.local_addr().map_err(fail)?.port());
        let before = nft_io::list_names(&mut self.filter, &self.table)?;
        nft_io::replace(&mut self.filter, &self.table, &before, &name_elements(ports))?;
        self.names = Some(ports);
        Ok(DnsSockets { task, udp, tcp })
    }

    /// Takes over sockets that were kept; they must be ours and of this namespace.
    pub fn give_names(&mut self, task: TaskId, kept: NameSockets) -> Result<(), KernelError> {
        let fail = |source| KernelError::Dns { task, source };
        let (udp, tcp) = (UdpSocket::from(kept.udp), TcpListener::from(kept.tcp));
        let is_ours = |address: std::net::SocketAddr| address.ip() == std::net::IpAddr::V4(NAME_SERVER);
        let both = [udp.local_addr().map_err(fail)?, tcp.local_addr().map_err(fail)?];
        if both.into_iter().all(is_ours) {
            self.given = Some((udp, tcp));
        }
        Ok(())
    }

    /// Copies of the sockets that were opened last, once.
    pub fn take_copies(&mut self) -> Option<NameSockets> {
        self.copies.take()
    }

    /// Changes its table. Writing it anew keeps the way to the name server.
    pub fn change(&mut self, change: &TableChange) -> Result<(), KernelError> {
        if std::mem::take(&mut self.fresh) && change.rebuild {
            let rest = TableChange { rebuild: false, ..change.clone() };
            return nft_io::change(&mut self.filter, Layout::Sandbox, &self.table, &rest);
        }
        match self.names.filter(|_| change.rebuild) {
            Some(ports) => {
                let mut change = change.clone();
                Arc::make_mut(&mut change.add).0.extend(name_elements(ports).0);
                nft_io::change(&mut self.filter, Layout::Sandbox, &self.table, &change)
            }
            None => nft_io::change(&mut self.filter, Layout::Sandbox, &self.table, change),
        }
    }

    /// For its tracked connections: a socket of its own, so that its table can change while they are walked.
    pub fn connections(&self) -> Result<Netlink, KernelError> {
        namespace::enter(&self.fd, Netlink::filter)
    }

    /// For the sockets that are open in it.
    pub fn sockets(&self) -> Result<Netlink, KernelError> {
        namespace::enter(&self.fd, Netlink::sockets)
    }

    /// Adds a route, a rule; removes one.
    pub fn add_route(&mut self, route: &Route) -> Result<(), KernelError> {
        route_io::add_route(&mut self.route, route)
    }

    /// Removes a route.
    pub fn remove_route(&mut self, route: &Route) -> Result<(), KernelError> {
        route_io::remove_route(&mut self.route, route)
    }

    /// Adds a policy rule.
    pub fn add_rule(&mut self, rule: SourceRule) -> Result<(), KernelError> {
        route_io::add_rule(&mut self.route, rule)
    }

    /// Removes a policy rule.
    pub fn remove_rule(&mut self, rule: SourceRule) -> Result<(), KernelError> {
        route_io::remove_rule(&mut self.route, rule)
    }
}

/// The name server's sockets, in the calling thread's namespace.
fn listen() -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind((NAME_SERVER, 0))?;
    let tcp = TcpListener::bind((NAME_SERVER, 0))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

fn name_elements((udp, tcp): (u16, u16)) -> Elements {
    let mut elements = Draft::default();
    for (proto, port) in [(Proto::Udp, udp), (Proto::Tcp, tcp)] {
        let key = Bytes::default().proto(proto.number()).done();
        elements.data(Set::Dns, key, Bytes::default().address(NAME_SERVER.into()).port(port).done());
    }
    elements.done()
}
