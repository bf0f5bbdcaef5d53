//! `berth stack ps`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use super::must_exist;
use crate::cli::Context;
use crate::commands::task::{FILTERS, matching};
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Outcome, listing, terminal};
use crate::view::task;

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
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    must_exist(&world, &args.stack)?;
    let of_stack = world.tasks.values().filter(|task| {
        let stack = world.services.get(&task.service).and_then(|service| service.spec.stack.as_ref());
        stack.is_some_and(|stack| *stack.as_str() == *args.stack)
    });
    let tasks = matching(&world, of_stack, &filters);
    terminal::done(listing::list(&task::rows(tasks.into_iter(), &world, now()), args.list.look())?)
}
