//! The planner against a kernel that is nothing but [`Op::apply_to`].

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::validate::network_options;
use proptest::prelude::*;

use super::*;
use crate::ebpf::{Frontend, TranslatorState};
use crate::model::{Attachment, Backend, DnsConfig, Driver, EndpointMode, Mode, Network, Proto, PublishedPort};
use crate::model::{Nodes, Peer, SandboxSpec, Service, ServiceBackend, Subnet, Underlay, Way};
use crate::names::LinkName;

fn rules() -> Rules {
    Rules { instance: Instance::default(), keep_unknown: None, previous: None }
}

fn network(n: u8, internal: bool, encrypted: bool) -> Network {
    let subnet = |text: String| Subnet::with_first_gateway(text.parse().unwrap()).unwrap();
    let mut subnets = vec![subnet(format!("10.{n}.0.0/24"))];
    if !n.is_multiple_of(2) {
        subnets.push(subnet(format!("fd00:{n}::/64")));
    }
    Network {
        id: NetworkId::from_random(u128::from(n)),
        name: format!("n{n}"),
        driver: match n {
            0 => Driver::Overlay { vni: 4096 },
            9 => Driver::Ingress { vni: 4105 },
            _ => Driver::Bridge,
        },
        subnets,
        internal,
        encrypted,
        mtu: (n == 3).then_some(1450),
        options: match n {
            2 => [(network_options::ICC.to_owned(), "false".to_owned())].into(),
            _ => Default::default(),
        },
    }
}

fn spec(t: u8, networks: &[u8], mode: u8, ready: bool) -> SandboxSpec {
    let attachment = |n: &u8| {
        let mut addresses = vec![[10, *n, 0, t + 2].into()];
        if !n.is_multiple_of(2) {
            addresses.push(format!("fd00:{n}::{:x}", t + 2).parse().unwrap());
        }
        let network = NetworkId::from_random(u128::from(*n));
        Attachment {
            network,
            addresses,
            mac: None,
            aliases: vec![],
            gateway_priority: i32::from(t % 3) * i32::from(*n),
        }
    };
    SandboxSpec {
        task: TaskId::from_random(u128::from(t)),
        name: format!("t{t}"),
        hostname: format!("h{t}"),
        domainname: None,
        service: None,
        mode: match mode {
            0 => Mode::Host,
            1 => Mode::None,
            _ => Mode::Networks(networks.iter().map(attachment).collect()),
        },
        ports: if t == 1 { vec![port(9000, Proto::Udp)] } else { vec![] },
        dns: DnsConfig::default(),
        extra_hosts: vec![],
        ready,
    }
}

fn port(published: u16, proto: Proto) -> PublishedPort {
    PublishedPort { proto, host_ip: None, published, target: 80 }
}

fn service(s: u8, network: u8, tasks: &[(u8, bool)]) -> Service {
    let id = NetworkId::from_random(u128::from(network));
    let backend = |(t, ready): &(u8, bool)| Backend {
        task: TaskId::from_random(u128::from(*t)),
        name: format!("t{t}"),
        hostname: format!("h{t}"),
        node: (*t > 3).then(|| node(*t)),
        addresses: [(id, vec![[10, network, 0, t + 2].into()])].into(),
        macs: Default::default(),
        outside: vec![[10, network, 0, t + 2].into()],
        ready: *ready,
        named: true,
    };
    Service {
        id: ServiceId::from_random(u128::from(s)),
        name: format!("s{s}"),
        aliases: Default::default(),
        mode: EndpointMode::Vip,
        vips: [(id, vec![[10, network, 0, 200 + s].into()])].into(),
        backends: tasks.iter().map(backend).collect(),
        ports: vec![port(8000 + u16::from(s), if s.is_multiple_of(2) { Proto::Tcp } else { Proto::Udp })],
    }
}

fn node(t: u8) -> NodeId {
    NodeId::from_random(u128::from(t))
}

fn peer(n: u8) -> Peer {
    Peer {
        address: [192, 0, 2, n].into(),
        ingress: vec![format!("10.9.0.{n}/24").parse().unwrap()],
        direct: n.is_multiple_of(2),
        secure: (!n.is_multiple_of(3)).then(|| format!("fdbe::{n:x}").parse().unwrap()),
    }
}

prop_compose! {
    fn any_nodes()(known in any::<bool>(), own in 100u8..102, peers in prop::collection::btree_map(3u8..6, 10u8..20, 0..3)) -> Nodes {
        let peers = peers.into_iter().map(|(t, n)| (node(t), peer(n))).collect();
        Nodes { own: known.then(|| peer(own)), peers, secure_ports: [51820, 51821].into() }
    }
}

