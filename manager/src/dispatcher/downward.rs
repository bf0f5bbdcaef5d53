//! What an agent is told: the complete set, then changes, each as soon as it is urgent and the agent takes it; and what it
//! has to know to stay part of the cluster, whenever that changes.

use berth_proto::id::NodeId;
use berth_proto::pb::{self, manager_message::Message as ToAgent};
use tonic::Status;

use crate::store::Snapshot;

use super::assignment::{Assigned, assigned, diff};
use super::interest::Interest;
use super::membership::membership;
use super::message;
use super::news::Listener;
use super::session::{Context, Outbox, send, unknown};

/// Tells the agent until it goes, or its node does.
pub(super) async fn tell(context: &Context, node: NodeId, outbox: &Outbox) -> Result<(), Status> {
    let listener = context.news.listen(node);
    let mut told = pb::Membership::default();
    tell_membership(&context.hub.snapshot(), node, &mut told, outbox).await?;
    let mut known = {
        let _turn = context.gate.acquire().await.map_err(|_| Status::unavailable("this manager is stopping"))?;
        let (_, set) = look(context, node, &listener);
        outbox.send(Ok(message::complete(1, &set))).await.map_err(|_| Status::cancelled("the agent has gone"))?;
        set
    };
    let mut sequence = 1;
    loop {
        let may_be_else = listener.next().await?;
        let (state, wanted) = look(context, node, &listener);
        if may_be_else {
            tell_membership(&state, node, &mut told, outbox).await?;
        }
        if state.node(node).is_none() {
            return Err(unknown(node));
        }
        let changes = diff(&known, &wanted);
        known = wanted;
        if !changes.is_empty() {
            sequence += 1;
            let sent = outbox.send(Ok(message::changes(sequence, &changes))).await;
            sent.map_err(|_| Status::cancelled("the agent has gone"))?;
        }
    }
}

/// The newest state and what the node should know by it, and be told of from then on.
fn look(context: &Context, node: NodeId, listener: &Listener) -> (Snapshot, Assigned) {
    loop {
        let state = context.hub.snapshot();
        let set = assigned(&state, node);
        if !listener.knows(Interest::of(&set)) {
            return (state, set);
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
