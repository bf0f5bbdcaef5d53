//! `berth node ps`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use super::inspect::find;
use crate::cli::Context;
use crate::commands::task::{FILTERS, matching};
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Outcome, listing, terminal};
use crate::view::task;

/// Flags of `node ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Nodes, by host name or id; `self` is the one that answers
    #[arg(default_value = "self", value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the tasks on the nodes.
pub async fn run(args: PsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let mut tasks = Vec::new();
    for word in &args.nodes {
        let node = find(&client, &world, word).await?.id;
        tasks.extend(matching(&world, world.tasks.values().filter(|task| task.node == Some(node)), &filters));
    }
    terminal::done(listing::list(&task::rows(tasks.into_iter(), &world, now()), args.list.look())?)
}
