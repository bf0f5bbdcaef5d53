//! What an agent counts and shows.
//!
//! | file | what |
//! |---|---|
//! | `tasks.rs` | tasks that began and ended, counted where actors tell it |
//! | `images.rs` | pulls |
//! | `samples.rs` | use of resources by containers, looked at for a scrape |
//! | `part.rs` | all of it as a part of a scrape |
//!
//! Labels of containers are their service, stack and slot: there are as many series as there are containers on the node, they
//! go with them, and a replica that is replaced goes on under its name.

mod images;
mod part;
mod samples;
mod tasks;

pub use images::PullMetrics;
pub use part::{AgentPart, Sources};
pub use tasks::TaskMetrics;
