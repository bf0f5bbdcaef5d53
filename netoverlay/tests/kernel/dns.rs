//! Names, asked as a container's resolver asks them.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::Path;

use berth_netoverlay::model::EndpointMode;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::host::*;

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

pub fn ask_name(namespace: &Path, name: &str, kind: RecordType) -> Message {
    let socket = inside(namespace, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect("127.0.0.11:53").unwrap();
        socket
    });
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(&question(name, kind)).unwrap();
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{name}: {e}"));
    Message::from_vec(&buffer[..len]).unwrap()
}

pub fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    let mut all: Vec<IpAddr> = message.answers.iter().filter_map(|r| address(&r.data)).collect();
    all.sort();
    all
}

#[test]
fn names_of_services_tasks_and_aliases() {
    on_a_host("dns::names_of_services_tasks_and_aliases", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "shop_default"), network(2, "other")]).await.unwrap();
        overlay.set_service(service(1, &[2, 3], &[])).await.unwrap();
        for t in [2, 3] {
            overlay.attach(spec(t, &[1])).await.unwrap();
        }
        let sandbox = overlay.attach(spec(4, &[2])).await.unwrap();
        assert_eq!(sandbox.files.resolv_conf, "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:0\n");
        let here = host.task(2);
        let ask = |name: &str| addresses(&ask_name(&here, name, RecordType::A));
        let (vip, both) = (vec![address(1, 200)], vec![address(1, 2), address(1, 3)]);
        assert_eq!(ask("web"), vip);
        assert_eq!(ask("SHOP_web."), vip);
        assert_eq!(ask("web.shop_default"), vip);
        assert_eq!(ask("tasks.web"), both);
        assert_eq!(ask("web.3.x"), [address(1, 3)]);
        assert_eq!(ask("h3"), [address(1, 3)]);
        let six = ask_name(&here, "web", RecordType::AAAA);
        assert_eq!(
            (six.metadata.response_code, six.answers.len()),
            (ResponseCode::NoError, 0),
            "known, no such address"
        );
        let missing = ask_name(&here, "tasks.nothing", RecordType::A);
        assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
        let reverse = ask_name(&here, "3.0.1.10.in-addr.arpa.", RecordType::PTR);
        assert!(matches!(&reverse.answers[0].data, RData::PTR(n) if n.0.to_ascii() == "web.3.x.shop_default."));
        // Another network does not know them: it is asked upstream, and there is nobody.
        let elsewhere = ask_name(&host.task(4), "web", RecordType::A);
        assert_eq!(elsewhere.metadata.response_code, ResponseCode::ServFail);
        let mut direct = service(1, &[2, 3], &[]);
        (direct.mode, direct.vips) = (EndpointMode::Dnsrr, Default::default());
        direct.backends[0].ready = false;
        overlay.set_service(direct).await.unwrap();
        assert_eq!(ask("web"), [address(1, 3)], "dnsrr: ready ones");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn long_answers_go_by_tcp() {
    on_a_host("dns::long_answers_go_by_tcp", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "n")]).await.unwrap();
        let many: Vec<u8> = (2..120).collect();
        overlay.set_service(service(1, &many, &[])).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        let cut = ask_name(&host.task(2), "tasks.web", RecordType::A);
        assert!(cut.metadata.truncation);
        let mut stream = inside(&host.task(2), || TcpStream::connect("127.0.0.11:53").unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let question = question("tasks.web", RecordType::A);
        stream.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
        stream.write_all(&question).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(addresses(&Message::from_vec(&answer).unwrap()).len(), many.len());
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn other_names_are_forwarded_to_the_nodes_server_or_the_tasks_own() {
    on_a_host("dns::other_names_are_forwarded_to_the_nodes_server_or_the_tasks_own", async |host| {
        // The machine outside is the node's name server: it answers every question with the question.
        let upstream = inside(host.client(), || UdpSocket::bind("192.0.2.2:53").unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((len, from)) = upstream.recv_from(&mut buffer) {
                buffer[2] |= 0x80;
                let _ = upstream.send_to(&buffer[..len], from);
            }
        });
        let overlay = host.overlay().await;
        let mut inner = network(2, "inner");
        inner.internal = true;
        overlay.set_networks(vec![network(1, "n"), inner]).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        overlay.attach(spec(3, &[2])).await.unwrap();
        let forwarded = ask_name(&host.task(2), "www.example.org", RecordType::A);
        assert_eq!(forwarded.metadata.response_code, ResponseCode::NoError);
        assert_eq!(forwarded.queries[0].name().to_ascii(), "www.example.org.");
        let inside = ask_name(&host.task(3), "www.example.org", RecordType::A);
        assert_eq!(inside.metadata.response_code, ResponseCode::NXDomain, "internal: the outside is not asked");
        let mut own = spec(4, &[1]);
        own.dns.servers = vec!["192.0.2.77".parse().unwrap()];
        overlay.attach(own).await.unwrap();
        let nobody = ask_name(&host.task(4), "www.example.org", RecordType::A);
        assert_eq!(nobody.metadata.response_code, ResponseCode::ServFail, "asked its own server, which is not there");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_task_may_run_a_name_server_of_its_own() {
    on_a_host("dns::a_task_may_run_a_name_server_of_its_own", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "n")]).await.unwrap();
        for t in [2, 3] {
            overlay.attach(spec(t, &[1])).await.unwrap();
        }
        udp_server(&host.task(3), 53, "own");
        let socket = inside(&host.task(2), || UdpSocket::bind("0.0.0.0:0").unwrap());
        assert_eq!(ask_udp(&socket, (address(1, 3), 53)).unwrap(), "own 10.1.0.2");
        assert_eq!(addresses(&ask_name(&host.task(3), "h2", RecordType::A)), [address(1, 2)]);
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn a_question_asked_while_the_daemon_is_down_is_answered_by_the_next() {
    on_a_host("dns::a_question_asked_while_the_daemon_is_down_is_answered_by_the_next", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        overlay.set_service(service(1, &[2], &[])).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        // In production the container's supervisor keeps them.
        let kept = overlay.keep_names(task(2)).await.expect("sockets that were opened just now");
        assert!(overlay.keep_names(task(2)).await.is_none(), "they are kept once");
        assert_eq!(addresses(&ask_name(&host.task(2), "web", RecordType::A)), [address(1, 200)]);
        overlay.stop_names();
        drop(overlay);
        let asking = inside(&host.task(2), || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect("127.0.0.11:53").unwrap();
            socket.send(&question("web", RecordType::A)).unwrap();
            socket
        });
        let by_tcp = inside(&host.task(2), || TcpStream::connect("127.0.0.11:53").unwrap());
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "a")]).await.unwrap();
        overlay.set_service(service(1, &[2], &[])).await.unwrap();
        overlay.give_names(task(2), kept).await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        asking.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 512];
        let len = asking.recv(&mut buffer).expect("an answer by UDP");
        assert_eq!(addresses(&Message::from_vec(&buffer[..len]).unwrap()), [address(1, 200)]);
        let mut by_tcp = by_tcp;
        by_tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = question("web", RecordType::A);
        by_tcp.write_all(&[&(ask.len() as u16).to_be_bytes()[..], &ask].concat()).unwrap();
        let mut len = [0; 2];
        by_tcp.read_exact(&mut len).expect("an answer by TCP");
        assert!(overlay.keep_names(task(2)).await.is_none(), "what was given is kept already");
        overlay.teardown().await.unwrap();
    });
}
