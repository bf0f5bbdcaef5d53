//! Encrypted links between nodes: WireGuard devices, their keys, their peers, the routes into them.
//!
//! Overlay networks with the option `encrypted` send their VXLAN packets to a node's *inner address*, which is routed
//! into a WireGuard device. The kernel's WireGuard is used where there is one; elsewhere a process of ours per device
//! (a TUN device and the protocol in userspace), which outlives the daemon as the kernel's device would.
//!
//! | module | what it holds |
//! |---|---|
//! | [`key`] | secret and public keys |
//! | [`rotation`] | pure: which keys to make, announce, send by and drop |
//! | [`store`] | the node's own keys on disk |
//! | [`keyring`] | the two together |
//! | [`announce`] | pure: what is told of keys, and the devices that follow from what others tell |
//! | [`name`] | device names, inner addresses and ports derived from ids |
//! | [`model`] | desired devices, observed devices |
//! | [`plan`] | pure: desired − observed = ordered operations |
//! | [`uapi`] | pure: WireGuard's text protocol for settings |
//! | [`kernel`] | the kernel behind a trait: netlink, and either kind of device |
//! | [`process`] | the userspace device's process, which is built without the feature `node` |
//! | [`Tunnels`] | the surface: one pass over all of the above |
//!
//! Invariants: device names derive from generations, inner addresses from node and generation, so nothing is made
//! twice; a packet that comes out of a device bears the inner address of the peer whose key it was sealed with; no
//! private key is ever in an argument, an environment or a log; an encrypted packet never leaves in the clear, for the
//! only route to an inner address is into a device.
// Not `forbid`: one call is not to be had safely, see `process/tun.rs`.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
#[cfg(feature = "node")]
mod tunnels;

#[cfg(feature = "node")]
pub mod announce;
#[cfg(feature = "node")]
pub mod kernel;
pub mod key;
#[cfg(feature = "node")]
pub mod keyring;
pub mod model;
pub mod name;
#[cfg(feature = "node")]
pub mod plan;
pub mod process;
#[cfg(feature = "node")]
pub mod rotation;
#[cfg(feature = "node")]
pub mod store;
pub mod uapi;

pub use error::TunnelError;
pub use process::run;
#[cfg(feature = "node")]
pub use tunnels::{Failure, Report, Tunnels};
