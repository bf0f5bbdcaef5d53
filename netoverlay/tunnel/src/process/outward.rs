//! The thread that carries packets out: from the TUN device, sealed for the peer that they are for, to its endpoint.

use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;

use boringtun::noise::{Tunn, TunnResult};
use rustix::event::{PollFd, PollFlags, poll};

use super::device::{Device, Link};
use super::sender::Sender;

/// Most packets taken before those that wait are sent.
const BATCH: usize = 128;
/// Largest packet of a TUN device.
const MAX_PACKET: usize = 65_535;

/// Until the TUN device is gone.
pub(super) fn run(device: &Device, link: &Link) -> io::Result<()> {
    let mut sender = Sender::new(&link.socket);
    let mut packet = vec![0; MAX_PACKET];
    loop {
        wait(&device.tun)?;
        for _ in 0..BATCH {
            let len = match (&device.tun).read(&mut packet) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            seal(link, &packet[..len], &mut sender)?;
        }
        sender.flush()?;
    }
}

fn wait(tun: impl AsFd) -> io::Result<()> {
    let mut fds = [PollFd::new(&tun, PollFlags::IN)];
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Packets for nobody are dropped, as the kernel's device drops them.
fn seal(link: &Link, packet: &[u8], sender: &mut Sender<'_>) -> io::Result<()> {
    let Some(IpAddr::V6(to)) = Tunn::dst_address(packet) else { return Ok(()) };
    let Some(session) = link.peers.by_inner(&to) else { return Ok(()) };
    // Without a session the packet is kept until the handshake is through, a few hundred of them.
    let sealed = match session.noise().encapsulate(packet, sender.space()) {
        TunnResult::WriteToNetwork(sealed) => sealed.len(),
        _ => return Ok(()),
    };
    sender.push(session.endpoint, sealed)
}
