//! What there is only so much of, used up: addresses of a subnet, published ports. What fits runs, the rest says why it waits
//! and comes about as soon as something is given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_manager::allocator::{PORTS, network::default_network};
use berth_proto::id::{NetworkId, ServiceId};
use berth_proto::object::{Meta, Network};
use berth_proto::spec::{IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, PublishMode, ServiceSpec};

use crate::sim::Sim;
use crate::sim::spec::*;

fn network(name: &str, subnet: &str) -> Network {
    let subnet = subnet.parse().unwrap();
    let ipam = vec![IpamPool { subnet, ip_range: None, gateway: None, aux_addresses: BTreeMap::new() }];
    let name = name.parse().unwrap();
    let spec = NetworkSpec { name, ipam, driver: NetworkDriver::Overlay, ..default_network() };
    Network { id: NetworkId::from_random(7), meta: Meta::default(), spec: Arc::new(spec), allocation: None }
}

fn joined(mut spec: ServiceSpec, network: &str) -> ServiceSpec {
    spec.task.networks = vec![NetworkAttachmentSpec {
        network: network.parse().unwrap(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    }];
    spec
}

fn running(sim: &Sim, services: &[ServiceId]) -> usize {
    services.iter().map(|id| sim.running(*id).len()).sum()
}

/// Addresses that all of them hold.
fn held(sim: &Sim, services: &[ServiceId]) -> usize {
    let virtual_ips =
        services.iter().filter_map(|id| sim.service(*id).endpoint.as_ref()).map(|it| it.virtual_ips.len());
    running(sim, services) + virtual_ips.sum::<usize>()
}

#[test]
fn a_hundred_services_on_a_full_subnet_run_as_far_as_it_goes_and_the_rest_follow() {
    const ROOM: usize = 253;
    let mut sim = Sim::with_nodes(41, 5);
    sim.write(|tx| tx.create(network("full", "10.9.0.0/24"))).unwrap();
    let create = |sim: &mut Sim, n: usize| sim.create(joined(service(&format!("s{n}"), "run", 2), "full"));
    let mut services: Vec<ServiceId> = (0..100).map(|n| create(&mut sim, n)).collect();
    sim.run(secs(2));
    assert_eq!(held(&sim, &services), ROOM, "{}", sim.table());
    let said = "no address is left in 10.9.0.0/24: all 253 are in use";
    for task in services.iter().flat_map(|id| sim.tasks(*id)).filter(|task| task.node.is_none()) {
        assert_eq!(task.status.error, format!("network full: {said}"));
    }
    // Whoever waits gets what is given back, over a change of the leader too, and nothing else is disturbed.
    for round in 0..20 {
        if round == 10 {
            sim.restart_manager();
        }
        let first = services.iter().position(|id| !sim.running(*id).is_empty()).unwrap();
        sim.remove(services.remove(first));
        let room = ROOM.min(3 * services.len());
        let what = format!("round {round}: what was given back to be in use");
        sim.wait_for(&what, secs(60), |sim| held(sim, &services) == room);
    }
    assert_eq!(running(&sim, &services), 160, "{}", sim.table());
}

#[test]
fn published_ports_that_are_used_up_are_said_and_given_on() {
    let mut sim = Sim::with_nodes(42, 1);
    let some = |name: &str, replicas: u64, ports: u16| {
        let spec = service(name, "run", replicas);
        (0..ports).fold(spec, |spec, port| publish(spec, port + 1, None, PublishMode::Ingress))
    };
    let all = PORTS.len() as u16;
    // A few services with many ports each: how many services there are is not the question.
    let many: Vec<ServiceId> = (0..8).map(|n| sim.create(some(&format!("many{n}"), 0, all / 8))).collect();
    sim.run(secs(1));
    let late = sim.create(some("late", 1, 2));
    sim.run(secs(1));
    let waiting = sim.tasks(late)[0];
    assert_eq!(waiting.status.error, "no port is left in 30000-32767 to publish 1 on");
    assert!(sim.service(late).endpoint.is_none());
    sim.restart_manager();
    sim.run(secs(1));
    assert!(sim.running(late).is_empty(), "{}", sim.table());
    let given = sim.service(many[3]).endpoint.clone().unwrap().ports[0].published;
    sim.remove(many[3]);
    sim.wait_for("a port", secs(60), |sim| sim.running(late).len() == 1);
    assert_eq!(sim.service(late).endpoint.clone().unwrap().ports[0].published, given, "the lowest that is free");
}
