//! The managers of Berth: the replicated state, the loops that act on it, and the services that agents and people call.
//!
//! | module | what it holds |
//! |---|---|
//! | [`raft`] | the replicated log: openraft over redb, snapshots, batches of transactions |
//! | [`dispatcher`] | one stream per node: assignments down, heartbeats and reports up |
//! | [`members`] | which nodes are managers: taken in, kept true, let go |
//! | [`manager`] | all of it as one thing: start, lead, stop |
//! | [`identity`] | the CA, join tokens, certificates, TLS between nodes, who may call what |
//! | [`store`] | the state in memory, transactions, watch |
//! | [`orchestrator`] | how many tasks should exist: replicated, global, jobs; replacing what ended |
//! | [`restart`] | whether and when a task that ended is replaced |
//! | [`update`] | rolling update, monitoring, rollback |
//! | [`autoscale`] | how many replicas a service needs by what its tasks use |
//! | [`constraint`] | whether a task may stay on its node |
//! | [`reaper`] | what is forgotten |
//! | [`allocator`] | subnets, addresses, virtual addresses, published ports |
//! | [`placement`] | between the store and the scheduler |
//! | [`api`] | what a person asks for: the `Control` service |
//! | [`loops`] | all of these as one chain, and the loop around it |
//! | [`metrics`] | what is counted of all of it |
//! | [`clock`] | what time it is, for what is written down |
//!
//! Invariants: every write goes through the replicated log; loops and services read snapshots and propose transactions,
//! nothing else changes the state.
#![forbid(unsafe_code)]

pub mod allocator;
pub mod api;
pub mod autoscale;
pub mod clock;
pub mod constraint;
pub mod dispatcher;
pub mod identity;
pub mod loops;
pub mod manager;
pub mod members;
pub mod metrics;
pub mod orchestrator;
pub mod placement;
pub mod raft;
pub mod reaper;
pub mod restart;
pub mod store;
pub mod update;
