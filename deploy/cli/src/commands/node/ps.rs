//! `berth node ps`.

use clap::Args;

use super::inspect::find;
use crate::cli::Context;
use crate::commands::task::TaskList;
use crate::flags::common::ListFlags;
use crate::ui::Outcome;

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
    let list = TaskList::open(&args.list, context).await?;
    let mut tasks = Vec::new();
    for word in &args.nodes {
        let node = find(&list.client, &list.world, word).await?.id;
        tasks.extend(list.world.tasks.values().filter(|task| task.node == Some(node)));
    }
    list.show(tasks.into_iter())
}
