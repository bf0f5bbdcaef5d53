//! The answer of the scheduler: where each task goes and why, whom it takes the place of, or why it cannot go anywhere.

use std::fmt;
use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::SpecVersion;

use crate::explain::Explanation;
use crate::score::Terms;

/// What was decided, in the order in which it was decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Tasks that have a node now.
    pub placements: Vec<Placement>,
    /// Tasks that have none.
    pub refusals: Vec<Refusal>,
}

/// One task and its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Its node.
    pub node: NodeId,
    /// Why there.
    pub reason: Reason,
    /// Tasks of strictly lower priority that must leave the node for it, each in one placement of a plan only.
    pub evicts: Vec<TaskId>,
}

/// Why a node was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Nodes that qualify, whether they have room or not.
    pub candidates: u32,
    /// What was seen of the node that was taken.
    pub terms: Terms,
    /// The best of the other nodes that had room.
    pub next: Option<(NodeId, Terms)>,
}

/// Where a task is or would be, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The node.
    pub node: NodeId,
    /// What speaks for it.
    pub reason: Reason,
}

/// Tasks of one group for which no node was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Their service.
    pub service: ServiceId,
    /// Their spec version.
    pub spec_version: SpecVersion,
    /// The tasks.
    pub tasks: Vec<TaskId>,
    /// Why, the same for all of them.
    pub explanation: Arc<Explanation>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "best of {} nodes: {}", self.candidates, self.terms)?;
        match &self.next {
            Some((_, terms)) => write!(f, "; next best: {terms}"),
            None => Ok(()),
        }
    }
}
