//! `berth node ls`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::node::NodeRow;

const FILTERS: [&str; 6] = ["id", "name", "role", "availability", "label", "node.label"];

/// Flags of `node ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the nodes.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let own = client.info().await?.node_id;
    let world = client.world(&[ObjectKind::Node]).await?;
    let matching = world.nodes.values().filter(|node| {
        let id = node.id.to_string();
        filters.allow("id", |wanted| id.starts_with(wanted))
            && filters.allow("name", |wanted| world.node_name(node.id).starts_with(wanted))
            && filters.allow("role", |wanted| node.spec.role.as_str() == wanted)
            && filters.allow("availability", |wanted| node.spec.availability.as_str() == wanted)
            && filters.allow_labels("label", &node.spec.labels)
            && filters.allow_labels("node.label", &node.spec.labels)
    });
    let mut rows: Vec<NodeRow> = matching.map(|node| NodeRow::new(node, &own)).collect();
    rows.sort_by(|a, b| (&a.hostname, &a.id).cmp(&(&b.hostname, &b.id)));
    terminal::done(listing::list(&rows, args.list.look())?)
}
