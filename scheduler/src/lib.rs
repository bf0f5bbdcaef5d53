//! Where tasks go: a view of nodes and tasks in, a plan with reasons out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`demand`] | what one task of a service asks of a node |
//! | [`view`] | the nodes and what the tasks hold on them, kept up to date change by change |
//! | `class`, `pool` | nodes that no lasting filter can tell apart, and the order in which they are worth a look |
//! | [`usage`] | what is held on one node |
//! | [`filter`] | one file per reason for which a node is out of the question |
//! | [`score`] | which of the nodes that are left is best |
//! | `search` | the best node of a group without looking at all of them |
//! | `spread` | even spreading over the values of node attributes |
//! | `preempt` | who must leave for a task of higher priority |
//! | `draft` | what a plan has given and taken so far, which can be undone |
//! | [`mod@schedule`] | the pipeline: filter once per group, then place task by task |
//! | [`plan`] | the answer: placements and refusals |
//! | [`choice`] | why a task is where it is |
//! | [`rebalance`] | moves of running tasks that free nodes or level them |
//! | [`survive`] | what the loss of one node would do |
//! | [`explain`], `near` | refusals in words, and what would change them |
//!
//! A group's classes are filtered once; of each class only the foremost node of each cell of free cpu and memory is looked
//! at, and a node that stays the best takes task after task, so that a placement costs the same on few nodes and on many.
//! How fast and how well: `cargo run --release -p berth-scheduler --example report`, or `cargo bench -p berth-scheduler`;
//! neither is run in CI.
//!
//! Invariants: nothing here does I/O, reads a clock or draws a random number; the same view, groups, seed and `now` give
//! the same plan; a plan never gives a node more than it has; the view after any sequence of changes equals the view
//! built afresh from the same objects.
#![forbid(unsafe_code)]

pub mod choice;
mod class;
pub mod demand;
mod draft;
pub mod explain;
pub mod filter;
mod hash;
mod near;
pub mod plan;
mod pool;
mod preempt;
pub mod rebalance;
pub mod schedule;
pub mod score;
mod search;
mod spread;
pub mod survive;
mod units;
pub mod usage;
pub mod view;

pub use choice::explain_placement;
pub use demand::{Demand, HostPort};
pub use explain::{Change, Explanation, Fix, Near};
pub use filter::{Miss, constraint_holds, qualifies};
pub use hash::IdMap;
pub use plan::{Choice, Placement, Plan, Reason, Refusal};
pub use rebalance::{Bill, Budget, Goal, Move, Rebalance, plan_rebalance};
pub use schedule::{TaskGroup, TaskRequest, schedule};
pub use score::{Strategy, Terms};
pub use survive::{Loss, Survival, survives_loss};
pub use view::{ClusterView, NodeView};
