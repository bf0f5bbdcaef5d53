//! How long the steps of a node's network take. Needs root; runs on a throw-away host (namespaces), so the machine is not touched.
//!
//! `cargo bench -p berth-netoverlay` prints one line per figure: what, n, median, quartiles, 99th percentile. With
//! `SERVICES_ONLY=1` in the environment it measures changes of services alone: a node with two tasks and 1,000 services of 16
//! backends each, through the same calls as the agent's, every one until the kernel and the name server have it. To compare two
//! builds, run them in turn on a machine that does nothing else, a few times each, and compare medians.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code, reason = "shared with the kernel tests, which use all of it")]
#[path = "../tests/kernel/host.rs"]
mod host;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use berth_netoverlay::model::{Proto, Service};
use berth_proto::id::ServiceId;
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use host::*;

fn main() {
    on_a_host("node", async |host| {
        let overlay = host.overlay().await;
        overlay.set_networks(vec![network(1, "n")]).await.unwrap();
        overlay.reconcile().await.unwrap();
        overlay.attach(spec(2, &[1])).await.unwrap();
        overlay.attach(spec(3, &[1])).await.unwrap();
        if std::env::var_os("SERVICES_ONLY").is_some() {
            services(&overlay).await;
            return overlay.teardown().await.unwrap();
        }
        tcp_server(&host.task(3), 80, "three");
        attach_and_detach(&overlay, "1 after the other", Duration::ZERO).await;
        attach_and_detach(&overlay, "a pause between", Duration::from_millis(30)).await;
        published(&overlay).await;
        connects(&host, "task to task directly", address(1, 3));
        overlay.set_service(service(1, &[3], &[])).await.unwrap();
        connects(&host, "task to VIP, 1 service", address(1, 200));
        names(&host, "1 service");
        services(&overlay).await;
        connects(&host, "task to VIP, 1,000 services", address(1, 200));
        names(&host, "1,000 services");
        let mut list = Vec::new();
        for _ in 0..20 {
            let start = Instant::now();
            overlay.reconcile().await.unwrap();
            list.push(start.elapsed());
        }
        show("list and compare the node, 2 tasks, 1,000 services x 16", list);
        overlay.teardown().await.unwrap();
    });
}

async fn attach_and_detach(overlay: &berth_netoverlay::Overlay, how: &str, pause: Duration) {
    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    for round in 0..100u8 {
        std::thread::sleep(pause);
        let start = Instant::now();
        overlay.attach(spec(10 + round % 50, &[1])).await.unwrap();
        attach.push(start.elapsed());
        std::thread::sleep(pause);
        let start = Instant::now();
        overlay.detach(task(10 + round % 50)).await.unwrap();
        detach.push(start.elapsed());
    }
    show(&format!("attach a task, {how}"), attach);
    show(&format!("detach a task, {how}"), detach);
}

async fn published(overlay: &berth_netoverlay::Overlay) {
    overlay.set_service(service(1, &[2, 3], &[port(Proto::Tcp, 8080, 80)])).await.unwrap();
    let mut ready = Vec::new();
    for round in 0..100 {
        let start = Instant::now();
        overlay.set_ready(task(2), round % 2 == 0).await.unwrap();
        ready.push(start.elapsed());
    }
    show("a backend in or out of a VIP and a port, 2 tasks", ready);
}

