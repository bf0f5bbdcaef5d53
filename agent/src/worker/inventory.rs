//! The assignments, shared between the session that changes them and everybody who looks things up.
//!
//! Owns the lock. Closures run under it and must be short.

use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use super::Assignments;

/// The shared assignments.
#[derive(Debug, Default)]
pub struct Inventory {
    assignments: RwLock<Assignments>,
    changed: watch::Sender<u64>,
}

impl Inventory {
    /// Looks something up.
    pub fn read<T>(&self, look: impl FnOnce(&Assignments) -> T) -> T {
        look(&self.assignments.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes something.
    pub fn write<T>(&self, change: impl FnOnce(&mut Assignments) -> T) -> T {
        let result = change(&mut self.assignments.write().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count += 1);
        result
    }

    /// Wakes at each change; look again then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
