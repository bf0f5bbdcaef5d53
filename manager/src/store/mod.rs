//! The replicated state in memory: immutable objects in persistent maps, changed only by applying transactions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`object`] | one type over all kinds of objects, typed references |
//! | [`state`] | [`State`] and its typed reads; [`Snapshot`] is one that nobody changes any more |
//! | [`transaction`] | [`Transaction`]: preconditions and changes, the content of the log |
//! | [`apply`] | the one way to change a state |
//! | [`conflict`] | why a transaction was refused |
//! | [`contents`] | which contents of configs and secrets are kept |
//! | [`event`] | what a commit did |
//! | [`metrics`] | what a scrape shows of all of it |
//! | [`peers`] | nodes as the data plane of others sees them, kept beside the nodes |
//! | `room` | what is reserved on each node |
//! | [`watch`] | a snapshot and the stream of commits after it |
//!
//! Invariants: versions only grow; a write that was made from an older version is refused; names are unique per kind;
//! observed and desired task states only move forward; a task never changes node, slot or service; every task's spec
//! version is one that its service has; what is in use is not removed; a slot has one task that is meant to work, or two where
//! the new one starts first; no task is given a node whose tasks that are meant to work leave no room for it.

pub mod apply;
pub mod conflict;
pub mod contents;
pub mod event;
pub mod metrics;
pub mod object;
pub mod peers;
pub mod references;
mod revision;
mod room;
mod slots;
pub mod state;
mod table;
mod task_index;
mod task_rules;
pub mod transaction;
pub mod watch;

pub use conflict::Conflict;
pub use event::{Author, Commit, Event};
pub use metrics::StoreMetrics;
pub use object::{Object, ObjectKind, ObjectRef, Stored};
pub use room::Reserved;
pub use state::{Snapshot, State};
pub use transaction::{Change, Observation, Precondition, Transaction};
pub use watch::{Hub, Step, Subscription, WatchError};
