use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::kernel::Kernel;
use crate::model::ObservedPeer;
use crate::name::Instance;
use crate::{TunnelError, Tunnels};

/// A kernel in memory, which can refuse everything after a number of steps.
#[derive(Debug, Default, Clone)]
struct Fake {
    state: Observed,
    left: Option<usize>,
    /// Every address that had a route at some time and lost it while it was wanted.
    lost_routes: BTreeSet<Ipv6Addr>,
}

impl Fake {
    fn device(&mut self, name: &DeviceName) -> &mut ObservedDevice {
        self.state.devices.get_mut(name).expect("the plan makes a device first")
    }

    fn tunnel(&mut self, name: &DeviceName) -> &mut TunnelState {
        self.device(name).tunnel.as_mut().expect("the plan leaves broken devices alone")
    }

    fn has_route(&self, to: Ipv6Addr) -> bool {
        self.state.routes.iter().any(|route| route.to == to)
    }
}

impl Kernel for Fake {
    fn list(&mut self) -> Result<Observed, TunnelError> {
        Ok(self.state.clone())
    }

    fn apply(&mut self, op: &Op) -> Result<(), TunnelError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or(TunnelError::Usage)?;
        }
        let before: Vec<Ipv6Addr> = self.state.routes.iter().map(|route| route.to).collect();
        match op.clone() {
            Op::RemoveDevice { name } => {
                self.state.devices.remove(&name);
                self.state.routes.retain(|route| route.device != name);
            }
            Op::MakeDevice { name } => {
                let tunnel = Some(TunnelState::default());
                assert!(!self.state.devices.contains_key(&name), "nothing is made twice");
                self.state.devices.insert(name, ObservedDevice { tunnel, ..ObservedDevice::default() });
            }
            Op::SetKey { name, key, port } => {
                (self.tunnel(&name).key, self.tunnel(&name).port) = (Some(key.public()), port);
            }
            Op::AddAddress { name, address } => drop(self.device(&name).addresses.insert(address)),
            Op::RemoveAddress { name, address } => drop(self.device(&name).addresses.remove(&address)),
            Op::Open { name, mtu } => (self.device(&name).up, self.device(&name).mtu) = (true, mtu),
            Op::SetPeers { name, peers } => {
                assert!(self.tunnel(&name).key.is_some(), "peers need a key");
                for peer in peers {
                    let endpoint = Some(peer.endpoint);
                    let found = ObservedPeer { endpoint, allowed: [peer.inner].into(), met: false };
                    self.tunnel(&name)
                        .peers
                        .values_mut()
                        .for_each(|other| other.allowed.retain(|own| *own != peer.inner));
                    self.tunnel(&name).peers.insert(peer.key, found);
                }
            }
            Op::RemovePeers { name, keys } => self.tunnel(&name).peers.retain(|key, _| !keys.contains(key)),
            Op::AddGuard => self.state.guarded = true,
            Op::RemoveGuard => self.state.guarded = false,
            Op::SetRoute { route } => {
                let found = self.device(&route.device);
                assert!(found.up && found.addresses.contains(&route.source.unwrap()), "a route needs its device");
                self.state.routes.retain(|other| other.to != route.to);
                self.state.routes.insert(route);
            }
            Op::RemoveRoute { route } => drop(self.state.routes.remove(&route)),
        }
        let lost = before.into_iter().filter(|to| !self.has_route(*to)).collect::<Vec<_>>();
        self.lost_routes.extend(lost);
        Ok(())
    }
}

fn inner(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfdbe, 0, 0, 0, 0, 0, 0, n.into())
}

fn peer(n: u8, port: u16) -> Peer {
    let endpoint = SocketAddr::from(([192, 0, 2, n], port));
    Peer { key: SecretKey::from_bytes([n; 32]).public(), endpoint, inner: inner(n) }
}

fn name(generation: u64) -> DeviceName {
    Instance::new("bth").unwrap().device(generation)
}

fn device(generation: u8, peers: &[u8]) -> Device {
    Device {
        name: name(generation.into()),
        key: SecretKey::from_bytes([100 + generation; 32]),
        port: 51820 + u16::from(generation % 2),
        mtu: 1420,
        inner: inner(200 + generation),
        peers: peers.iter().map(|n| peer(*n, 51820)).collect(),
    }
}

