//! `berth task inspect`.

use berth_proto::object::Task;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::TaskSpec;
use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::client::resolve;
use crate::client::world::World;
use crate::flags::common::InspectFlags;
use crate::ui::{Outcome, listing, terminal};

/// Flags of `task inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Tasks, by id, beginning of an id, or SERVICE.SLOT
    #[arg(required = true, value_name = "TASK")]
    tasks: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
}

/// A task with the spec that it runs: the cluster keeps the spec once, in the service.
#[derive(Serialize)]
struct Whole<'w> {
    name: String,
    node_name: Option<String>,
    #[serde(flatten)]
    task: &'w Task,
    spec: Option<&'w TaskSpec>,
}

/// Prints the tasks in full.
pub async fn run(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let whole = |word: &String| resolve::task(&world, word).map(|task| whole(&world, task));
    let found = args.tasks.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}

fn whole<'w>(world: &'w World, task: &'w Task) -> Whole<'w> {
    let spec = world.services.get(&task.service).and_then(|service| service.spec_at(task.spec_version));
    Whole {
        name: resolve::short_task_name(world, task),
        node_name: task.node.map(|node| world.node_name(node)),
        task,
        spec: spec.map(|spec| &spec.task),
    }
}
