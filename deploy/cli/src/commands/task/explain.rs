//! `berth task explain`: what a task is doing and why, in sentences.

use berth_proto::object::Task;
use berth_proto::pb::{self, ObjectKind};
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;
use clap::Args;

use super::inspect;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve;
use crate::client::world::World;
use crate::rollout::wait::now;
use crate::ui::human::{ago, duration};
use crate::ui::{Outcome, terminal};
use crate::view::foresight;
use crate::view::health::HealthLog;

/// Flags of `task explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Task, by id, beginning of an id, or SERVICE.SLOT
    task: String,
}

/// Explains a task.
pub async fn run(args: ExplainArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let task = resolve::task(&world, &args.task)?;
    let health = inspect::health(&client, task).await;
    let placement = if task.status.state.is_terminal() {
        pb::TaskExplainResponse::default()
    } else {
        let request = pb::TaskExplainRequest { name_or_id: task.id.to_string() };
        let answer = client.control().task_explain(request).await;
        answer.map_err(|status| refused("cannot explain the task", &status))?.into_inner()
    };
    terminal::done(explain(&world, task, health.as_ref(), &placement, now()))
}

/// The sentences. Pure.
fn explain(
    world: &World,
    task: &Task,
    health: Option<&HealthLog>,
    placement: &pb::TaskExplainResponse,
    now: Timestamp,
) -> String {
    let mut lines = vec![
        format!(
            "{} ({}) is {} and should be {}.",
            resolve::short_task_name(world, task),
            task.id,
            task.status.state,
            task.desired
        ),
        format!("It has been so since {} ({}).", task.status.at, ago(now.since(task.status.at))),
    ];
    lines.push(match task.node {
        Some(node) => format!("It was placed on node {}.", world.node_name(node)),
        None => "It is not placed on a node yet.".to_owned(),
    });
    lines.extend(foresight::explanation(placement, task.status.state >= TaskState::Assigned));
    lines.push(meaning(task.status.state).to_owned());
    if !task.status.message.is_empty() {
        lines.push(format!("Status: {}.", task.status.message.trim_end_matches('.')));
    }
    if !task.status.error.is_empty() {
        lines.push(format!("Error: {}", task.status.error));
    }
    lines.extend(health.map(HealthLog::sentence));
    if let Some(container) = &task.status.container {
        if let Some(code) = container.exit_code {
            let memory = if container.oom_killed { "; the kernel ended it because it was out of memory" } else { "" };
            lines.push(format!("Its process exited with code {code}{memory}."));
        }
        if container.pid > 0 {
            lines.push(format!("Its process has pid {} on the node.", container.pid));
        }
    }
    if let Some(start_at) = task.restarts.start_at.filter(|at| *at > now) {
        lines
            .push(format!("It waits to start until {start_at} (in {}).", duration(start_at.since(now)).to_lowercase()));
    }
    if task.restarts.total > 0 {
        let times = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (total, in_row) = (task.restarts.total, u64::from(task.restarts.failures_in_row));
        let (total, in_row) = (times(total, "time"), times(in_row, "failure"));
        lines.push(format!("Its slot was restarted {total}, {in_row} in a row."));
    }
    lines.extend(history(world, task, now));
    lines.join("\n") + "\n"
}

fn history(world: &World, task: &Task, now: Timestamp) -> Vec<String> {
    let mut earlier: Vec<&Task> = world
        .tasks_of(task.service)
        .filter(|other| other.slot == task.slot && other.id != task.id && other.meta.created_at <= task.meta.created_at)
        .collect();
    if earlier.is_empty() {
        return Vec::new();
    }
    earlier.sort_by_key(|task| std::cmp::Reverse(task.meta.created_at));
    let mut lines = vec!["Before it in the same slot:".to_owned()];
    lines.extend(earlier.iter().take(5).map(|task| {
        let why = if task.status.error.is_empty() { String::new() } else { format!(": {}", task.status.error) };
        format!("  {} {} {}{why}", task.id, task.status.state, ago(now.since(task.status.at)).to_lowercase())
    }));
    lines
}

fn meaning(state: TaskState) -> &'static str {
    match state {
        TaskState::New => "It waits for addresses and ports.",
        TaskState::Pending => "It waits for a node that it fits on.",
        TaskState::Assigned => "Its node has been told of it.",
        TaskState::Accepted => "Its node has taken it on.",
        TaskState::Preparing => "Its node fetches the image and prepares volumes and networks.",
        TaskState::Ready => "It is prepared and waits until it is wanted running.",
        TaskState::Starting => "Its container starts, or its first health check has not passed yet.",
        TaskState::Running => "Its container runs.",
        TaskState::Complete => "Its container ended by itself, well.",
        TaskState::Shutdown => "It was stopped because it was asked to.",
        TaskState::Failed => "Its container ended with an error, or its health check failed.",
        TaskState::Rejected => "It could not be started at all.",
        TaskState::Remove => "Its record goes once its node has ended it.",
        TaskState::Orphaned => "Its node was lost.",
    }
}
