//! Desired devices − observed ones = ordered operations.
//!
//! Pure. Order: what is in the way goes first, then devices, then peers, then routes, and last what is not wanted any
//! more: a route moves from one device to the next before the old one goes. Cut off anywhere, the next pass finds the
//! rest to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::Ipv6Addr;

use crate::key::{PublicKey, SecretKey};
use crate::model::{Desired, Device, Observed, ObservedDevice, Peer, Route, TunnelState};
use crate::name::DeviceName;

/// Peers in one operation: netlink's attributes end at 64 KiB, 144 bytes go to a peer.
pub const MAX_PEERS: usize = 256;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields repeat the message")]
pub enum Op {
    /// Removes a device, its routes, and its process where it has one.
    RemoveDevice { name: DeviceName },
    /// Makes a device without a key.
    MakeDevice { name: DeviceName },
    /// Gives a new device its key and its port.
    SetKey { name: DeviceName, key: SecretKey, port: u16 },
    /// Gives a device an address.
    AddAddress { name: DeviceName, address: Ipv6Addr },
    /// Takes an address away.
    RemoveAddress { name: DeviceName, address: Ipv6Addr },
    /// Sets the largest packet, and the device up.
    Open { name: DeviceName, mtu: u32 },
    /// Adds peers or changes their endpoints and addresses; sessions of known ones go on. At most [`MAX_PEERS`].
    SetPeers { name: DeviceName, peers: Vec<Peer> },
    /// Removes peers. At most [`MAX_PEERS`].
    RemovePeers { name: DeviceName, keys: Vec<PublicKey> },
    /// Makes packets to inner addresses without a route undeliverable: the default route would send them in the clear.
    AddGuard,
    /// Takes that away.
    RemoveGuard,
    /// Adds a route, or moves the one to the same address.
    SetRoute { route: Route },
    /// Removes a route.
    RemoveRoute { route: Route },
}

impl Op {
    /// The device that it is about.
    pub fn device(&self) -> Option<&DeviceName> {
        Some(match self {
            Self::AddGuard | Self::RemoveGuard => return None,
            Self::RemoveDevice { name }
            | Self::MakeDevice { name }
            | Self::SetKey { name, .. }
            | Self::AddAddress { name, .. }
            | Self::RemoveAddress { name, .. }
            | Self::Open { name, .. }
            | Self::SetPeers { name, .. }
            | Self::RemovePeers { name, .. } => name,
            Self::SetRoute { route } | Self::RemoveRoute { route } => &route.device,
        })
    }
}

/// What follows "cannot" in an error.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveDevice { name } => write!(f, "remove tunnel {name}"),
            Self::MakeDevice { name } => write!(f, "make tunnel {name}"),
            Self::SetKey { name, port, .. } => write!(f, "give tunnel {name} its key and port {port}"),
            Self::AddAddress { name, address } => write!(f, "give tunnel {name} the address {address}"),
            Self::RemoveAddress { name, address } => write!(f, "take the address {address} from tunnel {name}"),
            Self::Open { name, mtu } => write!(f, "set up tunnel {name} for packets of {mtu} bytes"),
            Self::SetPeers { name, peers } => write!(f, "set {} peers of tunnel {name}", peers.len()),
            Self::RemovePeers { name, keys } => write!(f, "remove {} peers of tunnel {name}", keys.len()),
            Self::AddGuard => f.write_str("keep packets for tunnels from other routes"),
            Self::RemoveGuard => f.write_str("remove the route that keeps packets for tunnels from others"),
            Self::SetRoute { route } => write!(f, "route {} by tunnel {}", route.to, route.device),
            Self::RemoveRoute { route } => write!(f, "remove the route to {} by tunnel {}", route.to, route.device),
        }
    }
}

/// The steps from what there is to what should be. None when they are the same.
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut late = Vec::new();
    if !desired.devices.is_empty() && !observed.guarded {
        ops.push(Op::AddGuard);
    }
    for device in &desired.devices {
        let found = observed.devices.get(&device.name);
        let kept = found.filter(|found| fits(device, found));
        if found.is_some() && kept.is_none() {
            ops.push(Op::RemoveDevice { name: device.name.clone() });
        }
        device_steps(device, kept, &mut ops, &mut late);
    }
    let remade: BTreeSet<DeviceName> = ops.iter().filter_map(removed).collect();
    route_steps(desired, observed, &remade, &mut ops, &mut late);
    ops.append(&mut late);
    let wanted = |name: &DeviceName| desired.devices.iter().any(|device| device.name == *name);
    let unwanted = observed.devices.keys().filter(|name| !wanted(name)).cloned();
    ops.extend(unwanted.map(|name| Op::RemoveDevice { name }));
    if desired.devices.is_empty() && observed.guarded {
        ops.push(Op::RemoveGuard);
    }
    ops
}

