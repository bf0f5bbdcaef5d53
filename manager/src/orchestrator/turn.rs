//! What a decision may read besides the service at hand: the state, the time and new ids, all handed in.

use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::{Node, Task};
use berth_proto::state::{Availability, NodeState, TaskState};
use berth_proto::time::Timestamp;

use crate::store::State;

/// Where new ids come from.
pub trait IdSource: Send {
    /// 128 bits that nobody else has.
    fn bits(&mut self) -> u128;
}

/// Ids that repeat with the seed; for simulations and tests.
#[derive(Debug, Clone)]
pub struct SeededIds(u64);

impl SeededIds {
    /// The ids of that seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl IdSource for SeededIds {
    fn bits(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

/// One look at one service.
pub struct Turn<'a> {
    /// The state that is looked at.
    pub state: &'a State,
    /// The time.
    pub now: Timestamp,
    /// When to look again although nothing happens.
    pub wake: Option<Timestamp>,
    /// Some node could take over what another one lost.
    any_ready: bool,
    ids: &'a mut dyn IdSource,
}

/// Where a task stands with its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not placed yet.
    Unplaced,
    /// On a node that keeps its tasks.
    Held,
    /// On a node that gives its tasks away.
    Drained,
    /// On a node whose heartbeats stopped, while others are ready. Where none is, nobody could take its tasks over and it
    /// is more likely that the manager is cut off than that all nodes died: its tasks stay.
    Down,
    /// On a node that was removed.
    Gone,
}

impl<'a> Turn<'a> {
    /// A look at `state`.
    pub fn new(state: &'a State, now: Timestamp, ids: &'a mut dyn IdSource) -> Self {
        let any_ready = state.nodes().any(|node| node.status.state == NodeState::Ready);
        Self { state, now, wake: None, any_ready, ids }
    }

    /// A new task id.
    pub fn task_id(&mut self) -> TaskId {
        TaskId::from_random(self.ids.bits())
    }

    /// 128 new bits.
    pub fn bits(&mut self) -> u128 {
        self.ids.bits()
    }

    /// Asks for another look at `at`.
    pub fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// The node of that id.
    pub fn node(&self, id: NodeId) -> Option<&'a Arc<Node>> {
        self.state.node(id)
    }

    /// Where the task stands with its node.
    pub fn standing(&self, task: &Task) -> Standing {
        let Some(id) = task.node else { return Standing::Unplaced };
        let Some(node) = self.state.node(id) else { return Standing::Gone };
        match (node.status.state, node.spec.availability) {
            (NodeState::Down, _) if self.any_ready => Standing::Down,
            (_, Availability::Drain) => Standing::Drained,
            _ => Standing::Held,
        }
    }

    /// True once nothing of the task runs any more, as far as anybody can know: it ended, it never reached a node, or its
    /// node is out of reach.
    pub fn is_over(&self, task: &Task) -> bool {
        task.status.state.is_terminal()
            || matches!(self.standing(task), Standing::Unplaced | Standing::Down | Standing::Gone)
            || (task.status.state < TaskState::Assigned)
    }
}
