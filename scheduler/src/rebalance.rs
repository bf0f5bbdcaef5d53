//! Moving tasks that run: the fewest moves that free nodes or level their load. Proposes, never decides.

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::time::Timestamp;

use crate::view::ClusterView;

/// What a rebalancing may cost, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// What is wanted.
    pub goal: Goal,
    /// Most moves.
    pub moves: usize,
    /// Node ids and failures are weighed as of this time.
    pub now: Timestamp,
}

/// What a rebalancing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// Empty as many nodes as the moves allow.
    #[default]
    FreeNodes,
    /// Bring the fullest nodes down.
    Level,
}

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebalance {
    /// In the order in which they can be made: each fits once those before it are done.
    pub moves: Vec<Move>,
    /// What they bring.
    pub bill: Bill,
}

/// One task from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Where it is.
    pub from: NodeId,
    /// Where it would go.
    pub to: NodeId,
}

/// What the moves bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// Nodes with tasks before.
    pub used_before: u32,
    /// Nodes with tasks after.
    pub used_after: u32,
    /// Share of the dominant resource that is held on the fullest node, in millionths, before.
    pub level_before: u32,
    /// The same after.
    pub level_after: u32,
}

impl Bill {
    /// Nodes that have no tasks any more.
    pub fn freed(&self) -> u32 {
        self.used_before.saturating_sub(self.used_after)
    }
}

/// Proposes moves within the budget.
pub fn plan_rebalance(_view: &ClusterView, _budget: &Budget) -> Rebalance {
    Rebalance::default()
}
