//! Where tasks go: a view of nodes and tasks in, a plan with reasons out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`demand`] | what one task of a service asks of a node |
//! | [`view`] | the nodes and what the tasks hold on them, kept up to date change by change |
//! | [`usage`] | what is held on one node |
//! | [`filter`] | one file per reason for which a node is out of the question |
//! | [`score`] | which of the nodes that are left is best |
//! | [`spread`] | even spreading over the values of node attributes |
//! | [`mod@schedule`] | the pipeline: filter once per group, then place task by task |
//! | [`plan`] | the answer: placements and refusals |
//! | [`choice`] | why a task is where it is |
//! | [`rebalance`] | moves of running tasks that free nodes or level them |
//! | [`survive`] | what the loss of one node would do |
//! | [`explain`] | refusals in words |
//!
//! Invariants: nothing here does I/O, reads a clock or draws a random number; the same view, groups, seed and `now` give
//! the same plan; a plan never gives a node more than it has; the view after any sequence of changes equals the view
//! built afresh from the same objects.
#![forbid(unsafe_code)]

pub mod choice;
pub mod demand;
pub mod explain;
pub mod filter;
mod hash;
pub mod plan;
pub mod rebalance;
pub mod schedule;
pub mod score;
pub mod spread;
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
