//! What the process may do: open its port, then nothing but move packets.
//!
//! Capabilities belong to threads: both functions must be called by the main thread before others are started.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

/// Gives up all but what opening the UDP port takes.
pub(super) fn keep_network_only() -> io::Result<()> {
    set_no_new_privs(true)?;
    let held = rustix::thread::capabilities(None)?.permitted;
    set(held & (CapabilitySet::NET_ADMIN | CapabilitySet::NET_BIND_SERVICE))
}

/// Gives up everything.
pub(super) fn drop_all() -> io::Result<()> {
    set(CapabilitySet::empty())
}

fn set(kept: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(Into::into)
}
