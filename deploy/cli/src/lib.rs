//! The `berth` binary: the command line, and the daemon that joins manager and agent.
//!
//! | module | what it holds |
//! |---|---|
//! | [`cli`] | the command line as a whole: global flags, dispatch, exit code |
//! | [`commands`] | one file per command: its flags, and what it does |
//! | [`flags`] | flags that commands share, parsers of their values, how they change a spec |
//! | [`client`] | the connection to a daemon, the cluster as last heard of, what a word means |
//! | [`session`] | talking to a process in a task: `exec`, `attach` |
//! | [`archive`] | tar streams of `cp` |
//! | [`traced`] | commands and the daemon as parts of traces |
//! | [`rollout`] | waiting until services are up |
//! | [`view`] | rows and lines of output |
//! | [`ui`] | tables, JSON, sizes, progress, questions, failures |
//! | [`daemon`] | `berth daemon`: locks, sockets, signals, manager and agent in one process |
//!
//! Invariants: stdout carries data and nothing else, stderr carries talk; what is printed is made by pure functions in
//! [`view`]; only [`daemon`] runs manager and agent; a flag that is not supported is refused, never ignored.
#![forbid(unsafe_code)]
#![allow(rustdoc::broken_intra_doc_links, reason = "help texts of flags have brackets that are no links")]

pub mod archive;
pub mod cli;
pub mod client;
pub mod commands;
pub mod daemon;
#[cfg(test)]
mod fixture;
pub mod flags;
pub mod rollout;
pub mod session;
pub mod traced;
pub mod ui;
pub mod view;
