//! From heartbeats to node states. Pure: times are durations since the manager began to watch.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::state::NodeState;

/// Heartbeats that may be missed before a node is down.
pub const MISSED: u32 = 3;
/// Nodes up to which the period is the one that is set; it grows with each such number of nodes more.
const NODES_PER_PERIOD: u32 = 1_000;

/// What is known of a node's heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// When something last came from it.
    pub heard: Duration,
    /// Its stream is open.
    pub connected: bool,
}

/// A node's state should change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The node.
    pub node: NodeId,
    /// Its new state.
    pub state: NodeState,
    /// Why, for people.
    pub message: &'static str,
}

/// Period between heartbeats in a cluster of that many nodes, so that a manager is not busy with heartbeats alone.
pub fn period(set: Duration, nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    set.saturating_mul(1 + nodes / NODES_PER_PERIOD)
}

/// How long a node may be silent: [`MISSED`] periods and half of one for the way.
pub fn grace(period: Duration) -> Duration {
    period.saturating_mul(MISSED) + period / 2
}

/// What should change at `now`, and when to look again at the latest.
///
/// A node that was heard within `grace` is ready. One that was not is down: silence counts from the last sign of it, or
/// from the beginning of the watch for a node that was never heard, which is unknown until then.
pub fn decide(
    nodes: impl IntoIterator<Item = (NodeId, NodeState)>,
    pulses: &BTreeMap<NodeId, Pulse>,
    now: Duration,
    grace: Duration,
) -> (Vec<Transition>, Duration) {
    let mut transitions = Vec::new();
    let mut next = now + grace;
    for (node, known) in nodes {
        let pulse = pulses.get(&node);
        let until = pulse.map_or(Duration::ZERO, |pulse| pulse.heard) + grace;
        let state = match pulse {
            _ if now >= until => NodeState::Down,
            Some(Pulse { connected: true, .. }) => NodeState::Ready,
            // Suspect, not yet lost: what it was.
            Some(_) => known,
            None => NodeState::Unknown,
        };
        if state != NodeState::Down {
            next = next.min(until);
        }
        if state != known && !(known == NodeState::Down && state == NodeState::Unknown) {
            let message = match state {
                NodeState::Ready => "",
                NodeState::Down => "no heartbeat",
                NodeState::Unknown => "not heard of since this manager began to lead",
            };
            transitions.push(Transition { node, state, message });
        }
    }
    (transitions, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(3);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn step(known: NodeState, pulse: Option<Pulse>, now: u64) -> Option<NodeState> {
        let node = NodeId::from_random(1);
        let pulses = pulse.map(|pulse| (node, pulse)).into_iter().collect();
        let (transitions, next) = decide([(node, known)], &pulses, at(now), GRACE);
        assert!(next > at(now), "it would spin");
        transitions.first().map(|transition| transition.state)
    }

    #[test]
    fn a_node_is_ready_while_it_is_heard_and_down_after_the_grace() {
        use NodeState::{Down, Ready, Unknown};
        let heard = |heard, connected| Some(Pulse { heard: at(heard), connected });
        for (known, pulse, now, wanted) in [
            (Unknown, heard(10, true), 11, Some(Ready)),
            (Ready, heard(10, true), 12, None),
            (Ready, heard(10, true), 13, Some(Down)),
            (Down, heard(20, true), 20, Some(Ready)),
            // A broken stream alone is no proof.
            (Ready, heard(10, false), 11, None),
            (Ready, heard(10, false), 13, Some(Down)),
            // A new leader knows nothing of anybody for a while.
            (Ready, None, 1, Some(Unknown)),
            (Unknown, None, 2, None),
            (Unknown, None, 3, Some(Down)),
            (Down, None, 1, None),
        ] {
            assert_eq!(step(known, pulse, now), wanted, "{known} with {pulse:?} at {now}");
        }
    }

    #[test]
    fn the_period_grows_with_the_cluster() {
        assert_eq!(period(at(1), 3), at(1));
        assert_eq!(period(at(1), 10_000), at(11));
    }
}
