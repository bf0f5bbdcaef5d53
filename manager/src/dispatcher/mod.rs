//! Between the store and the agents: one bidirectional stream per node.
//!
//! | module | what it holds |
//! |---|---|
//! | [`assignment`] | what one node should know, computed from a snapshot; what changed between two of them |
//! | [`interest`] | which nodes should hear of what was committed |
//! | [`news`] | reads each commit once, and wakes those nodes' sessions |
//! | [`endpoints`] | who answers for a service |
//! | [`message`] | both as protobuf messages |
//! | [`shared`] | endpoints that are the same for all nodes, made once |
//! | [`ledger`] | up to where the nodes of this manager have taken in what was committed, pure |
//! | [`floor`] | the same of all managers' nodes, put together |
//! | [`settle`] | what managers tell each other of that |
//! | [`health`] | from heartbeats to node states, pure |
//! | [`registry`] | the sessions there are and when each was last heard |
//! | [`heartbeat`] | the loop that writes node states; runs on the leader only |
//! | [`hearsay`] | what the others tell the leader of the nodes they hear |
//! | [`service`] | the gRPC service: takes streams in |
//! | [`session`] | one stream |
//! | `upward.rs` | what an agent says, on its way into the log |
//! | `downward.rs` | what an agent is told |
//! | `leave.rs` | a node that goes by itself |
//! | [`metrics`] | what is counted of all this |
//! | [`membership`] | what a node has to know to stay part of the cluster |
//! | [`figures`] | what tasks use, on its way to the leader's memory |
//! | [`holders`] | which nodes have an image |
//! | [`report`] | what agents report, as transactions |
//!
//! Invariants: a node is sent only what its own tasks need; a session begins with a complete set and goes on with
//! numbered changes without a gap; a report moves a task only forward; of two sessions of one node the newer one stays,
//! whichever managers they are with; only the leader decides on node states; a node is told that something is settled
//! only when every other one that has a session, and does not hang, has acknowledged it.

pub mod assignment;
mod downward;
pub mod endpoints;
pub mod figures;
pub mod floor;
pub mod health;
pub mod hearsay;
pub mod heartbeat;
pub mod holders;
pub mod interest;
mod leave;
pub mod ledger;
pub mod membership;
pub mod message;
pub mod metrics;
pub mod news;
pub mod registry;
pub mod report;
pub mod service;
pub mod session;
pub mod settle;
pub mod shared;
mod upward;

pub use figures::Figures;
pub use floor::Floors;
pub use metrics::DispatcherMetrics;
pub use news::News;
pub use registry::Registry;
pub use service::{DispatcherParts, DispatcherService};
