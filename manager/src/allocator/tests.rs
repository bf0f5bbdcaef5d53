//! What is given out, as data.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{ClusterId, NetworkId, NodeId};
use berth_proto::object::{Cluster, Meta, Network, Node, NodeDescription};
use berth_proto::spec::{ClusterSpec, IpamPool, NetworkDriver, NetworkSpec, NodeSpec};
use berth_proto::time::Timestamp;
use berth_proto::validate::network_options;
use ipnet::IpNet;
use proptest::prelude::*;

use super::pool::{Pool, PoolError};
use super::{AllocatorConfig, Book, REST};
use super::{ingress, network};
use crate::orchestrator::{SeededIds, Turn};
use crate::store::{State, Transaction};

const NOW: Timestamp = Timestamp(1_000_000_000_000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(subnet: &str) -> Pool {
    Pool::new(subnet.parse().unwrap(), None, [])
}

#[test]
fn addresses_go_up_and_leave_out_the_edges_and_what_is_reserved() {
    let mut pool = Pool::new("10.1.0.0/29".parse().unwrap(), None, [ip("10.1.0.1"), ip("10.1.0.3")]);
    let given: Vec<String> = (0..4).map(|_| pool.take(NOW).unwrap().to_string()).collect();
    assert_eq!(given, ["10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
    let error = pool.take(NOW).unwrap_err();
    assert_eq!(error.to_string(), "no address is left in 10.1.0.0/29: all 4 are in use");
}

#[test]
fn an_address_rests_before_it_is_given_out_again_unless_there_is_no_other() {
    let mut pool = pool("10.1.0.0/29");
    let first = pool.take(NOW).unwrap();
    pool.give_back(first, NOW);
    let others: BTreeSet<IpAddr> = (0..5).map(|_| pool.take(NOW).unwrap()).collect();
    assert!(!others.contains(&first));
    assert_eq!(pool.take(NOW).unwrap(), first, "the last one that is left");
    assert!(pool.take(NOW).is_err());
    pool.give_back(ip("10.1.0.2"), NOW);
    assert_eq!(pool.take(NOW.after(REST)).unwrap(), ip("10.1.0.2"));
}

#[test]
fn a_fixed_address_is_had_once_and_only_inside_the_subnet() {
    let mut pool = Pool::new("10.1.0.0/24".parse().unwrap(), Some("10.1.0.128/25".parse().unwrap()), []);
    assert_eq!(pool.claim(ip("10.1.0.9")), Ok(()));
    assert_eq!(pool.claim(ip("10.1.0.9")), Err(PoolError::Taken { address: ip("10.1.0.9") }));
    assert!(matches!(pool.claim(ip("10.2.0.9")), Err(PoolError::Outside { .. })));
    assert_eq!(pool.take(NOW).unwrap(), ip("10.1.0.128"), "the range is for what is not fixed");
}

fn spec(name: &str, driver: NetworkDriver) -> NetworkSpec {
    NetworkSpec { name: name.parse().unwrap(), driver, attachable: false, ..network::default_network() }
}

/// The book after giving out to these networks, with what each got.
fn allocate(config: AllocatorConfig, specs: Vec<NetworkSpec>) -> (Book, Vec<Network>, Vec<String>) {
    allocate_beside(config, specs, &[])
}

/// The same with a node for each list of routes.
fn allocate_beside(
    config: AllocatorConfig,
    specs: Vec<NetworkSpec>,
    routes: &[&[&str]],
) -> (Book, Vec<Network>, Vec<String>) {
    let mut state = State::default();
    let mut tx = Transaction::new(NOW, "test");
    for (n, routes) in routes.iter().enumerate() {
        let routes = routes.iter().map(|route| route.parse().unwrap()).collect();
        tx.create(Node {
            id: NodeId::from_random(n as u128 + 1),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            description: Some(NodeDescription { routes, ..NodeDescription::default() }),
            status: Default::default(),
            manager: None,
            ingress: Vec::new(),
        });
    }
    for (n, spec) in specs.into_iter().enumerate() {
        let id = NetworkId::from_random(n as u128 + 1);
        tx.create(Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation: None });
    }
    state.apply(1, &tx).unwrap();
    let mut book = Book::new(config);
    let mut ids = SeededIds::new(1);
    let mut tx = Transaction::new(NOW, "test");
    let failures = network::decide(&mut book, &mut tx, &mut Turn::new(&state, NOW, &mut ids));
    state.apply(2, &tx).unwrap();
    let networks = state.networks().map(|network| Network::clone(network)).collect();
    (book, networks, failures.into_iter().map(|(_, error)| error.to_string()).collect())
}

#[test]
fn networks_follow_the_default_for_encryption_unless_they_say_otherwise() {
    let says = |name: &str, value: &str| NetworkSpec {
        options: [(network_options::ENCRYPTED.to_owned(), value.to_owned())].into(),
        ..spec(name, NetworkDriver::Overlay)
    };
    let specs = [
        says("yes", "true"),
        says("no", "false"),
        spec("silent", NetworkDriver::Overlay),
        spec("here", NetworkDriver::Bridge),
    ];
    let mut state = State::default();
    let mut tx = Transaction::new(NOW, "test");
    for (n, spec) in (1..).zip(specs) {
        tx.create(Network {
            id: NetworkId::from_random(n),
            meta: Meta::default(),
            spec: Arc::new(spec),
            allocation: None,
        });
    }
    let cluster = |encrypt_networks| Cluster {
        id: ClusterId::from_random(1),
        meta: Meta::default(),
        spec: ClusterSpec { encrypt_networks, ..ClusterSpec::default() },
        authority: None,
        tokens: Vec::new(),
    };
    tx.create(cluster(false));
    state.apply(1, &tx).unwrap();
    let (mut book, mut ids) = (Book::new(AllocatorConfig::default()), SeededIds::new(1));
    let mut encrypted = |state: &mut State, index| {
        let mut tx = Transaction::new(NOW, "test");
        network::decide(&mut book, &mut tx, &mut Turn::new(state, NOW, &mut ids));
        state.apply(index, &tx).unwrap();
        let encrypted = state.networks().filter(|it| it.allocation.as_ref().is_some_and(|given| given.encrypted));
        let names: BTreeSet<String> = encrypted.map(|it| it.spec.name.to_string()).collect();
        (names, tx.is_empty())
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(encrypted(&mut state, 2), (names(&["yes"]), false));
    for (index, on, expected) in [(3, true, &["yes", "silent", "ingress"][..]), (6, false, &["yes"])] {
        let mut tx = Transaction::new(NOW, "test");
        let meta = state.cluster().unwrap().meta;
        tx.update(Cluster { meta, ..cluster(on) });
        state.apply(index, &tx).unwrap();
        assert_eq!(encrypted(&mut state, index + 1), (names(expected), false));
        assert_eq!(encrypted(&mut state, index + 2), (names(expected), true), "and then there is nothing left to do");
    }
}

#[test]
fn networks_get_subnets_that_overlap_nothing() {
    let config = AllocatorConfig { avoid: vec!["10.128.16.0/21".parse().unwrap()], ..AllocatorConfig::default() };
    let asked = IpamPool {
        subnet: "10.128.32.0/24".parse().unwrap(),
        ip_range: None,
        gateway: None,
        aux_addresses: Default::default(),
    };
    let specs = vec![
        NetworkSpec { ipam: vec![asked], ..spec("own", NetworkDriver::Overlay) },
        spec("a", NetworkDriver::Overlay),
        NetworkSpec { ipv6: true, ..spec("b", NetworkDriver::Bridge) },
        spec("host-like", NetworkDriver::Host),
    ];
    let (_, networks, failures) = allocate(config, specs);
    assert!(failures.is_empty(), "{failures:?}");
    let of = |name: &str| {
        let network = networks.iter().find(|network| network.spec.name.as_str() == name).unwrap();
        network.allocation.clone().unwrap()
    };
    let subnets = |name: &str| of(name).pools.iter().map(|(subnet, _)| subnet.to_string()).collect::<Vec<_>>();
    assert_eq!(subnets("own"), ["10.128.32.0/24"]);
    assert_eq!(of("own").pools[0].1, ip("10.128.32.1"));
    assert_eq!(subnets("a"), ["10.129.0.0/16"], "past what is to be avoided and what a person asked for");
    assert_eq!(subnets("b")[0], "10.130.0.0/16");
    assert!(subnets("b")[1].starts_with("fd"));
    assert_eq!(subnets("bridge"), ["10.131.0.0/16"]);
    assert_eq!(subnets("ingress")[0], "10.132.0.0/16");
    assert_eq!(subnets("ingress").len(), 2, "IPv6 too");
    assert!(of("host-like").pools.is_empty());
    assert_eq!((of("own").vni, of("a").vni, of("b").vni, of("ingress").vni), (4096, 4097, 0, 4098));
}

#[test]
fn no_subnet_is_given_that_a_node_has_a_route_to() {
    let routes: &[&[&str]] = &[
        // A VPN on one machine, another daemon's networks on the second, a LAN in the midst of the range on the third.
        &["10.128.0.0/19", "192.0.2.0/24", "fd00::/64"],
        &["10.129.0.0/16", "172.17.0.0/16"],
        &["10.128.48.0/20"],
    ];
    let specs = vec![spec("a", NetworkDriver::Overlay), spec("b", NetworkDriver::Bridge)];
    let (_, networks, failures) = allocate_beside(AllocatorConfig::default(), specs, routes);
    assert!(failures.is_empty(), "{failures:?}");
    let mut given: Vec<String> = networks
        .iter()
        .flat_map(|network| &network.allocation.as_ref().unwrap().pools)
        .map(|(s, _)| s.to_string())
        .filter(|subnet| !subnet.starts_with("fd"))
        .collect();
    given.sort();
    assert_eq!(given, ["10.130.0.0/16", "10.131.0.0/16", "10.132.0.0/16", "10.133.0.0/16"]);
}

#[test]
fn other_private_ranges_serve_where_a_route_takes_the_usual_one() {
    let specs = vec![spec("a", NetworkDriver::Overlay)];
    let (_, networks, failures) =
        allocate_beside(AllocatorConfig::default(), specs.clone(), &[&["10.0.0.0/8", "172.16.0.0/15"]]);
    assert!(failures.is_empty(), "{failures:?}");
    let given: BTreeSet<String> =
        networks.iter().map(|network| network.allocation.as_ref().unwrap().pools[0].0.to_string()).collect();
    let expected = ["172.18.0.0/16", "172.19.0.0/16", "172.20.0.0/16"].map(str::to_owned);
    assert_eq!(given, BTreeSet::from(expected));
    let everything: &[&str] = &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];
    let (_, _, failures) = allocate_beside(AllocatorConfig::default(), specs, &[everything]);
    assert_eq!(
        failures[0],
        "no subnet of /16, /20 or /24 is left in 10.128.0.0/9, 172.16.0.0/12, 192.168.0.0/16: 0 networks have one, and nodes \
         have routes to 3 other ranges"
    );
}

#[test]
fn running_out_of_subnets_is_said_in_figures() {
    let config = AllocatorConfig {
        base: "10.0.0.0/22".parse().unwrap(),
        prefixes: vec![24],
        fallback: Vec::new(),
        avoid: Vec::new(),
    };
    let specs = (0..5).map(|n| spec(&format!("n{n}"), NetworkDriver::Overlay)).collect();
    let (_, _, failures) = allocate(config, specs);
    assert_eq!(failures.len(), 3, "five and the two predefined ones, for four subnets");
    assert_eq!(failures[0], "no subnet of /24 is left in 10.0.0.0/22: 4 networks have one");
}

#[test]
fn of_two_networks_that_ask_for_the_same_subnet_one_gets_it() {
    let asked = |subnet: &str| IpamPool {
        subnet: subnet.parse().unwrap(),
        ip_range: None,
        gateway: None,
        aux_addresses: Default::default(),
    };
    let with =
        |name: &str, subnet: &str| NetworkSpec { ipam: vec![asked(subnet)], ..spec(name, NetworkDriver::Overlay) };
    let specs = vec![with("a", "10.1.0.0/16"), with("b", "10.1.2.0/24"), with("c", "10.2.0.0/16")];
    let (_, networks, failures) = allocate(AllocatorConfig::default(), specs);
    assert_eq!(failures, ["subnet 10.1.2.0/24 overlaps 10.1.0.0/16 of network a"]);
    let got: Vec<&str> =
        networks.iter().filter(|it| it.allocation.is_some()).map(|network| network.spec.name.as_str()).collect();
    assert_eq!(got, ["a", "c", "bridge", "ingress"]);
}

fn node(number: u128) -> Node {
    Node {
        id: NodeId::from_random(number),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: None,
        status: Default::default(),
        manager: None,
        ingress: Vec::new(),
    }
}

#[test]
fn every_node_has_an_address_of_each_family_with_the_same_lowest_bits_for_life() {
    let (mut book, networks, _) = allocate(AllocatorConfig::default(), Vec::new());
    let network = networks.iter().find(|network| network.spec.name.as_str() == "ingress").unwrap();
    let mut state = State::default();
    let mut tx = Transaction::new(NOW, "test");
    (1..=300).for_each(|number| tx.create(node(number)));
    state.apply(1, &tx).unwrap();
    let mut ids = SeededIds::new(1);
    let (given, failed) = ingress::decide(&mut book, &Turn::new(&state, NOW, &mut ids));
    assert_eq!((given.len(), failed), (5, None), "some nodes in each transaction");
    for (index, transaction) in (2..).zip(&given) {
        state.apply(index, transaction).unwrap();
    }
    let pools = &network.allocation.as_ref().unwrap().pools;
    let mut marks = BTreeSet::new();
    for node in state.nodes() {
        let [IpNet::V4(v4), IpNet::V6(v6)] = node.ingress[..] else { panic!("{:?}", node.ingress) };
        assert!(pools[0].0.contains(&IpNet::V4(v4)) && pools[1].0.contains(&IpNet::V6(v6)));
        assert_eq!((v4.prefix_len(), v6.prefix_len()), (16, 64));
        let mark = u32::from(v4.addr()) as u16;
        assert_eq!(mark, u128::from(v6.addr()) as u16);
        assert!(![0, 1, u16::MAX].contains(&mark) && marks.insert(mark), "{v4}");
    }
    let (again, _) = ingress::decide(&mut book, &Turn::new(&state, NOW, &mut ids));
    assert!(again.is_empty(), "{again:?}");
    // A book of what is stored gives out nothing twice.
    let mut fresh = Book::new(AllocatorConfig::default());
    fresh.upsert_network(network);
    state.nodes().for_each(|node| fresh.upsert_node(node, NOW));
    let gone = state.node(NodeId::from_random(7)).unwrap().clone();
    let mut tx = Transaction::new(NOW, "test");
    tx.remove(&*gone);
    tx.create(node(1_000));
    state.apply(10, &tx).unwrap();
    assert!(fresh.remove_node(gone.id, NOW), "it held something");
    let (given, _) = ingress::decide(&mut fresh, &Turn::new(&state, NOW, &mut ids));
    state.apply(11, &given[0]).unwrap();
    let new = state.node(NodeId::from_random(1_000)).unwrap();
    assert!(
        new.ingress != gone.ingress
            && !marks.contains(
                &(match new.ingress[0] {
                    IpNet::V4(v4) => u32::from(v4.addr()) as u16,
                    IpNet::V6(_) => panic!("IPv4 comes first"),
                })
            ),
        "the one that was given back rests"
    );
}

#[test]
fn nodes_that_get_no_address_are_said_in_figures() {
    let base = "10.0.0.0/23".parse().unwrap();
    let config = AllocatorConfig { base, prefixes: vec![24], fallback: Vec::new(), avoid: Vec::new() };
    let (mut book, _, _) = allocate(config, Vec::new());
    let mut state = State::default();
    let mut tx = Transaction::new(NOW, "test");
    (1..=260).for_each(|number| tx.create(node(number)));
    state.apply(1, &tx).unwrap();
    let (given, failed) = ingress::decide(&mut book, &Turn::new(&state, NOW, &mut SeededIds::new(1)));
    assert_eq!(given.iter().map(|tx| tx.changes.len()).sum::<usize>(), 253);
    let said = "7 nodes have no address on network ingress: no address is left in 10.0.1.0/24: all 253 are in use";
    assert_eq!(failed.as_deref(), Some(said));
}

proptest! {
    #[test]
    fn nothing_is_ever_given_twice(steps in proptest::collection::vec((any::<bool>(), 0..40usize, 0..40u64), 0..300)) {
        let mut pool = pool("10.1.0.0/27");
        let mut held: Vec<IpAddr> = Vec::new();
        let mut now = NOW;
        for (take, which, later) in steps {
            now = now.after(std::time::Duration::from_secs(later));
            if take {
                match pool.take(now) {
                    Ok(address) => {
                        prop_assert!(!held.contains(&address));
                        held.push(address);
                    }
                    Err(error) => prop_assert_eq!(held.len(), 30, "{}", error),
                }
            } else if !held.is_empty() {
                pool.give_back(held.swap_remove(which % held.len()), now);
            }
            prop_assert_eq!(pool.taken(), held.len());
        }
    }
}
