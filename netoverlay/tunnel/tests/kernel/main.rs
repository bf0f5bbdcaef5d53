//! Tunnels on a real kernel, carried by processes. Each test runs on two hosts of its own (namespaces); needs root,
//! `ip`, `nft`, `unshare` and `/dev/net/tun`. `tests/in_kernel.sh` tries the kernel's WireGuard with those that do not
//! need a process.
#![allow(clippy::unwrap_used, missing_docs)]

mod carry;
mod hosts;
mod lifecycle;
mod rotate;
