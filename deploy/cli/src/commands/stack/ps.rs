//! `berth stack ps`.

use clap::Args;

use super::must_exist;
use crate::cli::Context;
use crate::commands::task::TaskList;
use crate::flags::common::ListFlags;
use crate::ui::Outcome;

/// Flags of `stack ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Stack
    stack: String,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the tasks of a stack.
pub async fn run(args: PsArgs, context: &Context) -> Outcome {
    let list = TaskList::open(&args.list, context).await?;
    must_exist(&list.world, &args.stack)?;
    list.show(list.world.tasks.values().filter(|task| {
        let stack = list.world.services.get(&task.service).and_then(|service| service.spec.stack.as_ref());
        stack.is_some_and(|stack| *stack.as_str() == *args.stack)
    }))
}
