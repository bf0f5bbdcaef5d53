//! Real daemons on hosts made of namespaces, for the end-to-end tests and the benchmarks.
//!
//! | module | what it holds |
//! |---|---|
//! | [`host`] | a machine of its own: network, mount and UTS namespace, data dir, one daemon |
//! | [`cluster`] | several hosts on one wire, and what can go wrong with them |
//! | [`switch`] | that wire |
//! | `delay.rs` | what makes it slow |
//! | [`frames`] | what goes by on it |
//! | [`cli`] | running `berth` commands against a host |
//! | [`wait`] | waiting for a state, with the last one seen in the failure |
//! | [`outside`] | a machine on that wire that is a client, and load from it |
//! | [`browser`] | Chromium on that wire |
//! | [`dashboard`] | the dashboard in it: logging in, its pages, its tiles |
//! | [`image`] | images made from Debian's packages, built once a run |
//!
//! Nothing here is part of the product. A failed test keeps its host's data under `target/e2e/`.

pub mod browser;
pub mod cli;
pub mod cluster;
pub mod dashboard;
mod delay;
pub mod frames;
pub mod host;
pub mod image;
pub mod outside;
pub mod switch;
pub mod wait;

pub use browser::Browser;
pub use cli::Output;
pub use cluster::Cluster;
pub use dashboard::Dashboard;
pub use host::Host;
pub use outside::Outside;
pub use switch::Link;
pub use wait::{wait_for, wait_until};
