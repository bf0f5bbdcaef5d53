//! What the agent and its shim share: the words they speak and the files they both touch.
//!
//! The shim is one small process per container that outlives the agent (`main.rs`, feature `bin`).
//!
//! | module | what |
//! |---|---|
//! | [`protocol`] | requests, replies and their framing over the task's unix socket, file descriptors included |
//! | [`config`] | the file that tells a shim what to run, and the layout of the task directory |
//! | [`exit`] | how a container ended, kept on disk |
//! | [`log`] | the log format: writing with rotation, reading from the tail or a point in time |
//! | [`cgroup`] | finding, reading, killing and removing a container's control groups, v1 and v2 |
//! | [`user`] | users and groups by name, looked up inside a root filesystem and never outside |
//! | [`caps`] | capability names and sets |
//!
//! Invariants: no async, no threads, nothing that keeps memory; the library builds without
//! libcontainer. Every path inside a container is resolved with `RESOLVE_IN_ROOT`.

pub mod caps;
pub mod cgroup;
pub mod config;
pub mod exit;
pub mod log;
pub mod protocol;
pub mod user;
