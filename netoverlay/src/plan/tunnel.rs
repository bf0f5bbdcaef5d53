//! Steps for what leads to other nodes: a tunnel for each network that has tasks elsewhere, one for published ports, and the
//! ways through them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_proto::id::{NetworkId, NodeId, ServiceId};
use ipnet::IpNet;

use super::direct::goes_straight;
use super::{Op, Rules, TunnelPlan};
use crate::model::{Desired, Driver, MacAddr, Network, Observed, Peer, ReturnWay, Service, TunnelState, Way};
use crate::names::{LinkName, ingress_mac, task_mac, tunnel_mac};

/// UDP port of all tunnels (IANA: VXLAN).
pub const TUNNEL_PORT: u16 = 4789;
/// What a tunnel's headers take of a packet (outer IPv4 or IPv6, UDP, VXLAN, inner Ethernet), bytes.
const fn overhead(v6: bool) -> u32 {
    if v6 { 70 } else { 50 }
}

/// What an encrypted link's headers take of a packet besides, whichever family it goes by (outer header, UDP, WireGuard), bytes.
const ENCRYPTION: u32 = 80;

/// Payload size of a network's links on this node, bytes.
pub(super) fn link_mtu(network: &Network, desired: &Desired, observed: &Observed) -> u32 {
    const PLAIN: u32 = 1500;
    let tunnelled = || {
        let own = desired.nodes.reachable_own()?.address;
        let below = observed.underlay_of(own).map_or(PLAIN, |link| link.mtu);
        let taken = if network.encrypted { ENCRYPTION + overhead(true) } else { overhead(own.is_ipv6()) };
        Some(below.saturating_sub(taken).max(1280))
    };
    let default = match network.driver {
        Driver::Overlay { .. } | Driver::Ingress { .. } => tunnelled().unwrap_or(PLAIN),
        Driver::Bridge | Driver::Macvlan { .. } | Driver::Host | Driver::None => PLAIN,
    };
    network.mtu.unwrap_or(default)
}

/// What tunnels there should be and where they lead: worked out once for a pass.
pub(super) struct Tunnels<'a> {
    rules: &'a Rules,
    desired: &'a Desired,
    observed: &'a Observed,
    /// Nodes that have tasks on a network.
    elsewhere: BTreeMap<NetworkId, BTreeSet<NodeId>>,
    /// Those of them that have tasks which are reached by a tunnel.
    tunnelled: BTreeMap<NetworkId, BTreeSet<NodeId>>,
}

impl<'a> Tunnels<'a> {
    pub fn new(rules: &'a Rules, desired: &'a Desired, observed: &'a Observed) -> Self {
        let (mut elsewhere, mut tunnelled) = (BTreeMap::<_, BTreeSet<_>>::new(), BTreeMap::<_, BTreeSet<_>>::new());
        if desired.nodes.reachable_own().is_some() {
            for (id, node, addresses) in desired.services.values().flat_map(|service| places(service)) {
                let Some(peer) = desired.nodes.reachable_peer(node) else { continue };
                let Some(network) = desired.networks.get(&id) else { continue };
                elsewhere.entry(id).or_default().insert(node);
                if !addresses.iter().all(|address| goes_straight(network, peer, *address)) {
                    tunnelled.entry(id).or_default().insert(node);
                }
            }
        }
        Self { rules, desired, observed, elsewhere, tunnelled }
    }

    /// Makes and mends the devices. A network that has no task elsewhere any more keeps its tunnel: it may have one again soon,
    /// and the kernel takes a while to give an identifier back.
    pub fn devices(&self, ops: &mut Vec<Op>) {
        for network in self.desired.networks.values() {
            let Some(plan) = self.plan(network) else { continue };
            let have = self.observed.tunnels.get(&plan.link);
            match have.filter(|state| same_device(&plan, state)) {
                Some(state) => mend(&plan, state, ops),
                None => {
                    if have.is_some() {
                        ops.push(Op::DeleteLink { link: plan.link.clone() });
                    }
                    ops.push(Op::CreateTunnel { tunnel: plan.clone() });
                }
            }
            if plan.bridge.is_none() {
                self.entrance(&plan, ops);
            }
        }
    }

