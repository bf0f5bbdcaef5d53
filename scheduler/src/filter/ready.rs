//! Readiness and availability.

use berth_proto::object::Node;
use berth_proto::state::{Availability, NodeState};

use super::Miss;

/// New tasks go to nodes that are ready and active.
pub(super) fn check(node: &Node) -> Result<(), Miss> {
    match node.status.state {
        NodeState::Down => return Err(Miss::Down),
        NodeState::Unknown => return Err(Miss::Unknown),
        NodeState::Ready => {}
    }
    match node.spec.availability {
        Availability::Active => Ok(()),
        Availability::Pause => Err(Miss::Paused),
        Availability::Drain => Err(Miss::Drained),
    }
}

/// Tasks leave only nodes that are drained; what happens on a down node is for the orchestrators to decide.
pub(super) fn check_stay(node: &Node) -> Result<(), Miss> {
    match node.spec.availability {
        Availability::Drain => Err(Miss::Drained),
        Availability::Active | Availability::Pause => Ok(()),
    }
}
