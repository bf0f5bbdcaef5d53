//! What a tunnel carries, and what it does not.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;

use berth_tunnel::key::SecretKey;

use crate::hosts::*;

/// A counter of packets on the wire that hold a text, by netfilter's raw payload: 8 bytes, so many bits into the
/// transport header. VXLAN or not, what is sent here is UDP payload.
fn count_plain(host: &Host, text: &[u8; 8]) {
    let value: String = text.iter().map(|byte| format!("{byte:02x}")).collect();
    let table = |name: &str, what: &str| {
        format!(
            "table netdev {name} {{ chain in {{ type filter hook ingress device eth0 priority 0; {what} counter; }}; }}"
        )
    };
    let rules = format!("{}\n{}", table("t", &format!("@th,64,64 0x{value}")), table("u", "udp dport 51821"));
    sh(&format!("ip netns exec {} nft '{rules}'", host.name));
}

fn counted(host: &Host, table: &str) -> u64 {
    let text = sh(&format!("ip netns exec {} nft list table netdev {table}", host.name));
    text.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn packets_arrive_and_are_not_to_be_read_on_the_way() {
    on_two_hosts("carry::packets_arrive_and_are_not_to_be_read_on_the_way", |a, b| {
        connect(a, b);
        count_plain(b, b"PLAINTXT");
        let plain = b.socket(std::net::Ipv4Addr::UNSPECIFIED);
        let to = (std::net::Ipv4Addr::new(192, 0, 2, 2), plain.local_addr().unwrap().port());
        a.socket(std::net::Ipv4Addr::UNSPECIFIED).send_to(b"PLAINTXT and more", to).unwrap();
        plain.recv_from(&mut [0; 100]).unwrap();
        assert_eq!(counted(b, "t"), 1, "in the clear it is seen");
        let (text, source) = deliver(a, b, 1, b"PLAINTXT and more");
        assert_eq!((text.as_slice(), source), (&b"PLAINTXT and more"[..], a.inner(1).into()));
        let (text, source) = deliver(b, a, 1, b"and back");
        assert_eq!((text.as_slice(), source), (&b"and back"[..], b.inner(1).into()));
        assert_eq!(counted(b, "t"), 1, "in the tunnel it is not");
        assert!(counted(b, "u") > 0, "and it went by WireGuard's port");
        let met = |host: &Host| {
            host.observed()
                .devices
                .values()
                .all(|device| device.tunnel.as_ref().unwrap().peers.values().all(|peer| peer.met))
        };
        assert!(met(a) && met(b));
    });
}

#[test]
fn streams_arrive_whole_both_ways() {
    on_two_hosts("carry::streams_arrive_whole_both_ways", |a, b| {
        connect(a, b);
        let listener = b.inside(|| TcpListener::bind((b.inner(1), 0)).unwrap());
        let to = listener.local_addr().unwrap();
        let echo = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            std::io::copy(&mut &stream, &mut &stream).unwrap();
        });
        let stream = a.inside(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let received = std::thread::scope(|scope| {
            scope.spawn(|| {
                (&stream).write_all(&sent).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            (&stream).read_to_end(&mut received).unwrap();
            received
        });
        echo.join().unwrap();
        assert!(received == sent, "{} of {} bytes came back as they were", received.len(), sent.len());
    });
}

#[test]
fn a_wrong_key_gets_nothing_through() {
    on_two_hosts("carry::a_wrong_key_gets_nothing_through", |a, b| {
        let (peer_a, mut peer_b) = (a.add_key(1), b.add_key(1));
        let right = peer_b.key;
        // `a` takes another one's key for b's: b must not be able to read or answer.
        peer_b.key = SecretKey::generate().unwrap().public();
        a.apply(&a.desired(&[peer_b.clone()], 1));
        b.apply(&b.desired(&[peer_a], 1));
        let receiver = b.socket(b.inner(1));
        let sender = a.socket(Ipv6Addr::UNSPECIFIED);
        sender.send_to(b"wrong", receiver.local_addr().unwrap()).unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        assert!(receiver.recv_from(&mut [0; 9]).is_err(), "nothing gets through");
        let strangers = a.observed().devices.into_values().next().unwrap().tunnel.unwrap().peers;
        assert!(strangers.values().all(|peer| !peer.met));
        peer_b.key = right;
        a.apply(&a.desired(&[peer_b], 1));
        assert_eq!(deliver(a, b, 1, b"right").0, b"right");
    });
}

/// A node may only speak in its own name: what bears another inner address is dropped by the receiver.
#[test]
fn a_source_that_is_not_the_senders_is_dropped() {
    on_two_hosts("carry::a_source_that_is_not_the_senders_is_dropped", |a, b| {
        connect(a, b);
        sh("ip -n a addr add fdbe:bad::1/128 dev lo nodad");
        let forger = a.socket("fdbe:bad::1".parse::<Ipv6Addr>().unwrap());
        let receiver = b.socket(b.inner(1));
        let to = receiver.local_addr().unwrap();
        forger.send_to(b"forged", to).unwrap();
        a.socket(Ipv6Addr::UNSPECIFIED).send_to(b"honest", to).unwrap();
        let mut buffer = [0; 100];
        let (len, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"honest", "the forged one was sent first");
        sh("ip -n a addr del fdbe:bad::1/128 dev lo");
    });
}

/// Without a route of ours a packet for an inner address would follow the default route, in the clear.
#[test]
fn without_a_tunnel_nothing_leaves() {
    on_two_hosts("carry::without_a_tunnel_nothing_leaves", |a, b| {
        let (_, peer_b) = connect(a, b);
        sh("ip -n a -6 route add default via 2001:db8::2");
        a.apply(&a.desired(&[], 1));
        let error = a.socket(Ipv6Addr::UNSPECIFIED).send_to(b"x", (b.inner(1), 9)).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EHOSTUNREACH | libc::ENETUNREACH)), "{error}");
        a.apply(&a.desired(&[peer_b], 1));
        assert_eq!(deliver(a, b, 1, b"again").0, b"again");
    });
}
