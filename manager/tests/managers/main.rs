//! Several managers and their agents, over loopback.
#![allow(clippy::unwrap_used)]

mod dispatcher;
mod figures;
mod links;
mod members;
mod raft;
mod recover;
mod settled;
#[path = "../store_support/mod.rs"]
mod store_support;
mod support;
mod traces;
