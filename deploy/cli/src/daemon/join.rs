//! A machine's first start with `--join`: asks the managers for a certificate until it has one.

use berth_manager::identity::Joined;
use berth_manager::identity::join::join_once_answered;
use berth_manager::identity::token::TokenError;
use tokio_util::sync::CancellationToken;

use super::failed;
use super::node::Node;
use crate::ui::Failure;

/// Joins; `false` when the node is to stop before.
pub async fn join(node: &Node, stop: &CancellationToken) -> Result<bool, Failure> {
    let state = node.args.data_dir.join("manager/raft.redb");
    if state.exists() {
        let failure = Failure::new(format!("{} holds a cluster of its own", node.args.data_dir.display()));
        return Err(failure.hint("start without --join to go on with it, or take it away with `berth reset`"));
    }
    let token = node.args.token.as_deref().expect("clap asks for it with --join");
    let token = token.parse().map_err(|error: TokenError| failed("cannot use the join token", &error))?;
    let joined = tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = stop.cancelled() => return Ok(false),
        // What is dropped is a node that never came.
        joined = join_once_answered(&node.args.join, &token) => joined,
    };
    let Joined { identity, .. } = joined.map_err(|error| failed("cannot join the cluster", &error))?;
    tracing::info!(node = %identity.node, cluster = %identity.cluster, role = identity.role.as_str(), "joined");
    node.adopt(identity)?;
    Ok(true)
}
