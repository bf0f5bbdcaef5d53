//! From keys to devices and back: what a node tells of its own keys, what follows from what others tell, and where
//! packets to them go.
//!
//! Pure.

use std::net::{IpAddr, Ipv6Addr};

use berth_proto::id::NodeId;
use berth_proto::object::TunnelKey;

use crate::key::PublicKey;
use crate::model::{Desired, Device, Peer};
use crate::name::{Instance, inner_address, port};
use crate::store::StoredKey;

/// This node.
#[derive(Debug, Clone)]
pub struct Own {
    /// Prefix of its devices' names.
    pub instance: Instance,
    /// Its id.
    pub node: NodeId,
    /// The first of its two UDP ports.
    pub base_port: u16,
    /// Largest packet inside its devices, bytes.
    pub mtu: u32,
}

/// Another node that encrypts.
#[derive(Debug, Clone)]
pub struct Other {
    /// Its id.
    pub node: NodeId,
    /// Where its UDP ports are reached.
    pub address: IpAddr,
    /// What it announces.
    pub keys: Vec<TunnelKey>,
}

impl Own {
    /// What others have to know of a key. To be announced once its device is up.
    pub fn announced(&self, stored: &StoredKey) -> TunnelKey {
        let generation = stored.known.generation;
        let port = port(self.base_port, generation);
        TunnelKey { generation, public_key: stored.key.public().0, port }
    }

    /// The devices: one for each own key, each with every key of every other node.
    pub fn desired(&self, keys: &[StoredKey], send_by: u64, others: &[Other]) -> Desired {
        let peers: Vec<Peer> = others.iter().flat_map(Other::peers).collect();
        let device = |stored: &StoredKey| {
            let generation = stored.known.generation;
            Device {
                name: self.instance.device(generation),
                key: stored.key.clone(),
                port: port(self.base_port, generation),
                mtu: self.mtu,
                inner: inner_address(self.node, generation),
                peers: peers.clone(),
            }
        };
        Desired { devices: keys.iter().map(device).collect(), send_by: Some(self.instance.device(send_by)) }
    }
}

impl Other {
    /// Where packets to it go: the inner address of the newest key that it announces. `None` when it does not encrypt.
    pub fn send_to(&self) -> Option<Ipv6Addr> {
        self.keys.iter().map(|key| key.generation).max().map(|generation| inner_address(self.node, generation))
    }

    fn peers(&self) -> impl Iterator<Item = Peer> {
        self.keys.iter().map(|key| Peer {
            key: PublicKey(key.public_key),
            endpoint: (self.address, key.port).into(),
            inner: inner_address(self.node, key.generation),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::key::SecretKey;
    use crate::rotation::KnownKey;

    #[test]
    fn two_nodes_agree_on_addresses_and_ports() {
        let own = |n: u128| Own {
            instance: Instance::new("bth").unwrap(),
            node: NodeId::from_random(n),
            base_port: 51820,
            mtu: 1420,
        };
        let stored = |generation| StoredKey {
            key: SecretKey::generate().unwrap(),
            known: KnownKey { generation, made: SystemTime::UNIX_EPOCH, known_since: None },
        };
        let (a, b, keys_a, keys_b) = (own(1), own(2), [stored(1)], [stored(4), stored(5)]);
        let seen_b = Other {
            node: b.node,
            address: "192.0.2.2".parse().unwrap(),
            keys: keys_b.iter().map(|key| b.announced(key)).collect(),
        };
        let (on_a, on_b) = (a.desired(&keys_a, 1, std::slice::from_ref(&seen_b)), b.desired(&keys_b, 4, &[]));
        for (peer, device) in on_a.devices[0].peers.iter().zip(&on_b.devices) {
            assert_eq!((peer.key, peer.inner), (device.key.public(), device.inner));
            assert_eq!(peer.endpoint, (seen_b.address, device.port).into());
        }
        assert_eq!(on_b.send_by.as_ref(), Some(&on_b.devices[0].name));
        assert_eq!(seen_b.send_to(), Some(on_b.devices[1].inner), "the newest that it announces");
        assert_ne!(on_b.devices[0].port, on_b.devices[1].port);
    }
}
