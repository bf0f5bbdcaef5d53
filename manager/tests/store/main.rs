//! The replicated store: what is written, read back, watched, and kept through crashes and full disks.
#![allow(clippy::unwrap_used)]

mod assignment;
mod disk;
mod dispatcher;
mod full_disk;
mod kill;
mod model;
mod rules;
#[path = "../store_support/mod.rs"]
mod store_support;
mod watch;
