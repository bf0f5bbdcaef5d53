//! The loop that ends a change of the root: once every node that is there has a certificate of the new one, the old one is
//! trusted no more. Runs on the leader only; [`decide`] is pure. Nodes that are down do not hold it up: they renew by the
//! retired root when they come back.

use std::time::{Duration, SystemTime};

use berth_proto::object::{Cluster, Node};
use berth_proto::state::NodeState;
use berth_proto::time::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::raft::Proposer;
use crate::store::{Hub, State, Transaction};

use super::authority;
use super::certificate::fingerprint;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// The nodes that still use a certificate of the root that is replaced, and are there to renew it.
pub fn waiting(state: &State) -> Vec<&Node> {
    let Some(authority) = state.cluster().and_then(|cluster| cluster.authority.as_ref()) else { return Vec::new() };
    let newest = fingerprint(&authority.root.certificate);
    let is_waiting = |node: &&Node| node.status.state != NodeState::Down && node.status.root != newest;
    state.nodes().map(|node| &**node).filter(is_waiting).collect()
}

/// Ends the rotation that is under way, when nobody waits any more.
pub fn decide(state: &State, now: Timestamp) -> Option<Transaction> {
    let cluster = state.cluster()?;
    let authority = authority::retire(cluster.authority.as_ref()?)?;
    if !waiting(state).is_empty() {
        return None;
    }
    let mut transaction = Transaction::new(now, "ca-rotation");
    transaction.update(Cluster { authority: Some(authority), ..Cluster::clone(cluster) });
    Some(transaction)
}

/// Looks until `stop`.
pub async fn run(hub: Hub, proposer: Proposer, stop: CancellationToken) {
    loop {
        if let Some(transaction) = decide(&hub.snapshot(), SystemTime::now().into()) {
            let proposed = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // What was proposed may still be written; only a stop drops this.
                proposed = proposer.propose(transaction) => proposed,
            };
            match proposed {
                Ok(_) => tracing::info!("the old root certificate is retired: every node has one of the new root"),
                Err(error) => tracing::debug!(%error, "the old root was not retired; looking again"),
            }
        }
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // Cancel-safe: nothing is lost but time. Nobody waits for the end of a rotation: no commit wakes this.
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
