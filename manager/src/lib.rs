//! The managers of Berth: the replicated state, the loops that act on it, and the services that agents and people call.
//!
//! | module | what it holds |
//! |---|---|
//! | [`store`] | the state in memory, transactions, watch |
//!
//! Invariants: every write goes through the replicated log; loops and services read snapshots and propose transactions,
//! nothing else changes the state.
#![forbid(unsafe_code)]

pub mod store;
