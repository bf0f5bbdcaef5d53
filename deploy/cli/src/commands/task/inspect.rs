//! `berth task inspect`.

use berth_proto::object::Task;
use berth_proto::pb::{self, ObjectKind};
use berth_proto::spec::TaskSpec;
use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::world::World;
use crate::client::{Client, resolve};
use crate::flags::common::InspectFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::health::HealthLog;

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
    /// Null without a health check, and for a task that its node has forgotten.
    health: Option<HealthLog>,
    spec: Option<&'w TaskSpec>,
}

/// Prints the tasks in full.
pub async fn run(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let tasks = args.tasks.iter().map(|word| resolve::task(&world, word)).collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::with_capacity(tasks.len());
    for task in tasks {
        found.push(whole(&world, task, health(&client, task).await));
    }
    terminal::done(listing::data(&found, args.inspect.format)?)
}

/// The last probes, from the task's node: the cluster keeps only the verdict. What cannot be had is left out.
pub async fn health(client: &Client, task: &Task) -> Option<HealthLog> {
    let answer = client.node().task_health(pb::TaskHealthRequest { task_id: task.id.to_string() }).await;
    match answer {
        Ok(answer) => HealthLog::new(answer.into_inner()),
        Err(status) if status.code() == tonic::Code::NotFound => None,
        Err(status) => {
            terminal::say(refused("cannot read the last health probes", &status).to_string());
            None
        }
    }
}

fn whole<'w>(world: &'w World, task: &'w Task, health: Option<HealthLog>) -> Whole<'w> {
    let spec = world.services.get(&task.service).and_then(|service| service.spec_at(task.spec_version));
    Whole {
        name: resolve::short_task_name(world, task),
        node_name: task.node.map(|node| world.node_name(node)),
        task,
        health,
        spec: spec.map(|spec| &spec.task),
    }
}