    /// Makes and mends the ways through them. With a previous pass only changed services are looked at.
    pub fn ways(&self, ops: &mut Vec<Op>) {
        let changed = self.rules.previous.as_ref().map(|previous| self.desired.changed_services(previous));
        for network in self.desired.networks.values() {
            let Some(plan) = self.plan(network) else { continue };
            let same = |previous: &&Desired| {
                previous.nodes == self.desired.nodes && previous.networks.get(&network.id) == Some(network)
            };
            let state = self.observed.tunnels.get(&plan.link).filter(|state| same_device(&plan, state));
            let none = BTreeSet::new();
            let have = state.map_or(&none, |state| &state.ways);
            let (remove, add) = match (self.rules.previous.as_ref().filter(same), &changed) {
                (Some(previous), Some(changed)) if state.is_some() => self.since(network, previous, changed, have),
                _ => {
                    let wanted = self.wanted(network);
                    (have.difference(&wanted).copied().collect(), wanted.difference(have).copied().collect())
                }
            };
            let remove: Vec<Way> = if self.rules.keep_unknown.is_some() { outdated(remove, &add) } else { remove };
            if !remove.is_empty() || !add.is_empty() {
                ops.push(Op::Ways { tunnel: plan.link, bridge: plan.bridge, remove, add });
            }
        }
    }

    /// Tunnels that nothing wants, and what was made for one that is gone.
    pub fn leftovers(&self, ops: &mut Vec<Op>) {
        let wanted: BTreeSet<LinkName> =
            self.desired.networks.values().filter_map(|network| self.plan(network)).map(|plan| plan.link).collect();
        let gone = self.observed.tunnels.keys().filter(|link| !wanted.contains(*link));
        ops.extend(gone.map(|link| Op::DeleteLink { link: link.clone() }));
        let ingress = self
            .desired
            .networks
            .values()
            .any(|n| matches!(n.driver, Driver::Ingress { .. }) && self.plan(n).is_some());
        if !ingress {
            ops.extend(self.observed.returns.iter().map(|way| Op::RemoveReturn { way: *way }));
        }
    }

    /// The tunnel of a network; `None` if it needs none.
    fn plan(&self, network: &Network) -> Option<TunnelPlan> {
        let own = self.desired.nodes.reachable_own()?;
        let link = self.rules.instance.tunnel(network.id);
        let (vni, mac, bridge) = match network.driver {
            Driver::Overlay { vni } => {
                let is_used = self.elsewhere.contains_key(&network.id) || self.observed.tunnels.contains_key(&link);
                is_used.then_some(())?;
                (vni, tunnel_mac(network.id), Some(self.rules.instance.bridge(network.id)))
            }
            Driver::Ingress { vni } => {
                self.desired.nodes.reachable_peers().next()?;
                (vni, ingress_mac(own.number()?), None)
            }
            Driver::Bridge | Driver::Macvlan { .. } | Driver::Host | Driver::None => return None,
        };
        let mtu = link_mtu(network, self.desired, self.observed);
        let local = (!network.encrypted).then_some(own.address);
        Some(TunnelPlan { link, vni, local, port: TUNNEL_PORT, mtu, mac, bridge })
    }

