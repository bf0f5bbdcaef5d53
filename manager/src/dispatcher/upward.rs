//! What an agent says, on its way into the log. Losing the leader ends no session: what was not taken is given again until it
//! is, which does no harm, because a state is taken only forward and a description is written only when it is another one.

use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::NodeDescription;
use berth_proto::pb::{self, manager_message::Message as ToAgent};
use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use crate::clock::now;
use crate::raft::ProposeError;
use crate::store::{State, Transaction};

use super::session::{Context, Outbox, send, unknown};
use super::{heartbeat, report};

/// Before what was not taken is given again; up to twice that, so that all the sessions of a manager do not come at once.
const RETRY: Duration = Duration::from_millis(50);

/// Waits before another attempt; an error when no other attempt helps.
async fn again(error: &ProposeError) -> Result<(), Status> {
    match error {
        ProposeError::NotLeader { .. } | ProposeError::Lost => {}
        // Somebody else writes the object as often as this does.
        ProposeError::Conflict(conflict) if conflict.is_stale() => {}
        ProposeError::Stopped => return Err(Status::unavailable(error.to_string())),
        ProposeError::Conflict(_) | ProposeError::TooLarge { .. } => return Err(Status::aborted(error.to_string())),
    }
    tokio::time::sleep(RETRY.mul_f64(1.0 + rand::random::<f64>())).await;
    Ok(())
}

/// Writes down what the node says of itself.
pub(super) async fn describe(
    context: &Context,
    node: NodeId,
    description: &NodeDescription,
    address: &str,
) -> Result<(), Status> {
    enum Refused {
        Unknown,
        Propose(ProposeError),
    }
    impl From<ProposeError> for Refused {
        fn from(error: ProposeError) -> Self {
            Self::Propose(error)
        }
    }
    let make =
        |state: &State| heartbeat::registration(state, node, description, address, now()).ok_or(Refused::Unknown);
    loop {
        match context.proposer.write(make).await {
            Ok(_) => return Ok(()),
            Err(Refused::Unknown) => return Err(unknown(node)),
            Err(Refused::Propose(error)) => again(&error).await?,
        }
    }
}

/// Writes each newer description of the node; those in between are skipped.
pub(super) async fn descriptions(
    context: &Context,
    node: NodeId,
    address: &str,
    mut newest: watch::Receiver<NodeDescription>,
) -> Result<(), Status> {
    while newest.changed().await.is_ok() {
        let description = newest.borrow_and_update().clone();
        describe(context, node, &description, address).await?;
    }
    // The stream is read no more; whoever read it says why.
    std::future::pending().await
}

/// Writes what the agent reports and says so once it is safe.
pub(super) struct Reports<'a> {
    pub context: &'a Context,
    pub node: NodeId,
    pub waiting: mpsc::Receiver<pb::StatusBatch>,
    pub outbox: &'a Outbox,
}

impl Reports<'_> {
    pub async fn write(mut self) -> Result<(), Status> {
        while let Some(batch) = self.waiting.recv().await {
            let mut sequence = batch.sequence;
            let mut all = batch;
            // Reports that came meanwhile go with it: one acknowledgement of the newest is one of all before.
            while let Ok(next) = self.waiting.try_recv() {
                sequence = sequence.max(next.sequence);
                all.reports.extend(next.reports);
            }
            let (transactions, malformed) = report::transactions(self.node, all, now());
            for (task, error) in malformed {
                tracing::warn!(node = %self.node, task, %error, "a report is not well formed");
            }
            let written = transactions.into_iter().map(|transaction| self.surely(transaction));
            for outcome in join_all(written).await {
                outcome?;
            }
            send(self.outbox, ToAgent::StatusAck(pb::StatusAck { sequence })).await?;
        }
        Ok(())
    }

    async fn surely(&self, transaction: Transaction) -> Result<(), Status> {
        while let Err(error) = self.context.proposer.propose(transaction.clone()).await {
            again(&error).await?;
        }
        Ok(())
    }
}
