//! `berth service ps`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::resolve;
use crate::commands::task::{FILTERS, matching};
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Outcome, listing, terminal};
use crate::view::task;

/// Flags of `service ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Services, by name or id
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the tasks of the services.
pub async fn run(args: PsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let mut tasks = Vec::new();
    for word in &args.services {
        let service = resolve::service(&world, word)?;
        tasks.extend(matching(&world, world.tasks_of(service.id), &filters));
    }
    terminal::done(listing::list(&task::rows(tasks.into_iter(), &world, now()), args.list.look())?)
}
