//! `berth task ls`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use super::{FILTERS, matching};
use crate::cli::Context;
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Outcome, listing, terminal};
use crate::view::task;

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
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let shown = world.tasks.values().filter(|task| args.all || !task.status.state.is_terminal());
    let tasks = matching(&world, shown, &filters);
    terminal::done(listing::list(&task::rows(tasks.into_iter(), &world, now()), args.list.look())?)
}