async fn services(overlay: &berth_netoverlay::Overlay) {
    let web = service(1, &[3], &[]);
    let many = |shift: u8| -> Vec<Service> {
        let other = (0..999u16).map(|n| {
            let [high, low] = n.to_be_bytes();
            let mut service = web.clone();
            service.id = ServiceId::from_random(u128::from(n));
            service.name = format!("s{n}");
            service.aliases = [(net_id(1), vec![format!("alias{n}")])].into();
            service.vips = [(net_id(1), vec![[10, 99, high, low].into()])].into();
            let backend = |b: u8| {
                let mut backend = web.backends[0].clone();
                backend.name = format!("s{n}.{b}.{shift}");
                backend.hostname = format!("h{n}-{b}-{shift}");
                backend.addresses = [(net_id(1), vec![[10, 98, shift, b].into()])].into();
                backend
            };
            service.backends = (0..16).map(backend).collect();
            service
        });
        other.chain([web.clone()]).collect()
    };
    let mut all = Vec::new();
    for shift in 0..20 {
        let services = many(shift);
        let start = Instant::now();
        overlay.set_services(services).await.unwrap();
        all.push(start.elapsed());
    }
    show("replace 1,000 services x 16 backends in 2 tasks", all);
    let mut one = Vec::new();
    for round in 0..100u8 {
        let mut service = many(19).swap_remove(0);
        service.backends.truncate(1 + usize::from(round % 16));
        let start = Instant::now();
        overlay.set_service(service).await.unwrap();
        one.push(start.elapsed());
    }
    show("change one of 1,000 services in 2 tasks", one);
    let mut among = Vec::new();
    for round in 0..100u8 {
        let mut services = many(19);
        services[500].backends.truncate(1 + usize::from(round % 16));
        let start = Instant::now();
        overlay.set_services(services).await.unwrap();
        among.push(start.elapsed());
    }
    show("give all of 1,000 services anew, one of them changed", among);
    let mut ready = Vec::new();
    for round in 0..100 {
        let start = Instant::now();
        overlay.set_ready(task(3), round % 2 == 1).await.unwrap();
        ready.push(start.elapsed());
    }
    show("a task of 1,000 services in or out of all of them", ready);
    let mut fill = Vec::new();
    for _ in 0..20 {
        overlay.set_services(Vec::new()).await.unwrap();
        let services = many(0);
        let start = Instant::now();
        overlay.set_services(services).await.unwrap();
        fill.push(start.elapsed());
    }
    show("fill 2 empty tasks with 1,000 services x 16 backends", fill);
    published_among_many(overlay, many(0)).await;
    overlay.set_services(many(19)).await.unwrap();
}

async fn published_among_many(overlay: &berth_netoverlay::Overlay, mut services: Vec<Service>) {
    for (service, published) in services.iter_mut().zip(10_000..) {
        service.ports = vec![port(Proto::Tcp, published, 80)];
    }
    overlay.set_services(services.clone()).await.unwrap();
    let mut one = Vec::new();
    for round in 0..100u8 {
        let mut service = services[500].clone();
        service.backends.truncate(1 + usize::from(round % 16));
        let start = Instant::now();
        overlay.set_service(service).await.unwrap();
        one.push(start.elapsed());
    }
    show("change one of 1,000 services, each with a published port", one);
}

fn connects(host: &Host, what: &str, to: std::net::IpAddr) {
    let times = inside(&host.task(2), || {
        let one = |_| {
            let start = Instant::now();
            let stream = TcpStream::connect((to, 80)).unwrap();
            let time = start.elapsed();
            drop(stream);
            time
        };
        (0..2000).map(one).collect()
    });
    show(&format!("connect, {what}"), times);
}

fn names(host: &Host, among: &str) {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii("web").unwrap(), RecordType::A));
    let question = message.to_vec().unwrap();
    let ask = |socket: &UdpSocket| {
        let start = Instant::now();
        socket.send(&question).unwrap();
        socket.recv(&mut [0; 512]).unwrap();
        start.elapsed()
    };
    let open = || {
        let socket = inside(&host.task(2), || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect("127.0.0.11:53").unwrap();
        socket
    };
    let socket = open();
    show(&format!("one name among {among}, one after the other"), (0..5000).map(|_| ask(&socket)).collect());
    let start = Instant::now();
    let clients: Vec<_> = (0..8).map(|_| open()).collect();
    std::thread::scope(|scope| {
        for socket in &clients {
            scope.spawn(move || {
                (0..5000).for_each(|_| {
                    ask(socket);
                })
            });
        }
    });
    println!(
        "{:<60} {:>8.0} answers/s",
        format!("names among {among}, 8 clients"),
        40_000.0 / start.elapsed().as_secs_f64()
    );
    let mut stream = inside(&host.task(2), || TcpStream::connect("127.0.0.11:53").unwrap());
    stream.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&question).unwrap();
    assert!(stream.read(&mut [0; 512]).unwrap() > 2);
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    let (n, median, low, high, worst) = (times.len(), at(0.5), at(0.25), at(0.75), at(0.99));
    println!("{what:<60} n {n:>5}  median {median:>8.3} ms  quartiles {low:>8.3} {high:>8.3}  p99 {worst:>8.3} ms");
}
