//! `berth node ls`.

use berth_proto::filter;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::node::NodeRow;

/// Flags of `node ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the nodes.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters_of(&filter::NODE)?;
    let client = context.connect().await?;
    let own = client.info().await?.node_id;
    let world = client.world(&[ObjectKind::Node]).await?;
    let matching = world.nodes.values().filter(|node| filters.node(node));
    let mut rows: Vec<NodeRow> = matching.map(|node| NodeRow::new(node, &own)).collect();
    rows.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    terminal::done(listing::list(&rows, args.list.look())?)
}