    /// The node's own addresses on the ingress network, and the ways back.
    fn entrance(&self, plan: &TunnelPlan, ops: &mut Vec<Op>) {
        let wanted: BTreeSet<IpNet> = self.own_entrances().collect();
        let state = self.observed.tunnels.get(&plan.link).filter(|state| same_device(plan, state));
        let have = state.map(|state| state.addresses.clone()).unwrap_or_default();
        let link = || plan.link.clone();
        ops.extend(have.difference(&wanted).map(|address| Op::RemoveNodeAddress { link: link(), address: *address }));
        ops.extend(wanted.difference(&have).map(|address| Op::AddNodeAddress { link: link(), address: *address }));
        let mut returns = BTreeSet::from([ReturnWay::Stamp]);
        returns.extend(wanted.iter().map(|address| ReturnWay::Route { v6: address.addr().is_ipv6() }));
        let have = if state.is_some() { self.observed.returns.clone() } else { BTreeSet::new() };
        ops.extend(returns.difference(&have).map(|way| Op::AddReturn { link: link(), way: *way }));
    }

    fn own_entrances(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.desired.nodes.reachable_own().into_iter().flat_map(|own| own.ingress.iter().copied())
    }

    fn wanted(&self, network: &Network) -> BTreeSet<Way> {
        if matches!(network.driver, Driver::Ingress { .. }) {
            return self.entrances(network);
        }
        let stations = self.desired.services.values().flat_map(|service| self.stations(self.desired, network, service));
        stations.chain(self.floods(network)).collect()
    }

    /// The difference that the changed services make.
    fn since(
        &self,
        network: &Network,
        previous: &Desired,
        changed: &BTreeSet<ServiceId>,
        have: &BTreeSet<Way>,
    ) -> (Vec<Way>, Vec<Way>) {
        let of = |desired: &Desired| -> BTreeSet<Way> {
            let services = changed.iter().filter_map(|id| desired.services.get(id));
            services.flat_map(|service| self.stations(desired, network, service)).collect()
        };
        let (before, mut now) = (of(previous), of(self.desired));
        let lost: BTreeSet<IpAddr> = before.difference(&now).filter_map(address_of).collect();
        if !lost.is_empty() {
            // An address that moved to another service moments ago must not go with what the old one leaves.
            let heirs = self.desired.services.values().filter(|service| has_one_of(service, network.id, &lost));
            now.extend(heirs.flat_map(|service| self.stations(self.desired, network, service)));
        }
        if matches!(network.driver, Driver::Overlay { .. }) {
            now.extend(self.floods(network));
        }
        let is_flood =
            |way: &&Way| matches!(way, Way::Flood { .. }) && !matches!(network.driver, Driver::Ingress { .. });
        let gone =
            before.iter().chain(have.iter().filter(is_flood)).filter(|way| !now.contains(way) && have.contains(way));
        (gone.copied().collect(), now.difference(have).copied().collect())
    }

    fn floods<'b>(&'b self, network: &'b Network) -> impl Iterator<Item = Way> + 'b {
        let nodes = self.tunnelled.get(&network.id).into_iter().flatten();
        nodes.filter_map(|node| Some(Way::Flood { via: end(network, self.desired.nodes.reachable_peer(*node)?)? }))
    }

