//! A machine's first start with `--join`: asks the managers for a certificate until it has one.

use std::time::Duration;

use berth_manager::identity::join::join as ask;
use berth_manager::identity::token::TokenError;
use berth_manager::identity::{JoinError, Joined};
use tokio_util::sync::CancellationToken;

use super::failed;
use super::node::Node;
use crate::ui::Failure;

/// Before the managers are asked again when none of them answered; doubles up to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Joins; `false` when the node is to stop before.
pub async fn join(node: &Node, stop: &CancellationToken) -> Result<bool, Failure> {
    let state = node.args.data_dir.join("manager/raft.redb");
    if state.exists() {
        let failure = Failure::new(format!("{} holds a cluster of its own", node.args.data_dir.display()));
        return Err(failure.hint("start without --join to go on with it, or take it away with `berth reset`"));
    }
    let token = node.args.token.as_deref().expect("clap asks for it with --join");
    let token = token.parse().map_err(|error: TokenError| failed("cannot use the join token", &error))?;
    let mut wait = WAITS.0;
    loop {
        let joined = tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled. What the managers made of a request that is dropped is a node that never
            // came, which `berth node rm` removes.
            () = stop.cancelled() => return Ok(false),
            joined = ask(&node.args.join, &token) => joined,
        };
        match joined {
            Ok(Joined { identity, .. }) => {
                tracing::info!(node = %identity.node, cluster = %identity.cluster, role = identity.role.as_str(), "joined");
                node.adopt(identity)?;
                return Ok(true);
            }
            Err(error @ JoinError::NotReached { .. }) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot join yet, trying again in {wait:?}");
            }
            Err(error) => return Err(failed("cannot join the cluster", &error)),
        }
        tokio::select! {
            biased;
            // Cancel-safe, both.
            () = stop.cancelled() => return Ok(false),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(WAITS.1),
        }
    }
}
