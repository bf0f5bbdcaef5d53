//! The overlay on a real kernel. Each test runs on a host of its own (namespaces); needs root.
#![allow(clippy::unwrap_used, missing_docs)]

mod dns;
mod ebpf;
mod host;
mod lifecycle;
mod nodes;
mod publish;
mod reach;
mod trouble;
mod tunnel;
mod vip;
