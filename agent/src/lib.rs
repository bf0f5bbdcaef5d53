//! The node's agent: keeps what the managers assign to this node true, and serves what people ask of its tasks.
//!
//! | module | what it holds |
//! |---|---|
//! | [`task`] | one task: pure state machine, actor |
//! | [`config`] | pure mapping from spec and image to a container |
//! | [`health`] | health checks |
//! | [`runtime`] | running containers |
//!
//! Invariants: containers outlive this process; the agent needs no manager to keep its tasks running; what is wanted comes
//! only from the session, what is observed only from the machine, and they are different types.

pub mod config;
pub mod health;
pub mod runtime;
pub mod task;
