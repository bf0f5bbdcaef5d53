//! What was desired at some time since the start of this process.
//!
//! Until everything desired is known, only that may be removed: the rest may be what a daemon before left for us to take over.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::ports::wanted_ports;
use crate::model::Desired;
use crate::nft::sets::{Field, Set};
use crate::nft::{Key, TableChange};

/// Frontends that were desired at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    ports: BTreeSet<(Option<IpAddr>, u8, u16)>,
    vips: BTreeSet<IpAddr>,
}

impl Known {
    /// Remembers what is desired now.
    pub fn learn(&mut self, desired: &Desired) {
        let (ports, _) = wanted_ports(desired);
        self.ports.extend(ports.iter().map(|p| (p.host_ip, p.proto.number(), p.published)));
        self.vips.extend(desired.services.values().flat_map(|s| s.vips.values().flatten()));
    }

    /// Takes out of a change the removals that are not ours to decide.
    pub(super) fn restrict(&self, change: &mut TableChange) {
        let add = &change.add.0;
        Arc::make_mut(&mut change.remove).0.retain(|key, _| add.contains_key(key) || self.owns(key));
    }

    /// Whether a virtual address was desired at some time.
    pub(super) fn owns_vip(&self, vip: IpAddr) -> bool {
        self.vips.contains(&vip)
    }

    fn owns(&self, (set, key): &Key) -> bool {
        match (set.key(), *set) {
            ([Field::V4 | Field::V6], _) | (_, Set::VipSlots4 | Set::VipSlots6) => {
                address(set.key()[0], key).is_some_and(|vip| self.owns_vip(vip))
            }
            ([Field::Proto, Field::Port, ..], _) => {
                port(key, 0).is_some_and(|(p, n)| self.ports.contains(&(None, p, n)))
            }
            ([ip, Field::Proto, Field::Port, ..], _) => {
                let found = address(*ip, key).zip(port(key, ip.bytes() as usize));
                found.is_some_and(|(ip, (p, n))| self.ports.contains(&(Some(ip), p, n)))
            }
            _ => false,
        }
    }
}

/// The address at the start of a key or value.
pub(super) fn address(field: Field, data: &[u8]) -> Option<IpAddr> {
    match field {
        Field::V4 => <[u8; 4]>::try_from(data.get(..4)?).ok().map(Into::into),
        Field::V6 => <[u8; 16]>::try_from(data.get(..16)?).ok().map(Into::into),
        _ => None,
    }
}

/// Protocol number and port in a key, each in a 4-byte word.
fn port(key: &[u8], at: usize) -> Option<(u8, u16)> {
    Some((*key.get(at)?, u16::from_be_bytes([*key.get(at + 4)?, *key.get(at + 5)?])))
}
