//! `berth task …`.

mod explain;
mod inspect;
mod ls;

use berth_proto::filter::{self, Filters};
use berth_proto::object::Task;
use berth_proto::pb::ObjectKind;
use clap::Subcommand;

use crate::cli::Context;
use crate::client::Client;
use crate::client::world::World;
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Failure, Outcome, listing, terminal};
use crate::view::task;

/// Commands on tasks.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// List tasks
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print tasks in full
    Inspect(inspect::InspectArgs),
    /// Say what a task is doing and why
    Explain(explain::ExplainArgs),
}

impl TaskCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(args) => ls::run(args, context).await,
            Self::Inspect(args) => inspect::run(args, context).await,
            Self::Explain(args) => explain::run(args, context).await,
        }
    }
}

/// What a list of tasks is made from: of all, of services, of a stack, of nodes.
pub struct TaskList<'f> {
    /// The connection.
    pub client: Client,
    /// Everything that the list speaks of, at one index.
    pub world: World,
    filters: Filters,
    flags: &'f ListFlags,
}

impl<'f> TaskList<'f> {
    /// Checks the flags and fetches the world.
    pub async fn open(flags: &'f ListFlags, context: &Context) -> Result<Self, Failure> {
        let filters = flags.filters_of(&filter::TASK)?;
        let client = context.connect().await?;
        let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
        Ok(Self { client, world, filters, flags })
    }

    /// Prints those of the tasks that match the filters.
    pub fn show<'w>(&'w self, tasks: impl Iterator<Item = &'w Task>) -> Outcome {
        let rows = task::rows(matching(&self.world, tasks, &self.filters).into_iter(), &self.world, now());
        terminal::done(listing::list(&rows, self.flags.look())?)
    }
}

/// The tasks that match.
fn matching<'w>(world: &World, tasks: impl Iterator<Item = &'w Task>, filters: &Filters) -> Vec<&'w Task> {
    let fits = |task: &&Task| {
        let stack = world.services.get(&task.service).and_then(|service| service.spec.stack.as_deref());
        filters.task(task, stack, |node| world.node_name(node))
    };
    tasks.filter(fits).collect()
}
