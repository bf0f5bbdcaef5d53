//! The thread that carries packets in: from the UDP socket, opened with the session that they name, to the TUN device.
//!
//! What comes out bears the inner address of the peer that sealed it, or is dropped.

use std::io::{self, IoSliceMut, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn, TunnResult};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

use super::device::{Device, Link};
use super::peers::Session;
use super::sender::send;
use crate::key::PublicKey;

/// Most that the kernel hands over at once.
const MAX_BYTES: usize = 65_535;
/// Bytes of the answer to a handshake. It opens no session in which this side may send already.
const HANDSHAKE_RESPONSE: usize = 92;

/// Until the socket or the TUN device is gone.
pub(super) fn run(device: &Device, link: &Link) -> io::Result<()> {
    let mut received = vec![0; MAX_BYTES];
    let mut opened = vec![0; MAX_BYTES];
    let mut control = nix::cmsg_space!(libc::c_int);
    loop {
        let Some((len, segment, from)) = receive(link, &mut received, &mut control)? else { continue };
        for packet in received[..len].chunks(segment.max(1)) {
            if let Some(session) = find(link, packet, from, &mut opened)? {
                open(device, link, &session, packet, from, &mut opened)?;
            }
        }
    }
}

/// Datagrams of one sender with the size of each. `None` when there was an error that concerns only one of them.
fn receive(link: &Link, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Option<(usize, usize, SocketAddr)>> {
    let mut data = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::empty();
    let message = match recvmsg::<SockaddrStorage>(link.socket.as_raw_fd(), &mut data, Some(control), flags) {
        Ok(message) => message,
        Err(Errno::EBADF | Errno::ENOTSOCK | Errno::EINVAL) => return Err(io::ErrorKind::NotConnected.into()),
        Err(_) => return Ok(None),
    };
    let segment = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::UdpGroSegments(size) => usize::try_from(size).ok(),
        _ => None,
    });
    let from = message.address.as_ref().and_then(|from| {
        let v6 = from.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port())));
        v6.or_else(|| from.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port()))))
    });
    Ok(from.map(|from| (message.bytes, segment.unwrap_or(message.bytes), from)))
}

/// Whose packet it is. Someone who asks for too many handshakes is sent a cookie instead.
fn find(link: &Link, packet: &[u8], from: SocketAddr, buffer: &mut [u8]) -> io::Result<Option<Arc<Session>>> {
    Ok(match Tunn::parse_incoming_packet(packet) {
        Ok(Packet::PacketData(data)) => link.peers.by_receiver(data.receiver_idx),
        Ok(Packet::HandshakeResponse(response)) => link.peers.by_receiver(response.receiver_idx),
        Ok(Packet::PacketCookieReply(reply)) => link.peers.by_receiver(reply.receiver_idx),
        // Verified before anything that costs: finding out whose it is takes a multiplication on the curve.
        Ok(Packet::HandshakeInit(_)) => match link.limiter.verify_packet(Some(from.ip()), packet, buffer) {
            Ok(Packet::HandshakeInit(init)) => {
                let half = parse_handshake_anon(&link.secret, &link.public, &init);
                half.ok().and_then(|half| link.peers.by_key(&PublicKey(half.peer_static_public)))
            }
            Err(TunnResult::WriteToNetwork(cookie)) => {
                send(&link.socket, cookie, from)?;
                None
            }
            _ => None,
        },
        Err(_) => None,
    })
}

fn open(
    device: &Device,
    link: &Link,
    session: &Session,
    packet: &[u8],
    from: SocketAddr,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut noise = session.noise();
    let through = match noise.decapsulate(Some(from.ip()), packet, buffer) {
        TunnResult::WriteToTunnelV6(inner, source) => {
            if source == session.inner {
                deliver(device, inner)?;
            }
            false
        }
        TunnResult::WriteToNetwork(answer) => {
            let response = answer.len() != HANDSHAKE_RESPONSE;
            send(&link.socket, answer, session.endpoint)?;
            response
        }
        // The first packet of a session that the other side began: it is empty, and from now on this side may send too.
        TunnResult::Done => true,
        TunnResult::Err(_) | TunnResult::WriteToTunnelV4(..) => false,
    };
    if through {
        while let TunnResult::WriteToNetwork(kept) = noise.decapsulate(None, &[], buffer) {
            send(&link.socket, kept, session.endpoint)?;
        }
    }
    Ok(())
}

/// A full queue of the TUN device loses packets, as any queue; anything else means that it is gone.
fn deliver(device: &Device, packet: &[u8]) -> io::Result<()> {
    match (&device.tun).write(packet) {
        Err(error) if error.raw_os_error() == Some(libc::EBADFD) => Err(error),
        // Not up yet, full, or a packet that the kernel does not like.
        _ => Ok(()),
    }
}