fn desired(devices: &[Device], send_by: u64) -> Desired {
    Desired { devices: devices.to_vec(), send_by: Some(name(send_by)) }
}

fn steps(kernel: &mut Tunnels<Fake>, desired: &Desired) -> Vec<String> {
    let report = kernel.reconcile(desired).unwrap();
    assert!(report.is_clean(), "{report:?}");
    report.steps
}

#[test]
fn a_first_device_and_then_nothing() {
    let mut tunnels = Tunnels::new(Fake::default());
    let wanted = desired(&[device(1, &[1, 2])], 1);
    let told = steps(&mut tunnels, &wanted);
    let expected = [
        "keep packets for tunnels from other routes",
        "make tunnel bthw000001",
        "give tunnel bthw000001 its key and port 51821",
        "set up tunnel bthw000001 for packets of 1420 bytes",
        "give tunnel bthw000001 the address fdbe::c9",
        "set 2 peers of tunnel bthw000001",
        "route fdbe::1 by tunnel bthw000001",
        "route fdbe::2 by tunnel bthw000001",
    ];
    assert_eq!(told, expected);
    assert_eq!(steps(&mut tunnels, &wanted), [""; 0]);
    let gone = steps(&mut tunnels, &Desired::default());
    assert_eq!(gone, ["remove tunnel bthw000001", "remove the route that keeps packets for tunnels from others"]);
    assert_eq!(tunnels.observed().unwrap(), Observed::default());
}

#[test]
fn a_new_key_moves_routes_before_the_old_device_goes() {
    let mut tunnels = Tunnels::new(Fake::default());
    steps(&mut tunnels, &desired(&[device(1, &[1, 2])], 1));
    steps(&mut tunnels, &desired(&[device(1, &[1, 2]), device(2, &[1, 2])], 1));
    assert!(tunnels.observed().unwrap().routes.iter().all(|route| route.device == name(1)));
    let told = steps(&mut tunnels, &desired(&[device(1, &[1, 2]), device(2, &[1, 2])], 2));
    assert_eq!(told, ["route fdbe::1 by tunnel bthw000002", "route fdbe::2 by tunnel bthw000002"]);
    assert_eq!(steps(&mut tunnels, &desired(&[device(2, &[1, 2])], 2)), ["remove tunnel bthw000001"]);
}

#[test]
fn only_what_changed_is_touched() {
    let mut tunnels = Tunnels::new(Fake::default());
    steps(&mut tunnels, &desired(&[device(1, &[1, 2])], 1));
    let mut moved = device(1, &[1, 3]);
    moved.peers[0] = peer(1, 9);
    moved.peers.push(peer(1, 9));
    let told = steps(&mut tunnels, &desired(&[moved], 1));
    let expected = [
        "set 2 peers of tunnel bthw000001",
        "route fdbe::3 by tunnel bthw000001",
        "remove 1 peers of tunnel bthw000001",
        "remove the route to fdbe::2 by tunnel bthw000001",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_device_with_another_key_or_kind_is_made_anew() {
    let wanted = desired(&[device(1, &[1])], 1);
    for damage in [
        (|found: &mut ObservedDevice| found.tunnel = None) as fn(&mut ObservedDevice),
        |found| found.tunnel.as_mut().unwrap().port = 1,
        |found| found.tunnel.as_mut().unwrap().key = Some(PublicKey([1; 32])),
    ] {
        let mut fake = Tunnels::new(Fake::default());
        steps(&mut fake, &wanted);
        let mut state = fake.observed().unwrap();
        state.devices.values_mut().for_each(damage);
        let mut tunnels = Tunnels::new(Fake { state, ..Fake::default() });
        let told = steps(&mut tunnels, &wanted);
        assert_eq!(told[0], "remove tunnel bthw000001");
        assert_eq!(tunnels.observed().unwrap(), fake.observed().unwrap());
    }
}

#[test]
fn many_peers_are_set_in_parts() {
    let mut wanted = device(1, &[]);
    for n in 0..600u16 {
        let (bytes, address) = (n.to_be_bytes(), Ipv6Addr::new(0xfdbe, 1, 0, 0, 0, 0, 0, n));
        let mut key = [7; 32];
        key[..2].copy_from_slice(&bytes);
        wanted.peers.push(Peer { key: PublicKey(key), endpoint: ([192, 0, 2, 1], n + 1).into(), inner: address });
    }
    let ops = plan(&desired(&[wanted], 1), &Observed::default());
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::SetPeers { .. })).count(), 3);
}

