//! `berth task ls`.

use clap::Args;

use super::TaskList;
use crate::cli::Context;
use crate::flags::common::ListFlags;
use crate::ui::Outcome;

/// Flags of `task ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Also tasks that have ended
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the tasks.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let list = TaskList::open(&args.list, context).await?;
    list.show(list.world.tasks.values().filter(|task| args.all || !task.status.state.is_terminal()))
}
