//! The loop that writes node states. Runs on the leader only; [`super::health`] decides.

use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::{Node, NodeStatus};
use berth_proto::state::NodeState;
use berth_proto::time::Timestamp;
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::raft::{ProposeError, Proposer};
use crate::store::{Hub, State, Transaction};

use super::health::{Transition, decide, grace, period};
use super::registry::Registry;

/// Looks again after this long even when nothing is due.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Looks again after a refusal.
const RETRY: Duration = Duration::from_millis(50);

/// Nodes in one transaction: a node may list many images, and one that is written by somebody else at the same moment
/// should not hold up all the others.
const NODES: usize = 64;

/// Watches heartbeats until `stop`.
pub async fn run(hub: Hub, proposer: Proposer, registry: Registry, stop: CancellationToken) {
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

/// Notes what a node says of itself. The inner `None` when that is known already; `None` when there is no such node.
pub fn registration(
    state: &State,
    node: NodeId,
    description: &berth_proto::object::NodeDescription,
    address: &str,
    now: Timestamp,
) -> Option<Option<Transaction>> {
    let known = state.node(node)?;
    let mut new = Node::clone(known);
    new.description = Some(description.clone());
    address.clone_into(&mut new.status.address);
    if new == **known {
        return Some(None);
    }
    let mut transaction = Transaction::new(now, "dispatcher");
    transaction.update(new);
    Some(Some(transaction))
}
