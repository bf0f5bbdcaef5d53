//! What people see: failures, lists, sizes and times, progress, questions.

pub mod failure;
pub mod human;
pub mod listing;
pub mod progress;
pub mod prompt;
pub mod terminal;

pub use failure::{Failure, OrFail, Outcome};
pub use listing::{Format, Look, Row};
