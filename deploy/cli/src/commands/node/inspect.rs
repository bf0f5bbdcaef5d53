//! `berth node inspect`.

use berth_proto::object::Node;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::world::World;
use crate::client::{Client, resolve};
use crate::flags::common::InspectFlags;
use crate::ui::{Failure, Outcome, listing, terminal};

/// Flags of `node inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Nodes, by host name or id; `self` is the one that answers
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
}

/// Prints the nodes in full.
pub async fn run(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Node]).await?;
    let mut found = Vec::new();
    for word in &args.nodes {
        found.push(find(&client, &world, word).await?);
    }
    terminal::done(listing::data(&found, args.inspect.format)?)
}

/// A node by a word, where `self` is the node that answers.
pub(super) async fn find<'w>(client: &Client, world: &'w World, word: &str) -> Result<&'w Node, Failure> {
    if word != "self" {
        return resolve::node(world, word);
    }
    resolve::node(world, &client.info().await?.node_id)
}
