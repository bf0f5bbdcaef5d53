//! Which nodes are managers: the Raft group follows what people asked for, and the nodes' objects say what the group is.
//!
//! | module | what it holds |
//! |---|---|
//! | [`ids`] | which node and which manager a data directory is |
//! | [`service`] | the `Managers` service: what managers say to each other beside the log |
//! | [`join`] | asking to be taken in |
//! | [`decide`] | from objects and members to what should change, pure |
//! | [`tend`] | the loop around it; runs on the leader only |
//! | [`caller`] | who calls |
//!
//! Invariants: a node claims its Raft id in its object before the group takes it in; whoever leaves is let go only while the
//! others have a quorum; the leader never lets itself go, it hands the lead over first.

pub mod caller;
pub mod decide;
pub mod ids;
pub mod join;
pub mod service;
pub mod tend;

pub use join::JoinError;
pub use service::ManagersService;
