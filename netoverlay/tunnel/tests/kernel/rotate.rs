//! A change of keys under traffic.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use berth_tunnel::model::Peer;

use crate::hosts::*;

/// Counts datagrams until told to stop and the last one has arrived.
fn receive(socket: &UdpSocket, received: &AtomicU64, all: &AtomicU64, over: &AtomicBool) {
    let mut buffer = [0; 2000];
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let start = std::time::Instant::now();
    loop {
        if socket.recv(&mut buffer).is_ok() {
            received.fetch_add(1, Ordering::Relaxed);
        }
        let done = over.load(Ordering::Relaxed);
        if done && received.load(Ordering::Relaxed) == all.load(Ordering::Relaxed) || start.elapsed() > PATIENCE {
            return;
        }
    }
}

/// Sends to whatever address is the newest, some thousands a second, until told to stop.
fn send(socket: &UdpSocket, to: impl Fn() -> (Ipv6Addr, u16), sent: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..5 {
            socket.send_to(&[7; 1000], to()).unwrap();
            sent.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The steps of [`berth_tunnel::rotation`] on host `b`, while `a` sends: first both keys, then `a` sends to the new
/// address, then `b` sends by the new key, then the old one goes.
fn rotate(a: &Host, b: &Host, peer_a: &Peer, old: &Peer, newest: &AtomicU64) {
    let peers = std::slice::from_ref(peer_a);
    let new = b.add_key(2);
    b.apply(&b.desired(peers, 1));
    a.apply(&a.desired(&[old.clone(), new.clone()], 1));
    newest.store(2, Ordering::Relaxed);
    b.apply(&b.desired(peers, 2));
    // What is on its way to the old address arrives before the grace time is over: the next datagrams say so.
    deliver(a, b, 1, b"the last one to the old address");
    a.apply(&a.desired(&[new], 1));
    b.drop_key(1);
    b.apply(&b.desired(peers, 2));
    assert!(b.carries(1));
}

#[test]
fn no_datagram_is_lost() {
    on_two_hosts("rotate::no_datagram_is_lost", |a, b| {
        let (peer_a, old) = connect(a, b);
        deliver(a, b, 1, b"the tunnel is there");
        let (to_b, to_a) = (b.socket(Ipv6Addr::UNSPECIFIED), a.socket(a.inner(1)));
        let (from_a, from_b) = (a.socket(Ipv6Addr::UNSPECIFIED), b.socket(Ipv6Addr::UNSPECIFIED));
        let (port_b, port_a) = (to_b.local_addr().unwrap().port(), to_a.local_addr().unwrap().port());
        let (newest, stop, over) = (AtomicU64::new(1), AtomicBool::new(false), AtomicBool::new(false));
        let counts: [AtomicU64; 4] = Default::default();
        let [sent_b, received_b, sent_a, received_a] = &counts;
        std::thread::scope(|scope| {
            let to = || (b.inner(newest.load(Ordering::Relaxed)), port_b);
            let (stop, over, from_a, from_b, to_b, to_a) = (&stop, &over, &from_a, &from_b, &to_b, &to_a);
            let senders = [
                scope.spawn(move || send(from_a, to, sent_b, stop)),
                scope.spawn(move || send(from_b, || (a.inner(1), port_a), sent_a, stop)),
            ];
            scope.spawn(move || receive(to_b, received_b, sent_b, over));
            scope.spawn(move || receive(to_a, received_a, sent_a, over));
            let arrived = || received_b.load(Ordering::Relaxed).min(received_a.load(Ordering::Relaxed));
            wait_for("traffic before", arrived, |count| *count > 100);
            rotate(a, b, &peer_a, &old, &newest);
            let before = arrived();
            wait_for("traffic after", arrived, |count| *count > before + 100);
            stop.store(true, Ordering::Relaxed);
            for sender in senders {
                sender.join().unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        let [sent_b, received_b, sent_a, received_a] = counts.map(AtomicU64::into_inner);
        assert_eq!((received_b, received_a), (sent_b, sent_a));
    });
}

/// A connection inside VXLAN, whose addresses do not change, goes on.
#[test]
fn a_connection_goes_on() {
    on_two_hosts("rotate::a_connection_goes_on", |a, b| {
        let (peer_a, old) = connect(a, b);
        let vxlan = |host: &Host, own: u8, remote: Ipv6Addr| {
            let (name, to) = (host.name, format!("remote {remote} dstport 4789 nolearning"));
            sh(&format!("ip -n {name} link add vx mtu 1350 type vxlan id 7 {to} udp6zerocsumtx udp6zerocsumrx"));
            sh(&format!("ip -n {name} link set vx up && ip -n {name} addr add 10.9.0.{own}/24 dev vx"));
        };
        vxlan(a, 1, b.inner(1));
        vxlan(b, 2, a.inner(1));
        let listener = b.inside(|| TcpListener::bind("10.9.0.2:0").unwrap());
        let to = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            std::io::copy(&mut &stream, &mut &stream).unwrap();
        });
        let stream = a.inside(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let rounds = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let (text, mut back) = ([9; 4000], [0; 4000]);
                while !stop.load(Ordering::Relaxed) {
                    (&stream).write_all(&text).unwrap();
                    (&stream).read_exact(&mut back).unwrap();
                    assert_eq!(back, text);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let more = |what| {
                let before = rounds.load(Ordering::Relaxed);
                wait_for(what, || rounds.load(Ordering::Relaxed), |now| *now > before + 20);
            };
            more("before");
            let new = b.add_key(2);
            b.apply(&b.desired(std::slice::from_ref(&peer_a), 1));
            a.apply(&a.desired(&[old, new.clone()], 1));
            sh(&format!("bridge -n a fdb append 00:00:00:00:00:00 dev vx dst {}", b.inner(2)));
            sh(&format!("bridge -n a fdb del 00:00:00:00:00:00 dev vx dst {}", b.inner(1)));
            more("to the new address");
            b.apply(&b.desired(std::slice::from_ref(&peer_a), 2));
            more("by the new key");
            a.apply(&a.desired(&[new], 1));
            b.drop_key(1);
            b.apply(&b.desired(std::slice::from_ref(&peer_a), 2));
            more("without the old key");
            stop.store(true, Ordering::Relaxed);
            client.join().unwrap();
        });
        echo.join().unwrap();
        sh("ip -n a link del vx; ip -n b link del vx");
    });
}

/// WireGuard's own session keys change every two minutes.
#[test]
#[ignore = "takes two and a half minutes"]
fn sessions_are_renewed_without_loss() {
    on_two_hosts("rotate::sessions_are_renewed_without_loss", |a, b| {
        connect(a, b);
        deliver(a, b, 1, b"the tunnel is there");
        let (receiver, sender) = (b.socket(b.inner(1)), a.socket(Ipv6Addr::UNSPECIFIED));
        let to = receiver.local_addr().unwrap();
        let (start, mut count, mut buffer) = (std::time::Instant::now(), 0u32, [0; 2000]);
        while start.elapsed() < Duration::from_secs(150) {
            for _ in 0..8 {
                sender.send_to(&count.to_be_bytes(), to).unwrap();
                count += 1;
            }
            for n in count - 8..count {
                let len = receiver.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..len], n.to_be_bytes(), "in order, after {:?}", start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

/// A session that nobody used is forgotten after three minutes; the first packet makes another.
#[test]
#[ignore = "takes ten minutes"]
fn a_link_that_was_idle_carries_the_first_packet() {
    on_two_hosts("rotate::a_link_that_was_idle_carries_the_first_packet", |a, b| {
        connect(a, b);
        deliver(a, b, 1, b"before");
        for (from, to, idle) in [(a, b, 200), (b, a, 390)] {
            std::thread::sleep(Duration::from_secs(idle));
            assert_eq!(deliver(from, to, 1, b"after").0, b"after");
        }
    });
}
