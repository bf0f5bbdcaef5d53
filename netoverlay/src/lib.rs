//! The node's container network: bridges, task namespaces, virtual addresses, published ports, names.
//!
//! The agent says what is desired ([`Overlay`]); [`plan`] compares that with what the kernel holds and gives ordered
//! operations; [`kernel`] carries them out. The kernel keeps the data plane alive when the daemon dies, and the next daemon
//! takes it over.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | desired topology, observed topology |
//! | [`plan`] | pure: desired − observed = ordered operations |
//! | [`names`] | kernel names derived from ids |
//! | [`nft`] | pure: packet filter tables as elements, rules and messages |
//! | [`ebpf`] | pure: virtual addresses translated when a socket asks for them, and the programs that do it |
//! | [`claimed`] | pure: ranges that the node has routes to |
//! | [`files`] | pure: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname` |
//! | [`dns`] | the name server inside every container's namespace |
//! | [`kernel`] | the kernel behind a trait: netlink, namespaces, sockets |
//! | [`Overlay`] | the surface: one pass at a time over all of the above |
//! | [`purge`] | removes what a daemon that is gone left in the kernel |
//!
//! Invariants: names in the kernel derive from ids, so nothing is ever made twice; a packet filter table changes in one
//! transaction or not at all; a published port is translated only while this process holds it; before the first
//! [`Overlay::apply`] or [`Overlay::reconcile`] nothing unknown is removed; no thread of the async runtime ever changes its
//! namespace; `unsafe` is in `kernel/bpf.rs` alone; without the programs for virtual addresses the packet filter does all that
//! they do.
//!
//! Beside other firewalls: Berth writes tables of its own only. A packet must pass every table, so a host whose own
//! `FORWARD` chain drops by default (Docker sets `iptables -P FORWARD DROP`) must accept traffic from and to Berth's bridges
//! (`bthb+`) there; [`Overlay`] cannot overrule it and does not change other programs' rules.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod check;
mod config;
mod converge;
mod error;
mod overlay;
mod parallel;

pub mod claimed;
pub mod dns;
pub mod ebpf;
pub mod files;
pub mod kernel;
pub mod model;
pub mod names;
pub mod nft;
pub mod plan;

pub use config::Config;
pub use converge::Report;
pub use error::OverlayError;
pub use kernel::{NameSockets, Purged, host_routes, purge, unmount_below};
pub use overlay::{Overlay, Sandbox};
