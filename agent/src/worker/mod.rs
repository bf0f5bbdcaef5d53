//! Every task of this node: assignments against actors, records against what the runtime holds.
//!
//! | file | what |
//! |---|---|
//! | `assignments.rs` | pure: what the managers assigned |
//! | `endpoints.rs` | who answers for a service, as the managers tell it |
//! | `inventory.rs` | the assignments, shared |
//! | `board.rs` | statuses: latest, and what is still to be told |
//! | `reports.rs` | where actors tell: board and records |
//! | `publishing.rs` | published ports that are not to be had |
//! | `manage.rs` | the worker: level-triggered, an actor for each task |
//!
//! Invariant: nothing on the node is ended for being unknown before the managers have sent a complete set.

mod assignments;
mod board;
mod endpoints;
mod inventory;
mod manage;
pub mod publishing;
mod reports;

pub use assignments::{AssignedFile, Assignments, Item, Key, Touched};
pub use board::{Batch, Board};
pub use endpoints::{Backend, EndpointsChange, Peer, ServiceEndpoints};
pub use inventory::Inventory;
pub use manage::{Restored, TaskView, Worker, WorkerSetup};
pub use reports::Recorder;
