//! What an agent is told: the complete set, then changes, each as soon as it is urgent and the agent takes it; and what it
//! has to know to stay part of the cluster, whenever that changes.

use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::pb::{self, manager_message::Message as ToAgent};
use tokio::time::Instant;
use tonic::Status;

use crate::store::{Snapshot, Subscription, WatchError};

use super::assignment::{Assigned, Urgency, assigned, diff, urgency};
use super::membership::{concerns, membership};
use super::message;
use super::session::{Context, Outbox, send, unknown};

/// Changes that are not about the node's own tasks are put together for this long.
const SETTLE: Duration = Duration::from_millis(20);

/// Tells the agent until it goes, or its node does.
pub(super) async fn tell(context: &Context, node: NodeId, outbox: &Outbox) -> Result<(), Status> {
    let (state, mut commits) = context.hub.subscribe();
    let mut told = pb::Membership::default();
    tell_membership(&state, node, &mut told, outbox).await?;
    let mut known = {
        let _turn = context.gate.acquire().await.map_err(|_| Status::unavailable("this manager is stopping"))?;
        // A newer one than that of the subscription does no harm: changes are taken from states, not from commits.
        let set = assigned(&context.hub.snapshot(), node);
        outbox.send(Ok(message::complete(1, &set))).await.map_err(|_| Status::cancelled("the agent has gone"))?;
        set
    };
    let mut sequence = 1;
    loop {
        let news = next(&mut commits, node).await?;
        let state = news.state;
        if news.membership {
            tell_membership(&state, node, &mut told, outbox).await?;
        }
        if state.node(node).is_none() {
            return Err(unknown(node));
        }
        let wanted: Assigned = assigned(&state, node);
        let changes = diff(&known, &wanted);
        known = wanted;
        if !changes.is_empty() {
            sequence += 1;
            let sent = outbox.send(Ok(message::changes(sequence, &changes))).await;
            sent.map_err(|_| Status::cancelled("the agent has gone"))?;
        }
    }
}

async fn tell_membership(
    state: &Snapshot,
    node: NodeId,
    told: &mut pb::Membership,
    outbox: &Outbox,
) -> Result<(), Status> {
    match membership(state, node) {
        Some(new) if new != *told => {
            told.clone_from(&new);
            send(outbox, ToAgent::Membership(new)).await
        }
        _ => Ok(()),
    }
}

/// A state that the node should hear of.
struct News {
    state: Snapshot,
    /// It may have to know something else to stay part of the cluster.
    membership: bool,
}

/// Waits for something that the node should hear of; what is not about its own tasks waits for more of its kind.
async fn next(commits: &mut Subscription, node: NodeId) -> Result<News, Status> {
    let stopping = |_| Status::unavailable("this manager is stopping");
    let mut due: Option<Instant> = None;
    let mut membership = false;
    loop {
        let commit = match due {
            None => commits.next().await,
            Some(due) => match tokio::time::timeout_at(due, commits.next()).await {
                Ok(commit) => commit,
                Err(_) => return Ok(News { state: commits.resync(), membership }),
            },
        };
        let urgent = match commit {
            Ok(commit) => {
                membership |= commit.events.iter().any(|event| concerns(event, node));
                commit.events.iter().map(|event| urgency(event, node)).max().unwrap_or(Urgency::Never)
            }
            Err(WatchError::Lagged { .. }) => {
                membership = true;
                Urgency::Now
            }
            Err(closed @ WatchError::Closed) => return Err(stopping(closed)),
        };
        match urgent {
            Urgency::Now => return Ok(News { state: commits.resync(), membership }),
            Urgency::Never if !membership => {}
            Urgency::Soon | Urgency::Never => due = due.or_else(|| Some(Instant::now() + SETTLE)),
        }
    }
}
