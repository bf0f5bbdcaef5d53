//! The node's own keys as they should be: made, dated, kept on disk and dropped as [`crate::rotation`] decides.
//!
//! The shell around the pure part. Makes no device; [`crate::announce`] says which ones follow from the keys.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::TunnelError;
use crate::key::SecretKey;
use crate::rotation::{KnownKey, Settings, decide};
use crate::store::{self, StoredKey};

/// The keys of one node.
#[derive(Debug)]
pub struct Keyring {
    directory: PathBuf,
    settings: Settings,
    keys: Vec<StoredKey>,
}

impl Keyring {
    /// Reads what a daemon before left. The directory is made with the first key.
    pub fn open(directory: PathBuf, settings: Settings) -> Result<Self, TunnelError> {
        let keys = store::load(&directory)?;
        Ok(Self { directory, settings, keys })
    }

    /// The keys, oldest first: each has a device, and is announced once that is up.
    pub fn keys(&self) -> &[StoredKey] {
        &self.keys
    }

    /// Whether the newest key is not yet known to be on all other nodes, so that it is worth asking.
    pub fn is_changing(&self) -> bool {
        self.keys.last().is_none_or(|newest| newest.known.known_since.is_none()) || self.keys.len() > 1
    }

    /// Brings the keys up to date; gives the generation to send by. `everybody_knows` is about the newest of
    /// [`Self::keys`], see [`decide`]. To be called on a period and whenever that may have changed.
    pub fn step(&mut self, now: SystemTime, everybody_knows: bool) -> Result<u64, TunnelError> {
        let known: Vec<KnownKey> = self.keys.iter().map(|stored| stored.known).collect();
        let decision = decide(now, &known, &self.settings, everybody_knows);
        if let Some(generation) = decision.mark_known {
            self.mark(generation, now)?;
        }
        for generation in &decision.drop {
            store::remove(&self.directory, *generation)?;
            self.keys.retain(|stored| stored.known.generation != *generation);
        }
        if let Some(generation) = decision.generate {
            let key = SecretKey::generate().map_err(TunnelError::Randomness)?;
            let stored = StoredKey { key, known: KnownKey { generation, made: now, known_since: None } };
            store::save(&self.directory, &stored)?;
            self.keys.push(stored);
            // The first key is sent by at once: there is no other.
            return Ok(decision.send.unwrap_or(generation));
        }
        Ok(decision.send.unwrap_or_default())
    }

    fn mark(&mut self, generation: u64, now: SystemTime) -> Result<(), TunnelError> {
        let Some(stored) = self.keys.iter_mut().find(|stored| stored.known.generation == generation) else {
            return Ok(());
        };
        stored.known.known_since = Some(now);
        store::save(&self.directory, stored)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_are_changed_and_survive_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::default();
        let open = || Keyring::open(dir.path().join("keys"), settings).unwrap();
        let generations = |ring: &Keyring| ring.keys().iter().map(|key| key.known.generation).collect::<Vec<_>>();
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(open().step(start, false).unwrap(), 1);
        let mut ring = open();
        assert_eq!((generations(&ring), ring.is_changing()), (vec![1], true));
        assert_eq!(ring.step(start, true).unwrap(), 1);
        assert!(!open().is_changing(), "that everybody has it is not forgotten");
        let due = start + settings.period;
        assert_eq!(ring.step(due, true).unwrap(), 1);
        let mut ring = open();
        assert_eq!((generations(&ring), ring.step(due, false).unwrap()), (vec![1, 2], 1));
        assert_eq!(ring.step(due, true).unwrap(), 2);
        assert_eq!(ring.step(due + settings.grace, true).unwrap(), 2);
        assert_eq!((generations(&ring), generations(&open())), (vec![2], vec![2]));
    }
}
