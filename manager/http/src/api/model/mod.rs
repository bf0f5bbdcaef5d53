//! The JSON shapes of the API: made from the domain's objects, described by the OpenAPI document. Pure.
//!
//! | file | what |
//! |---|---|
//! | `any.rs` | an object of any kind, as a watch sends it |
//! | `node.rs`, `service.rs`, `task.rs`, `stack.rs`, `cluster.rs` | what runs, and where |
//! | `network.rs`, `volume.rs`, `file.rs` | networks, volumes, configs and secrets |
//! | `image.rs` | images of nodes |
//! | `event.rs` | what was committed, and by whom |
//! | `token.rs` | tokens of the API |
//! | `plan.rs`, `explain.rs` | what an apply would do, why a task is where it is |
//! | `page.rs` | one page of a list |
//!
//! Keys are in snake_case, times in RFC 3339, sizes in bytes, cpu in cores; specs are those of the domain, as they are. What
//! secrets hold is in none of these.

mod any;
mod cluster;
mod event;
mod explain;
mod file;
mod image;
mod network;
mod node;
mod page;
mod plan;
mod service;
mod stack;
mod task;
mod token;
mod volume;

pub use any::Object;
pub use cluster::{CertificateRotation, Cluster, JoinToken, NewJoinToken};
pub use event::{Action, Event};
pub use explain::{Explanation, NearNode, Placed, RemovedNodes, Unplaced};
pub use file::{Config, Secret, SecretInput};
pub use image::{Image, ImageHolder, ImagePage, SilentNode};
pub use network::{Attached, Network};
pub use node::{Node, NodeSettings, Reachability, Resources};
pub use page::Page;
pub use plan::{
    FieldChange, NodeLoss, NodeShare, Placement, Plan, PlanAction, PlannedChange, Refusal, Warning, is_empty, kind_word,
};
pub use service::{Job, Scale, Service, Update, VirtualIp};
pub use stack::{Removed, Stack};
pub use task::{Attachment, Container, Restarts, StatusChange, Task};
pub use token::{CreatedToken, NewToken, Token};
pub use volume::Volume;
