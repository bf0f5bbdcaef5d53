//! The loop that keeps the group and the nodes' objects true. Runs on the leader only; [`super::decide`] decides.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::decide::{Plan, decide};
use crate::clock;
use crate::raft::{Members, ProposeError, Proposer};
use crate::store::{Event, Hub, Object, WatchError};

/// Between two looks although nothing was written: a manager that stops to answer is noticed within this.
const PERIOD: Duration = Duration::from_millis(500);
/// Before what was refused is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Events that come within this time are looked at together.
const SETTLE: Duration = Duration::from_millis(5);
/// They are looked at after this long at the latest.
const CEILING: Duration = Duration::from_millis(50);

/// Looks until `stop`.
pub async fn run(hub: Hub, proposer: Proposer, members: Members, stop: CancellationToken) {
    let (_, mut commits) = hub.subscribe();
    loop {
        // In this order: a node claims its place before it becomes a member.
        let view = members.view();
        let plan = decide(&commits.resync(), &view, clock::now());
        let outcome = tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // What was begun is Raft's to finish; the next leader looks again.
            outcome = carry_out(plan, &proposer, &members) => outcome,
        };
        let wait = match outcome {
            Outcome::Done => PERIOD,
            Outcome::Overtaken => SETTLE,
            Outcome::Refused => RETRY,
        };
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // Cancel-safe: what it forgets is in the next state.
            woken = commits.wake(concerns_members, SETTLE, CEILING), if outcome == Outcome::Done => match woken {
                Err(WatchError::Closed) => return,
                Ok(_) | Err(WatchError::Lagged { .. }) => {}
            },
            // Cancel-safe: nothing is lost but time.
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What is written of a node all the time says nothing of its manager.
fn concerns_members(event: &Event) -> bool {
    match (event.before(), event.after()) {
        (Some(Object::Node(old)), Some(Object::Node(new))) => old.manager != new.manager || old.spec != new.spec,
        (_, Some(Object::Node(_))) | (Some(Object::Node(_)), None) => true,
        _ => false,
    }
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Somebody else wrote meanwhile.
    Overtaken,
    /// Another time.
    Refused,
}

async fn carry_out(plan: Plan, proposer: &Proposer, members: &Members) -> Outcome {
    let mut outcome = Outcome::Done;
    if !plan.nodes.is_empty()
        && let Err(error) = proposer.propose(plan.nodes).await
    {
        tracing::debug!(%error, "what nodes say of their managers was not taken; looking again");
        // All nodes' heartbeats are noted anew when another manager begins to lead.
        let stale = matches!(&error, ProposeError::Conflict(conflict) if conflict.is_stale());
        outcome = if stale { Outcome::Overtaken } else { Outcome::Refused };
    }
    if !plan.successors.is_empty() {
        match members.hand_over(&plan.successors).await {
            Ok(()) => tracing::info!("handed the lead over"),
            Err(error) => {
                tracing::warn!(%error, "cannot hand the lead over");
                outcome = Outcome::Refused;
            }
        }
    } else if let Some(id) = plan.go {
        let reachable = members.view().reachable;
        match members.let_go(id, &reachable).await {
            Ok(()) => tracing::info!(raft_id = id, "let a manager go"),
            Err(error) => {
                tracing::warn!(raft_id = id, %error, "cannot let a manager go");
                outcome = Outcome::Refused;
            }
        }
    }
    outcome
}