fn removed(op: &Op) -> Option<DeviceName> {
    if let Op::RemoveDevice { name } = op { Some(name.clone()) } else { None }
}

/// Whether a device can be brought to what is wanted: it is new, or has this key on this port.
fn fits(device: &Device, found: &ObservedDevice) -> bool {
    let Some(tunnel) = &found.tunnel else { return false };
    match tunnel.key {
        None => true,
        Some(key) => key == device.key.public() && tunnel.port == device.port,
    }
}

fn device_steps(device: &Device, found: Option<&ObservedDevice>, ops: &mut Vec<Op>, late: &mut Vec<Op>) {
    let name = || device.name.clone();
    let none = ObservedDevice::default();
    if found.is_none() {
        ops.push(Op::MakeDevice { name: name() });
    }
    let found = found.unwrap_or(&none);
    let tunnel = found.tunnel.clone().unwrap_or_default();
    if tunnel.key.is_none() {
        ops.push(Op::SetKey { name: name(), key: device.key.clone(), port: device.port });
    }
    if !found.up || found.mtu != device.mtu {
        ops.push(Op::Open { name: name(), mtu: device.mtu });
    }
    // Of a link that is down the kernel does not listen to an address.
    if !found.addresses.contains(&device.inner) {
        ops.push(Op::AddAddress { name: name(), address: device.inner });
    }
    let others = found.addresses.iter().filter(|address| **address != device.inner);
    late.extend(others.map(|address| Op::RemoveAddress { name: name(), address: *address }));
    peer_steps(device, &tunnel, ops, late);
}

fn peer_steps(device: &Device, tunnel: &TunnelState, ops: &mut Vec<Op>, late: &mut Vec<Op>) {
    // A key that comes twice is one peer: the last one holds.
    let wanted: BTreeMap<PublicKey, &Peer> = device.peers.iter().map(|peer| (peer.key, peer)).collect();
    let same = |peer: &Peer| {
        tunnel.peers.get(&peer.key).is_some_and(|found| {
            found.endpoint == Some(peer.endpoint) && found.allowed.len() == 1 && found.allowed.contains(&peer.inner)
        })
    };
    let changed: Vec<Peer> = wanted.values().filter(|peer| !same(peer)).map(|peer| (*peer).clone()).collect();
    let gone: Vec<PublicKey> = tunnel.peers.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
    let name = &device.name;
    ops.extend(changed.chunks(MAX_PEERS).map(|peers| Op::SetPeers { name: name.clone(), peers: peers.to_vec() }));
    late.extend(gone.chunks(MAX_PEERS).map(|keys| Op::RemovePeers { name: name.clone(), keys: keys.to_vec() }));
}

/// Routes to all peers by the one device that is sent by. Routes of a device that was made anew went with it.
fn route_steps(
    desired: &Desired,
    observed: &Observed,
    remade: &BTreeSet<DeviceName>,
    ops: &mut Vec<Op>,
    late: &mut Vec<Op>,
) {
    let sender = desired.devices.iter().find(|device| Some(&device.name) == desired.send_by.as_ref());
    let route = |device: &Device, to| Route { to, device: device.name.clone(), source: Some(device.inner) };
    let wanted: BTreeSet<Route> =
        sender.iter().flat_map(|device| device.peers.iter().map(|peer| route(device, peer.inner))).collect();
    let there = |route: &Route| observed.routes.contains(route) && !remade.contains(&route.device);
    ops.extend(wanted.iter().filter(|route| !there(route)).map(|route| Op::SetRoute { route: route.clone() }));
    let missing: BTreeSet<Ipv6Addr> = wanted.iter().filter(|route| !there(route)).map(|route| route.to).collect();
    // Setting a route moves the one that is there. Had that failed, the old one would still be better than none: it
    // stays, and goes with the next pass if it is a double.
    let kept = |name: &DeviceName| desired.devices.iter().any(|device| device.name == *name) && !remade.contains(name);
    let stale = observed.routes.difference(&wanted);
    let stale = stale.filter(|route| kept(&route.device) && !missing.contains(&route.to));
    late.extend(stale.map(|route| Op::RemoveRoute { route: route.clone() }));
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
