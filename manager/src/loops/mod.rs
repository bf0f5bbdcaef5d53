//! The manager's loops as one chain per wake-up: orchestrate, reap, hold, address, place. One pass looks only at services
//! that something happened to and turns each into one transaction, so that a new task is made, addressed and placed in a
//! single write.
//!
//! | module | what it holds |
//! |---|---|
//! | [`reconciler`] | the chain: pure, fed with events, asked for transactions |
//! | [`dirty`] | which events make which services worth another look |
//! | [`autoscale`] | how many replicas services have that are scaled by their load: a loop of its own |
//! | [`tally`] | what was done and what waits, in numbers |
//! | [`metrics`] | what the shell counts of it |
//! | [`shell`] | the loop around it: watch, timers, proposals; runs on the leader only |
//! | `spans` | traces of what was written |
//!
//! Invariants: an event never carries a decision, it only marks a service; a full pass exists and changes nothing when
//! nothing is wrong; what the reconciler keeps besides the store can be built from the store.

pub mod autoscale;
pub mod dirty;
pub mod metrics;
pub mod reconciler;
pub mod shell;
mod spans;
pub mod tally;

pub use metrics::LoopMetrics;
pub use reconciler::{Reconciler, ReconcilerConfig};
pub use shell::{LoopsError, run};
