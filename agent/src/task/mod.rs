//! One task on this node: its state machine, and the actor that carries it out.
//!
//! | file | what |
//! |---|---|
//! | `step.rs` | pure: event in, status and actions out |
//! | `executor.rs` | what an actor needs of the machine, as a trait |
//! | `actor.rs` | carries actions out and feeds events back |
//! | `steps.rs` | the spans of a task that is part of a trace |
//!
//! Invariants: one actor for each task; an actor that is dropped leaves its container running.

pub mod actor;
mod executor;
mod step;
mod steps;

pub use executor::{Executor, Prepared, Progress, Reports, Work};
pub use step::{Action, Ended, Event, Found, Machine, Phase, Refusal, Traits, Wanted};
