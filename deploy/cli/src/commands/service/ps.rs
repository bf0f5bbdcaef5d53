//! `berth service ps`.

use clap::Args;

use crate::cli::Context;
use crate::client::resolve;
use crate::commands::task::TaskList;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, terminal};
use crate::view::service::scaled_by_load;

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
    let list = TaskList::open(&args.list, context).await?;
    let mut tasks = Vec::new();
    for word in &args.services {
        let service = resolve::service(&list.world, word)?;
        scaled_by_load(service).into_iter().for_each(terminal::say);
        tasks.extend(list.world.tasks_of(service.id));
    }
    list.show(tasks.into_iter())
}
