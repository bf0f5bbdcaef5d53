//! Giving up rights just before `execve`, for the container's first process and every exec alike.
//!
//! Owns the order: filter, bounding set, ids, capabilities. A filter is loaded while the process may
//! still do so without `no_new_privs`; with it, as the very last thing.

use std::io;
use std::path::Path;

use crate::sys;

/// What a process keeps.
pub struct Privileges<'a> {
    /// User, group, supplementary groups; `None` when they are set already (capabilities kept).
    pub ids: Option<(u32, u32, &'a [u32])>,
    /// Capabilities that stay in every set (root) or in the bounding set (others).
    pub capabilities: u64,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Compiled filter.
    pub seccomp: Option<&'a [u8]>,
}

/// A step that failed, by name.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct PrivilegeError {
    step: &'static str,
    source: io::Error,
}

fn step(step: &'static str) -> impl Fn(io::Error) -> PrivilegeError {
    move |source| PrivilegeError { step, source }
}

/// Reads a compiled filter.
pub fn read_filter(path: Option<&Path>) -> Result<Option<Vec<u8>>, PrivilegeError> {
    path.map(std::fs::read).transpose().map_err(step("reading the seccomp filter"))
}

/// Drops everything that is not in `keep`. The process must be single-threaded.
pub fn drop_to(keep: &Privileges<'_>) -> Result<(), PrivilegeError> {
    if keep.no_new_privileges {
        sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(step("no_new_privs"))?;
    } else if let Some(filter) = keep.seccomp {
        sys::seccomp_load(filter).map_err(step("loading the seccomp filter"))?;
    }
    for number in 0..64 {
        if keep.capabilities & (1 << number) != 0 {
            continue;
        }
        match sys::prctl(libc::PR_CAPBSET_READ, number) {
            // Above the last capability of this kernel.
            Err(_) => break,
            Ok(0) => {}
            Ok(_) => {
                sys::prctl(libc::PR_CAPBSET_DROP, number).map_err(step("dropping a capability"))?;
            }
        }
    }
    if let Some((uid, gid, groups)) = keep.ids {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1).map_err(step("keeping capabilities"))?;
        sys::set_ids(uid, gid, groups).map_err(step("changing user and group"))?;
    }
    sys::clear_ambient().map_err(step("clearing ambient capabilities"))?;
    sys::capset(keep.capabilities, keep.capabilities, 0).map_err(step("setting capabilities"))?;
    if keep.no_new_privileges
        && let Some(filter) = keep.seccomp
    {
        sys::seccomp_load(filter).map_err(step("loading the seccomp filter"))?;
    }
    Ok(())
}
