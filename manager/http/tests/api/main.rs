//! The JSON API of a real manager. One program: each more would be compiled and linked with all of the manager.
#![allow(missing_docs, clippy::unwrap_used)]

mod actions;
mod apply;
mod asking;
mod objects;
mod openapi;
mod refusals;
mod roles;
mod sockets;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod watch;
