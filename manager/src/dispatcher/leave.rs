//! A node that goes by itself: one step at a time, on whichever manager it asks. [`crate::api::node::leave`] decides.

use berth_proto::id::NodeId;
use berth_proto::pb;
use tonic::Status;

use super::session::{Context, catch_up};
use crate::api::node::{self, Leaving};
use crate::api::refusal::Refused;
use crate::clock;
use crate::store::{State, Transaction};

/// Does what can be done now. What is left, and that nothing is, is said of a state that shows everything acknowledged before.
pub(super) async fn leave(context: &Context, node: NodeId, now: bool) -> Result<pb::LeaveResponse, Status> {
    catch_up(context).await?;
    let mut step = Leaving::Gone;
    let make = |state: &State| {
        let mut tx = Transaction::new(clock::now(), format!("node {node}"));
        step = node::leave(state, &mut tx, node, now)?;
        Ok::<_, Refused>((!tx.is_empty()).then_some(tx))
    };
    context.proposer.write(make).await?;
    Ok(match step {
        Leaving::Gone => {
            tracing::info!(%node, "a node has left the cluster");
            pb::LeaveResponse { gone: true, tasks: Vec::new() }
        }
        Leaving::Moving(tasks) => pb::LeaveResponse { gone: false, tasks },
    })
}