#[test]
fn what_cannot_be_done_for_one_device_is_done_for_others() {
    #[derive(Debug)]
    struct Refuses(Fake);
    impl Kernel for Refuses {
        fn list(&mut self) -> Result<Observed, TunnelError> {
            self.0.list()
        }
        fn apply(&mut self, op: &Op) -> Result<(), TunnelError> {
            let refused = matches!(op, Op::SetKey { port: 51821, .. });
            if refused { Err(TunnelError::Usage) } else { self.0.apply(op) }
        }
    }
    let mut tunnels = Tunnels::new(Refuses(Fake::default()));
    let report = tunnels.reconcile(&desired(&[device(1, &[1]), device(2, &[1])], 2)).unwrap();
    let failure = &report.failures[0];
    assert_eq!(failure.to_string(), "cannot give tunnel bthw000001 its key and port 51821");
    assert!(report.failures.len() == 1 && !report.is_clean());
    let observed = tunnels.observed().unwrap();
    assert_eq!(observed.routes.first().map(|route| &route.device), Some(&name(2)));
    assert!(observed.devices[&name(1)].addresses.is_empty(), "nothing more is done for the broken one");
}

/// Some devices, some peers each, one that is sent by.
fn any_desired() -> impl Strategy<Value = Desired> {
    let peers = prop::collection::btree_map(1u8..6, 1u16..3, 0..5);
    (prop::collection::btree_map(1u8..4, (peers, 1300u32..1302), 0..3), 1u64..4).prop_map(|(devices, send_by)| {
        let make = |(generation, (peers, mtu)): (u8, (BTreeMap<u8, u16>, u32))| Device {
            mtu,
            peers: peers.into_iter().map(|(n, port)| peer(n, port)).collect(),
            ..device(generation, &[])
        };
        desired(&devices.into_iter().map(make).collect::<Vec<_>>(), send_by)
    })
}

proptest! {
    #[test]
    fn a_plan_that_is_cut_off_is_completed_by_the_next(
        first in any_desired(), second in any_desired(), at in 0usize..30
    ) {
        let mut whole = Tunnels::new(Fake::default());
        steps(&mut whole, &second);
        let mut tunnels = Tunnels::new(Fake::default());
        steps(&mut tunnels, &first);
        let state = tunnels.observed().unwrap();
        let mut cut = Tunnels::new(Fake { state, left: Some(at), ..Fake::default() });
        let _ = cut.reconcile(&second).unwrap();
        let mut next = Tunnels::new(Fake { state: cut.observed().unwrap(), ..Fake::default() });
        steps(&mut next, &second);
        prop_assert_eq!(next.observed().unwrap(), whole.observed().unwrap());
        prop_assert_eq!(steps(&mut next, &second), [""; 0]);
    }

    /// As long as a peer is wanted before and after and some device is sent by, the way to it is never missing.
    #[test]
    fn routes_that_stay_wanted_are_never_missing(first in any_desired(), second in any_desired()) {
        let to = |wanted: &Desired| -> BTreeSet<Ipv6Addr> {
            let by = wanted.devices.iter().filter(|device| Some(&device.name) == wanted.send_by.as_ref());
            by.flat_map(|device| device.peers.iter().map(|peer| peer.inner)).collect()
        };
        let mut fake = Fake::default();
        for op in plan(&first, &fake.state) { fake.apply(&op).unwrap(); }
        fake.lost_routes.clear();
        for op in plan(&second, &fake.state) { fake.apply(&op).unwrap(); }
        let stay: BTreeSet<Ipv6Addr> = to(&first).intersection(&to(&second)).copied().collect();
        prop_assert!(fake.lost_routes.is_disjoint(&stay), "{:?}", fake.lost_routes);
    }
}
