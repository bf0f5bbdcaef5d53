//! Desired and observed devices: different types, compared by [`crate::plan`] only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use crate::key::{PublicKey, SecretKey};
use crate::name::DeviceName;

/// What the node should have.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// A device for each of the node's own keys.
    pub devices: Vec<Device>,
    /// The device that packets to the peers of all devices leave by: its key must be known to everybody. See
    /// [`crate::rotation::Decision::send`].
    pub send_by: Option<DeviceName>,
}

/// One device: one key of this node.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its name; see [`crate::name::Instance::device`].
    pub name: DeviceName,
    /// The node's key.
    pub key: SecretKey,
    /// The UDP port that it listens on, on all of the node's addresses.
    pub port: u16,
    /// Largest packet inside, bytes: 80 less than the underlay's (60 where it is IPv4 only).
    pub mtu: u32,
    /// This node's address inside.
    pub inner: Ipv6Addr,
    /// Every key of every other node that encrypts.
    pub peers: Vec<Peer>,
}

/// One key of another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The key.
    pub key: PublicKey,
    /// Where its encrypted packets go.
    pub endpoint: SocketAddr,
    /// Its address inside: the only source that packets sealed with its key may bear.
    pub inner: Ipv6Addr,
}

/// What the node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Devices with names of ours.
    pub devices: BTreeMap<DeviceName, ObservedDevice>,
    /// Routes of ours.
    pub routes: BTreeSet<Route>,
    /// Whether packets to inner addresses without a route are undeliverable.
    pub guarded: bool,
}

/// One device as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedDevice {
    /// What it encrypts with; `None` when it does not answer or is no device of the kind that is wanted.
    pub tunnel: Option<TunnelState>,
    /// Whether it is up.
    pub up: bool,
    /// Largest packet, bytes.
    pub mtu: u32,
    /// Its addresses, link-local ones left out.
    pub addresses: BTreeSet<Ipv6Addr>,
}

/// What a device encrypts with and for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelState {
    /// The key; `None` in a device that was just made.
    pub key: Option<PublicKey>,
    /// The UDP port; 0 in a device that was just made.
    pub port: u16,
    /// The peers.
    pub peers: BTreeMap<PublicKey, ObservedPeer>,
}

/// One peer as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedPeer {
    /// Where its packets go.
    pub endpoint: Option<SocketAddr>,
    /// The addresses it may use.
    pub allowed: BTreeSet<Ipv6Addr>,
    /// Whether there has been a handshake.
    pub met: bool,
}

/// A route to one inner address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub to: Ipv6Addr,
    /// By which device.
    pub device: DeviceName,
    /// With which of the node's addresses: the one of the device, or the peer drops the packet.
    pub source: Option<Ipv6Addr>,
}
