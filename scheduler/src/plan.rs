//! The answer of the scheduler: where each task goes, or why it cannot go anywhere.

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
}

/// Why a node was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// Nodes that passed the filters when the group was begun.
    pub candidates: u32,
    /// What was seen of the node that was taken.
    pub terms: Terms,
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
        let Terms { fullness, of_service, tasks, failures } = self.terms;
        write!(f, "best of {} nodes: {}.{} % full", self.candidates, fullness / 10_000, fullness / 1_000 % 10)?;
        write!(f, ", {tasks} tasks before, {of_service} of this service")?;
        if failures > 0 { write!(f, ", {failures} recent failures") } else { Ok(()) }
    }
}
