//! The sockets of probes. Owns their options; sends and reads nothing.
//!
//! All are bound to an address whether or not the node has it at the moment: addresses of the ingress network come and go with the
//! other nodes.

use std::io;
use std::net::{IpAddr, SocketAddr};

use berth_netoverlay::plan::{PROBE_MARK, PROBE_PORT};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, setsockopt, sockopt};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover, set_ipv6_v6only,
};
use tokio::net::UdpSocket;

/// Asks by the tunnel and hears everything. Its packets are never cut to pieces, nor does it believe others' word on what passes.
pub fn open(address: IpAddr) -> io::Result<UdpSocket> {
    udp(SocketAddr::new(address, PROBE_PORT), None)
}

/// Asks straight by the link; nothing comes in here.
pub fn open_straight(address: IpAddr) -> io::Result<UdpSocket> {
    udp(SocketAddr::new(address, 0), Some(PROBE_MARK))
}

/// Pings. What it reads are packets with their IPv4 headers.
pub fn open_ping(address: IpAddr) -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
    finish(socket, SocketAddr::new(address, 0))
}

fn udp(address: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(family, SockType::Datagram, flags, None)?;
    match address {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
        SocketAddr::V6(_) => {
            set_ipv6_v6only(&socket, true)?;
            set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        }
    }
    if let Some(mark) = mark {
        setsockopt(&socket, sockopt::Mark, &mark)?;
    }
    finish(socket, address)
}

fn finish(socket: std::os::fd::OwnedFd, address: SocketAddr) -> io::Result<UdpSocket> {
    use std::os::fd::AsRawFd;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    // An address that goes and comes back finds its old socket still being closed.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    // A raw socket sends and reads datagrams by the same calls.
    UdpSocket::from_std(std::net::UdpSocket::from(socket))
}
