//! `berth node rm`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::{Outcome, terminal};

/// Flags of `node rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Nodes, by host name or id
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    /// Also a node that is not down
    #[arg(short, long)]
    force: bool,
}

/// Removes nodes from the cluster.
pub async fn run(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    for word in &args.nodes {
        let request = pb::NodeRemoveRequest { id: word.clone(), force: args.force, version: 0 };
        let what = format!("cannot remove node {word}");
        client.control().node_remove(request).await.map_err(|status| refused(&what, &status))?;
        terminal::print_line(word)?;
    }
    Ok(0)
}