prop_compose! {
    fn any_desired()(
        internal in prop::collection::vec(any::<bool>(), 4),
        encrypted in prop::collection::vec(any::<bool>(), 2),
        tasks in prop::collection::btree_map(0u8..6, (prop::collection::btree_set(0u8..4, 1..3), 0u8..6, any::<bool>()), 0..5),
        services in prop::collection::btree_map(0u8..4, (0u8..4, prop::collection::btree_map(0u8..6, any::<bool>(), 0..4)), 0..4),
        present in prop::collection::btree_set(0u8..4, 0..4),
        nodes in any_nodes(),
    ) -> Desired {
        let used: BTreeSet<u8> = tasks.values().flat_map(|(n, _, _)| n.iter().copied()).chain(present).collect();
        let plain = used.iter().map(|n| network(*n, internal[usize::from(*n)], *n == 0 && encrypted[0]));
        let networks = plain.chain([network(9, true, encrypted[1])]);
        let networks = networks.map(|n| (n.id, n)).collect();
        let sandboxes = tasks.iter().map(|(t, (nets, mode, ready))| {
            let nets: Vec<u8> = nets.iter().copied().collect();
            let spec = spec(*t, &nets, *mode, *ready);
            (spec.task, Arc::new(spec))
        }).collect();
        let services = services.iter().map(|(s, (n, backends))| {
            let backends: Vec<_> = backends.iter().map(|(t, ready)| (*t, *ready)).collect();
            let service = service(*s, *n, &backends);
            (service.id, Arc::new(service))
        }).collect();
        Desired { networks, sandboxes, services, nodes }
    }
}

fn any_backend() -> impl Strategy<Value = ServiceBackend> {
    prop_oneof![Just(ServiceBackend::Nft), Just(ServiceBackend::Ebpf)]
}

/// A node on which nothing was made yet.
fn bare(service_backend: ServiceBackend) -> Observed {
    Observed { service_backend, ..Observed::default() }
}

/// All ports are to be had in these tests.
fn hold(desired: &Desired, observed: &mut Observed) {
    observed.held = wanted_ports(desired).0.into_iter().collect();
    let below = Underlay { link: LinkName::listed("up0"), range: "192.0.2.0/24".parse().unwrap(), mtu: 9000 };
    observed.underlay = [([192, 0, 2, 100].into(), below)].into();
}

fn carry_out(ops: &[Op], observed: &mut Observed) {
    ops.iter().for_each(|op| op.apply_to(observed));
}

fn reach(rules: &Rules, desired: &Desired, observed: &mut Observed) -> usize {
    hold(desired, observed);
    let ops = plan(rules, desired, observed);
    carry_out(&ops, observed);
    ops.len()
}

