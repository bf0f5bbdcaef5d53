//! Health checks of running tasks.
//!
//! | file | what |
//! |---|---|
//! | `schedule.rs` | pure: when the next probe is due, what its outcome means |
//! | `runner.rs` | runs the probes of one task and tells of each verdict |
//!
//! Never stops a task: the verdict goes to the task's state machine, which decides.

mod runner;
mod schedule;

pub use runner::{HealthRecord, Prober, run};
pub use schedule::{Due, MAX_OUTPUT, Outcome, Probe, Schedule, Settings, effective};
