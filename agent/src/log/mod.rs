//! Reading the logs of this node's tasks: several at once, merged by time, followed while they grow.
//!
//! The files themselves, their form and their rotation are `berth_shim::log`'s. Never writes.

mod merge;
mod watch;

pub use merge::{Merge, Pick, TaskLine};
pub use watch::{Watch, Watches};
