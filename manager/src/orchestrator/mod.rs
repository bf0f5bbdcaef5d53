//! How many tasks should exist, and in which slots. Pure: reads a snapshot, edits a [`Work`], draws nothing from outside.
//!
//! | module | what it holds |
//! |---|---|
//! | [`work`] | one service and its tasks, copied on write; becomes a transaction |
//! | [`turn`] | what a decision may read besides: the state, the time, new ids |
//! | [`slot`] | the tasks of a service slot by slot |
//! | [`replicated`] | a number of slots |
//! | [`scale`] | which slots go and which come |
//! | [`global`] | one slot for each qualifying node |
//! | [`job`] | slots that are done once they have ended well |
//! | [`mend`] | replacing what ended or lost its node |
//! | [`start`] | letting prepared tasks start |
//! | [`depends`] | holding a service until those that it depends on are up |
//! | [`removal`] | ending a service |
//! | [`traced`] | how long what is made is part of a change's trace |
//!
//! Invariants: deciding twice changes nothing; a slot has at most one task that is meant to work, two while a start-first
//! update replaces it; a task is never moved or restarted, only replaced.

pub mod depends;
pub mod global;
pub mod job;
pub mod mend;
pub mod removal;
pub mod replicated;
pub mod scale;
pub mod slot;
pub mod start;
pub mod traced;
pub mod turn;
pub mod work;

use berth_proto::spec::ServiceMode;

pub use turn::{IdSource, SeededIds, Turn};
pub use work::{Loop, Work};

/// Brings the tasks of one service to what its spec asks for.
pub fn decide(work: &mut Work, turn: &mut Turn<'_>) {
    if work.service.pending_delete {
        return removal::decide(work);
    }
    match work.service.mode() {
        ServiceMode::Replicated { replicas } => replicated::decide(work, replicas, turn),
        ServiceMode::Global => global::decide(work, turn),
        ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
            job::decide_replicated(work, max_concurrent, total_completions, turn);
        }
        ServiceMode::GlobalJob => job::decide_global(work, turn),
    }
    work.act_as(Loop::Orchestrator);
    start::decide(work, turn);
    traced::decide(work);
}
