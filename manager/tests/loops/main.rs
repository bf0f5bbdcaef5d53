//! The loops of the leader against simulated agents.
#![allow(clippy::unwrap_used)]

mod autoscale;
mod evict;
mod exhausted;
mod random;
mod scenarios;
mod shell;
#[path = "../sim/mod.rs"]
mod sim;
mod traced;
mod two;