proptest! {
    #[test]
    fn a_second_plan_is_empty(backend in any_backend(), first in any_desired(), second in any_desired()) {
        let mut observed = bare(backend);
        for desired in [&first, &second, &first] {
            reach(&rules(), desired, &mut observed);
            let again = plan(&rules(), desired, &observed);
            prop_assert!(again.is_empty(), "{again:?}");
        }
    }

    #[test]
    fn a_crash_anywhere_is_mended(backend in any_backend(), first in any_desired(), second in any_desired(), at in any::<prop::sample::Index>()) {
        let mut observed = bare(backend);
        reach(&rules(), &first, &mut observed);
        let mut straight = observed.clone();
        reach(&rules(), &second, &mut straight);
        hold(&second, &mut observed);
        let ops = plan(&rules(), &second, &observed);
        carry_out(&ops[..at.index(ops.len() + 1)], &mut observed);
        // The daemon is gone: nobody answers names, no port is held.
        observed.held.clear();
        observed.sandboxes.values_mut().for_each(|s| s.dns = false);
        reach(&rules(), &second, &mut observed);
        prop_assert_eq!(forget_chains(observed), forget_chains(straight));
    }

    #[test]
    fn no_step_works_on_what_an_earlier_one_took_away(backend in any_backend(), first in any_desired(), second in any_desired()) {
        let mut observed = bare(backend);
        reach(&rules(), &first, &mut observed);
        // As when an agent hears that a network is gone before it ends the network's last task.
        let mut half = first.clone();
        half.networks = second.networks.clone();
        for desired in [&half, &second] {
            hold(desired, &mut observed);
            let ops = plan(&rules(), desired, &observed);
            for (at, op) in ops.iter().enumerate() {
                let Op::RemoveRoute { task, route } = op else { continue };
                let gone = |before: &&Op| matches!(before, Op::DeleteTaskLink { task: t, link } if (t, link) == (task, &route.device));
                prop_assert!(!ops[..at].iter().any(|before| gone(&before)), "{op} after its link: {ops:?}");
            }
            carry_out(&ops, &mut observed);
        }
    }

    #[test]
    fn nothing_wanted_leaves_nothing(backend in any_backend(), desired in any_desired()) {
        let mut observed = bare(backend);
        reach(&rules(), &desired, &mut observed);
        reach(&rules(), &Desired::default(), &mut observed);
        prop_assert!(observed.bridges.is_empty() && observed.veths.is_empty() && observed.sandboxes.is_empty());
        prop_assert!(observed.table.elements.0.is_empty());
        let translator = observed.translator.unwrap_or_default();
        prop_assert!(translator.tasks.is_empty() && translator.frontends.is_empty());
    }

    #[test]
    fn programs_come_and_go_with_what_is_asked_for(first in any_desired(), second in any_desired()) {
        let mut observed = bare(ServiceBackend::Ebpf);
        reach(&rules(), &first, &mut observed);
        prop_assert!(observed.translator.as_ref().is_some_and(|state| state.intact));
        // Cut off in the middle of a change, or made by another version.
        observed.translator = Some(TranslatorState { strays: [7].into(), ..TranslatorState::default() });
        reach(&rules(), &first, &mut observed);
        let whole = observed.translator.clone();
        observed.translator.iter_mut().for_each(|state| state.strays.extend([8, 9]));
        reach(&rules(), &first, &mut observed);
        prop_assert_eq!(&observed.translator, &whole);
        observed.service_backend = ServiceBackend::Nft;
        reach(&rules(), &second, &mut observed);
        prop_assert_eq!(&observed.translator, &None);
        prop_assert!(plan(&rules(), &second, &observed).is_empty());
    }

    #[test]
    fn programs_know_what_the_packet_filter_knows(desired in any_desired()) {
        let mut observed = bare(ServiceBackend::Ebpf);
        reach(&rules(), &desired, &mut observed);
        let state = observed.translator.unwrap_or_default();
        for (task, sandbox) in &observed.sandboxes {
            let networks = state.tasks.get(task).cloned().unwrap_or_default();
            let ours = state.frontends.iter().filter(|(of, _)| networks.contains(&of.network) && of.vip.is_ipv4());
            let ours: BTreeSet<_> = ours.map(|(of, backends)| (of.vip, backends.len() as u32)).collect();
            let jumps = sandbox.table.elements.0.iter().filter_map(|((set, key), value)| match (set, value) {
                (crate::nft::Set::Vips4, crate::nft::Value::Chain(class)) => Some((known::address(set.key()[0], key)?, class.slots)),
                (crate::nft::Set::VipRefuse4, _) => Some((known::address(set.key()[0], key)?, 0)),
                _ => None,
            });
            prop_assert_eq!(ours, jumps.collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn known_tables_are_changed_as_listed_ones(backend in any_backend(), first in any_desired(), second in any_desired()) {
        let mut observed = bare(backend);
        reach(&rules(), &first, &mut observed);
        let mut synced = observed.clone();
        for sandbox in synced.sandboxes.values_mut() {
            sandbox.table.synced = true;
            sandbox.table.elements = Default::default();
        }
        synced.translator.iter_mut().for_each(|translator| translator.synced = true);
        hold(&second, &mut observed);
        hold(&second, &mut synced);
        let with_previous = Rules { previous: Some(first), ..rules() };
        prop_assert_eq!(plan(&with_previous, &second, &synced), plan(&rules(), &second, &observed));
    }

    #[test]
    fn what_was_never_desired_is_left_alone(backend in any_backend(), old in any_desired(), new in any_desired()) {
        let mut observed = bare(backend);
        reach(&rules(), &old, &mut observed);
        let before = observed.clone();
        let mut known = Known::default();
        known.learn(&new);
        let careful = Rules { keep_unknown: Some(known), ..rules() };
        reach(&careful, &new, &mut observed);
        for task in old.sandboxes.keys().filter(|t| !new.sandboxes.contains_key(*t)) {
            prop_assert_eq!(observed.sandboxes.get(task), before.sandboxes.get(task));
        }
        if let (Some(now), Some(before)) = (&observed.translator, &before.translator) {
            let kept = |of: &&Frontend| !new.services.values().any(|s| s.vips.values().flatten().any(|vip| *vip == of.vip));
            for of in before.frontends.keys().filter(kept) {
                prop_assert_eq!(now.frontends.get(of), before.frontends.get(of));
            }
        }
        for (id, service) in old.services.iter().filter(|(id, _)| !new.services.contains_key(*id)) {
            let port = service.ports[0];
            let key = crate::nft::sets::Bytes::default().proto(port.proto.number()).port(port.published).done();
            let key = (crate::nft::Set::Ports4, key);
            prop_assert_eq!(observed.table.elements.0.get(&key), before.table.elements.0.get(&key), "{}", id);
        }
    }

    #[test]
    fn nothing_of_an_encrypted_network_goes_in_the_clear(backend in any_backend(), first in any_desired(), second in any_desired()) {
        let mut observed = bare(backend);
        for desired in [&first, &second] {
            reach(&rules(), desired, &mut observed);
            for network in desired.networks.values().filter(|network| network.encrypted) {
                let link = rules().instance.tunnel(network.id);
                let Some(tunnel) = observed.tunnels.get(&link) else { continue };
                prop_assert_eq!(tunnel.local, None);
                let ends = tunnel.ways.iter().filter_map(|way| match way {
                    Way::Flood { via } | Way::Station { via, .. } => Some(*via),
                    Way::Port { .. } | Way::Neighbour { .. } => None,
                });
                let secure: BTreeSet<_> = desired.nodes.peers.values().filter_map(|peer| peer.secure).collect();
                for end in ends {
                    prop_assert!(secure.contains(&end), "{end}");
                }
                let bridge = rules().instance.bridge(network.id);
                prop_assert!(!observed.direct.iter().any(|way| way.bridge == bridge));
                let vni = |set| (set, crate::nft::sets::Bytes::default().vni(tunnel.vni).done());
                let elements = &observed.table.elements.0;
                prop_assert!(!elements.contains_key(&vni(crate::nft::Set::Vnis)));
                prop_assert!(elements.contains_key(&vni(crate::nft::Set::SecureVnis)));
            }
        }
    }

    #[test]
    fn tasks_one_by_one_or_all_at_once(backend in any_backend(), desired in any_desired()) {
        let mut all = bare(backend);
        reach(&rules(), &desired, &mut all);
        let mut one_by_one = bare(backend);
        hold(&desired, &mut one_by_one);
        for task in desired.sandboxes.keys() {
            let ops = plan_task(&rules(), &desired, &one_by_one, *task);
            carry_out(&ops, &mut one_by_one);
        }
        let rest = plan(&rules(), &desired, &one_by_one);
        if !desired.sandboxes.is_empty() {
            prop_assert!(rest.is_empty(), "{rest:?}");
        }
    }
}

/// Class chains stay when nothing jumps to them any more, and so does a name server when a task loses its last link.
fn forget_chains(mut observed: Observed) -> Observed {
    observed.table.classes.clear();
    observed.sandboxes.values_mut().for_each(|s| s.table.classes.clear());
    observed.sandboxes.values_mut().filter(|s| s.links.is_empty()).for_each(|s| s.dns = false);
    observed
}

#[test]
fn a_bridge_and_a_task_step_by_step() {
    let desired = Desired {
        networks: [(NetworkId::from_random(2), network(2, false, false))].into(),
        sandboxes: [(TaskId::from_random(4), Arc::new(spec(4, &[2], 9, true)))].into(),
        ..Desired::default()
    };
    let steps: Vec<String> = plan(&rules(), &desired, &Observed::default()).iter().map(Op::to_string).collect();
    let bridge = Instance::default().bridge(NetworkId::from_random(2));
    let starts = [
        "let the node forward IPv4".to_owned(),
        format!("make bridge {bridge}, mtu 1500"),
        format!("add 10.2.0.1/24 to {bridge}"),
        "make the namespace of task".to_owned(),
        "connect task".to_owned(),
        "add 10.2.0.6/24 to eth0".to_owned(),
        "route task".to_owned(),
        "table of task".to_owned(),
        "open the name server".to_owned(),
        "node table: rebuilt".to_owned(),
    ];
    assert_eq!(steps.len(), starts.len(), "{steps:#?}");
    for (step, start) in steps.iter().zip(&starts) {
        assert!(step.starts_with(start.as_str()), "{step} / {start}");
    }
}

#[test]
fn two_publishers_of_one_port_are_told_apart() {
    let (one, mut two) = (service(0, 2, &[(1, true)]), service(2, 2, &[(1, true)]));
    two.ports = one.ports.clone();
    let desired =
        Desired { services: [one, two].into_iter().map(|s| (s.id, Arc::new(s))).collect(), ..Desired::default() };
    let (ports, clashes) = wanted_ports(&desired);
    assert_eq!(ports.len(), 1);
    let text = clashes[0].to_string();
    assert!(text.contains("8000/tcp") && text.contains("service s0") && text.contains("service s2"), "{text}");
}