    /// Ways to the tasks of a service on other nodes. Those that are reached straight have one too, which no new request for an
    /// address leads to: tasks here may have heard of it before, and the other node may send by its tunnel still.
    fn stations<'b>(
        &self,
        desired: &'b Desired,
        network: &'b Network,
        service: &'b Service,
    ) -> impl Iterator<Item = Way> + use<'b> {
        let (id, is_overlay) = (network.id, matches!(network.driver, Driver::Overlay { .. }));
        let backends = service.backends.iter().filter(move |_| is_overlay);
        backends
            .filter_map(move |backend| {
                let peer = desired.nodes.reachable_peer(backend.node?)?;
                let addresses = backend.addresses.get(&id)?;
                let derived = || task_mac(backend.task, id, addresses.first().copied());
                let mac = backend.macs.get(&id).copied().unwrap_or_else(derived);
                let tunnelled: Vec<IpAddr> =
                    addresses.iter().copied().filter(|a| !goes_straight(network, peer, *a)).collect();
                let via = end(network, peer)?;
                (!addresses.is_empty()).then_some((via, mac, tunnelled))
            })
            .flat_map(|(via, mac, addresses)| {
                let neighbours = addresses.into_iter().map(move |address| Way::Neighbour { address, mac });
                [Way::Station { mac, via }, Way::Port { mac }].into_iter().chain(neighbours)
            })
    }

    /// Ways to the other nodes' ends of the ingress network. The gateway's hardware address is written over in each frame.
    fn entrances(&self, network: &Network) -> BTreeSet<Way> {
        let peers = self
            .desired
            .nodes
            .reachable_peers()
            .filter_map(|(_, peer)| Some((peer, end(network, peer)?, ingress_mac(peer.number()?))));
        let ways = peers.flat_map(|(peer, via, mac)| {
            let neighbours = peer.ingress.iter().map(move |net| Way::Neighbour { address: net.addr(), mac });
            neighbours.chain([Way::Station { mac, via }])
        });
        let gateways = self
            .own_entrances()
            .map(|own| Way::Neighbour { address: return_gateway(own.addr().is_ipv6()), mac: RETURN_MAC });
        ways.chain(gateways).collect()
    }
}

fn address_of(way: &Way) -> Option<IpAddr> {
    match way {
        Way::Neighbour { address, .. } => Some(*address),
        Way::Flood { .. } | Way::Station { .. } | Way::Port { .. } => None,
    }
}

fn has_one_of(service: &Service, network: NetworkId, addresses: &BTreeSet<IpAddr>) -> bool {
    let held = service.backends.iter().filter_map(|backend| backend.addresses.get(&network)).flatten();
    held.into_iter().any(|address| addresses.contains(address))
}

/// Where a network's packets for a node go; `None` when they would have to go in the clear and must not.
fn end(network: &Network, peer: &Peer) -> Option<IpAddr> {
    if network.encrypted { peer.secure } else { Some(peer.address) }
}

/// Stands for "the node that was called" in the default route of replies; link-local, so that it is nobody's address.
pub(crate) const fn return_gateway(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x4254))
    } else {
        IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 66, 84))
    }
}

const RETURN_MAC: MacAddr = MacAddr([0x02, 0x42, 0, 0, 0, 1]);

/// Networks, node and addresses there of every task of a service that is elsewhere.
fn places(service: &Service) -> impl Iterator<Item = (NetworkId, NodeId, &[IpAddr])> {
    let elsewhere = service.backends.iter().filter_map(|backend| Some((backend.node?, backend)));
    elsewhere.flat_map(|(node, backend)| {
        backend.addresses.iter().map(move |(network, addresses)| (*network, node, addresses.as_slice()))
    })
}

/// Of these removals those whose address is put elsewhere: the rest may be what a daemon before left for us to take over.
fn outdated(remove: Vec<Way>, add: &[Way]) -> Vec<Way> {
    let key = |way: &Way| match way {
        Way::Station { mac, .. } => Some((Some(*mac), None)),
        Way::Neighbour { address, .. } => Some((None, Some(*address))),
        Way::Flood { .. } | Way::Port { .. } => None,
    };
    let moved: BTreeSet<_> = add.iter().filter_map(key).collect();
    remove.into_iter().filter(|way| key(way).is_some_and(|key| moved.contains(&key))).collect()
}

/// Whether it is the device that is wanted, whatever was changed about it that can be mended.
fn same_device(plan: &TunnelPlan, state: &TunnelState) -> bool {
    state.vni == plan.vni && state.port == plan.port && state.local == plan.local && state.mac == plan.mac
}

fn mend(plan: &TunnelPlan, state: &TunnelState, ops: &mut Vec<Op>) {
    let is_quiet = state.quiet || plan.bridge.is_none();
    if !state.up || state.mtu != plan.mtu || state.bridge != plan.bridge || !is_quiet {
        ops.push(Op::MendTunnel { tunnel: plan.clone() });
    }
}
