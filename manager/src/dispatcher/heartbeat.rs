//! The loop that writes node states. Runs on the leader only; [`super::health`] decides.

use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::{Node, NodeDescription, NodeStatus, TunnelKey};
use berth_proto::state::NodeState;
use berth_proto::time::Timestamp;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::raft::{ProposeError, Proposer};
use crate::store::{Hub, State, Transaction};

use super::health::{Transition, decide, grace, period};
use super::metrics::DispatcherMetrics;
use super::registry::Registry;

/// Looks again after this long even when nothing is due.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Looks again after a refusal.
const RETRY: Duration = Duration::from_millis(50);

/// Nodes in one transaction: a node may list many images, and one that is written by somebody else at the same moment
/// should not hold up all the others.
const NODES: usize = 64;

/// Watches heartbeats until `stop`.
pub async fn run(
    hub: Hub,
    proposer: Proposer,
    registry: Registry,
    metrics: DispatcherMetrics,
    stop: CancellationToken,
) {
    registry.begin();
    loop {
        let state = hub.snapshot();
        let grace = grace(heartbeat_period(&state));
        let (now, pulses) = registry.pulses();
        let nodes = state.nodes().map(|node| (node.id, node.status.state));
        let (transitions, next) = decide(nodes, &pulses, now, grace);
        for gone in pulses.keys().filter(|node| state.node(**node).is_none()) {
            registry.forget(*gone);
        }
        let mut wait = next.saturating_sub(now).min(MAX_WAIT);
        if !transitions.is_empty() {
            let written = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // What was proposed may still be written; only a stop drops this.
                written = write(&proposer, &state, &transitions) => written,
            };
            if written.is_ok() {
                let lost = transitions.iter().filter(|transition| transition.state == NodeState::Down).count();
                metrics.lost.inc_by(lost as u64);
            }
            if let Err(error) = written {
                tracing::debug!(%error, "node states were not taken; looking again");
                wait = RETRY;
            }
        }
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // Cancel-safe: a signal that was not taken is kept.
            () = registry.changed() => {}
            // Cancel-safe: the time is computed anew.
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Period between two heartbeats as things are.
pub fn heartbeat_period(state: &State) -> Duration {
    let set = state.cluster().map_or(Duration::from_secs(1), |cluster| cluster.spec.heartbeat_period);
    period(set, state.nodes().count())
}

async fn write(proposer: &Proposer, state: &State, transitions: &[Transition]) -> Result<(), ProposeError> {
    let now = clock::now();
    let transaction = |part: &[Transition]| {
        let mut transaction = Transaction::new(now, "node-health");
        for Transition { node, state: new, message } in part {
            tracing::info!(%node, state = %new, message, "node state");
            if let Some(node) = state.node(*node) {
                transaction.update(with_state(node, *new, message, now));
            }
        }
        transaction
    };
    let written = transitions.chunks(NODES).map(|part| proposer.propose(transaction(part)));
    join_all(written).await.into_iter().try_for_each(|outcome| outcome.map(drop))
}

fn with_state(node: &Node, state: NodeState, message: &str, at: Timestamp) -> Node {
    let status = NodeStatus { state, message: message.to_owned(), at, ..node.status.clone() };
    Node { status, ..node.clone() }
}

/// A node has two while it changes its key.
const MOST_KEYS: usize = 4;

/// The keys that a node may have of those that it announces: not another node's, by which others would know both, so that the last
/// one that is told of takes the first one's packets. The newest of too many.
fn own_keys(state: &State, node: NodeId, said: &[TunnelKey]) -> Vec<TunnelKey> {
    let mut keys = said.to_vec();
    if keys.is_empty() {
        return keys;
    }
    keys.drain(..keys.len().saturating_sub(MOST_KEYS));
    // There may be thousands of nodes, and each has its say when a manager starts.
    for other in state.peers().values().filter(|peer| peer.node != node) {
        keys.retain(|key| !other.keys.iter().any(|taken| taken.public_key == key.public_key));
    }
    if keys.len() < said.len() {
        let left_out = said.len() - keys.len();
        tracing::warn!(%node, left_out, "the node announces keys that it may not have, such as another node's: nobody is told of them");
    }
    keys
}

/// Notes what a node says of itself. The inner `None` when that is known already; `None` when there is no such node.
pub fn registration(
    state: &State,
    node: NodeId,
    description: &NodeDescription,
    address: &str,
    now: Timestamp,
) -> Option<Option<Transaction>> {
    let known = state.node(node)?;
    let mut new = Node::clone(known);
    let tunnel_keys = own_keys(state, node, &description.tunnel_keys);
    new.description = Some(NodeDescription { tunnel_keys, ..description.clone() });
    address.clone_into(&mut new.status.address);
    if new == **known {
        return Some(None);
    }
    let mut transaction = Transaction::new(now, "dispatcher");
    transaction.update(new);
    Some(Some(transaction))
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::object::{Meta, Object};
    use berth_proto::spec::NodeSpec;

    fn key(generation: u64, first: u8) -> TunnelKey {
        TunnelKey { generation, public_key: [first; 32], port: 51820 }
    }

    fn node(number: u128, keys: Vec<TunnelKey>) -> Object {
        let description = NodeDescription { tunnel_keys: keys, ..NodeDescription::default() };
        let status = NodeStatus { address: format!("10.0.0.{number}:4777"), ..NodeStatus::default() };
        let (id, meta, spec) = (NodeId::from_random(number), Meta::default(), NodeSpec::default());
        Object::Node(
            Node { id, meta, spec, description: Some(description), status, manager: None, ingress: Vec::new() }.into(),
        )
    }

    #[test]
    fn nobody_takes_another_nodes_key() {
        let state = State::from_objects(1, [node(1, vec![key(1, 1), key(2, 2)]), node(2, vec![key(7, 7)])]);
        let (first, second) = (NodeId::from_random(1), NodeId::from_random(2));
        assert_eq!(own_keys(&state, second, &[key(7, 7), key(8, 2)]), [key(7, 7)], "a copied key is left out");
        assert_eq!(own_keys(&state, first, &[key(1, 1), key(2, 2)]), [key(1, 1), key(2, 2)], "one's own is kept");
        let many: Vec<TunnelKey> = (10..20).map(|n| key(n, n as u8)).collect();
        assert_eq!(own_keys(&state, second, &many), many[6..]);
    }
}
