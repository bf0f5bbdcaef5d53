//! The peers of a device, found by key, by inner address, and by the number that their packets bear.

use std::collections::HashMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use boringtun::noise::Tunn;
use boringtun::x25519::PublicKey as Point;

use super::device::Link;
use crate::key::PublicKey;
use crate::model::Peer;

/// Bits of a packet's number that count a peer's sessions.
const SESSION_BITS: u32 = 8;
/// Peers a device can have: what is left of the number's 32 bits.
const MAX_INDEX: u32 = 1 << (32 - SESSION_BITS);

/// All peers. Readers never wait for each other.
#[derive(Default)]
pub(super) struct Peers(RwLock<Table>);

#[derive(Default)]
struct Table {
    by_key: HashMap<PublicKey, Arc<Session>>,
    by_inner: HashMap<Ipv6Addr, Arc<Session>>,
    by_index: HashMap<u32, Arc<Session>>,
    next: u32,
}

/// A peer and its sessions. Where it is changes by making another of these around the same sessions.
pub(super) struct Session {
    pub key: PublicKey,
    pub endpoint: SocketAddr,
    pub inner: Ipv6Addr,
    index: u32,
    noise: Arc<Mutex<Tunn>>,
}

impl Session {
    /// The protocol's state. Held for one packet at a time.
    pub fn noise(&self) -> MutexGuard<'_, Tunn> {
        self.noise.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    pub fn by_key(&self, key: &PublicKey) -> Option<Arc<Session>> {
        self.read(|table| table.by_key.get(key).cloned())
    }

    pub fn by_inner(&self, inner: &Ipv6Addr) -> Option<Arc<Session>> {
        self.read(|table| table.by_inner.get(inner).cloned())
    }

    /// By the receiver's number in a packet.
    pub fn by_receiver(&self, receiver: u32) -> Option<Arc<Session>> {
        self.read(|table| table.by_index.get(&(receiver >> SESSION_BITS)).cloned())
    }

    /// All of them, as they are now.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.read(|table| table.by_key.values().cloned().collect())
    }

    /// Adds a peer, or changes where it is; its sessions go on. Gives it back when it is new.
    pub fn set(&self, link: &Link, peer: &Peer) -> Option<Arc<Session>> {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let old = table.remove(&peer.key);
        let new = old.is_none();
        let (index, noise) = match old {
            Some(old) => (old.index, Arc::clone(&old.noise)),
            None => {
                let index = table.free_index();
                let limiter = Some(Arc::clone(&link.limiter));
                let noise = Tunn::new(link.secret.clone(), Point::from(peer.key.0), None, None, index, limiter);
                (index, Arc::new(Mutex::new(noise)))
            }
        };
        let (key, endpoint, inner) = (peer.key, link.address(peer.endpoint), peer.inner);
        let session = Arc::new(Session { key, endpoint, inner, index, noise });
        table.insert(Arc::clone(&session));
        new.then_some(session)
    }

    /// Forgets a peer and its sessions. Not an error if there is none.
    pub fn remove(&self, key: &PublicKey) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        table.remove(key);
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Table {
    fn insert(&mut self, session: Arc<Session>) {
        self.by_key.insert(session.key, Arc::clone(&session));
        self.by_index.insert(session.index, Arc::clone(&session));
        // Like WireGuard's allowed addresses: one that another peer has goes to the last one that is given it.
        self.by_inner.insert(session.inner, session);
    }

    fn remove(&mut self, key: &PublicKey) -> Option<Arc<Session>> {
        let old = self.by_key.remove(key)?;
        self.by_index.remove(&old.index);
        if self.by_inner.get(&old.inner).is_some_and(|holder| holder.key == *key) {
            self.by_inner.remove(&old.inner);
        }
        Some(old)
    }

    fn free_index(&mut self) -> u32 {
        loop {
            self.next = (self.next + 1) % MAX_INDEX;
            if !self.by_index.contains_key(&self.next) {
                return self.next;
            }
        }
    }
}
