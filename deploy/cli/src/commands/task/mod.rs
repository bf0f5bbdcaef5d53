//! `berth task …`.

mod explain;
mod inspect;
mod ls;

use berth_proto::object::Task;
use berth_proto::pb::ObjectKind;
use clap::Subcommand;

use crate::cli::Context;
use crate::client::Client;
use crate::client::resolve::short_task_name;
use crate::client::world::World;
use crate::flags::common::{Filters, ListFlags};
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

/// Filters that lists of tasks know.
const FILTERS: [&str; 7] = ["id", "name", "service", "stack", "node", "state", "desired-state"];

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
        let filters = flags.filters(&FILTERS)?;
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
        let id = task.id.to_string();
        let stack = world.services.get(&task.service).and_then(|service| service.spec.stack.as_ref());
        let node = task.node.map(|node| (node.to_string(), world.node_name(node))).unwrap_or_default();
        let service = task.service.to_string();
        filters.allow("id", |wanted| id.starts_with(wanted))
            && filters.allow("name", |wanted| short_task_name(world, task).starts_with(wanted) || task.name() == wanted)
            && filters.allow("service", |wanted| *task.service_name == *wanted || service.starts_with(wanted))
            && filters.allow("stack", |wanted| stack.is_some_and(|stack| stack.as_str() == wanted))
            && filters.allow("node", |wanted| node.1 == wanted || (!wanted.is_empty() && node.0.starts_with(wanted)))
            && filters.allow("state", |wanted| task.status.state.as_str() == wanted)
            && filters.allow("desired-state", |wanted| task.desired.as_str() == wanted)
    };
    tasks.filter(fits).collect()
}
