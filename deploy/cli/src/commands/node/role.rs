//! `berth node promote`, `demote`, and `drain`: changes of a node that take a while, with what they wait for.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::pb::ObjectKind;
use berth_proto::state::{Availability, NodeRole, NodeState};
use clap::Args;
use tokio::time::Instant;

use super::update::amend;
use crate::cli::Context;
use crate::client::Client;
use crate::client::resolve::short_task_name;
use crate::client::world::World;
use crate::flags::common::WaitFlags;
use crate::flags::value::parse_duration;
use crate::ui::progress::{Board, Line, Mark};
use crate::ui::{Failure, Outcome, terminal};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Tasks that are named while they are waited for.
const NAMED: usize = 4;
const KINDS: [ObjectKind; 3] = [ObjectKind::Node, ObjectKind::Task, ObjectKind::Service];

/// Nodes to change, and whether to wait.
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// Nodes, by host name or id; `self` is the one that answers
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Flags of `node drain`.
#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    of: RoleArgs,
    /// Say what is in the way and end with an error when tasks are left after this time; the node stays drained
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    deadline: Option<Duration>,
}

/// Makes nodes managers, or workers.
pub async fn set_role(args: RoleArgs, role: NodeRole, context: &Context) -> Outcome {
    let client = context.connect().await?;
    for word in &args.nodes {
        let node = amend(&client, word, |spec| spec.role = role).await?;
        if !args.wait.detach {
            let step = |world: &World| role_step(world, node, role);
            watch(&client, word, node, args.wait.no_progress, args.wait.timeout, step).await?;
        }
        terminal::print_line(word)?;
    }
    Ok(0)
}

/// Gives the tasks of nodes away and waits until they have none.
pub async fn drain(args: DrainArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut drained = Vec::new();
    for word in &args.of.nodes {
        drained.push((word, amend(&client, word, |spec| spec.availability = Availability::Drain).await?));
    }
    let wait = &args.of.wait;
    for (word, node) in drained {
        if !wait.detach {
            let patience = args.deadline.unwrap_or(wait.timeout);
            watch(&client, word, node, wait.no_progress, patience, |world| drain_step(world, node)).await?;
        }
        terminal::print_line(word)?;
    }
    Ok(0)
}

/// How far a change is.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Done(String),
    Busy(String),
}

fn role_step(world: &World, node: NodeId, role: NodeRole) -> Step {
    let Some(node) = world.nodes.get(&node) else { return Step::Busy("the node is gone".to_owned()) };
    let takes_part = node.manager.as_ref().is_some_and(|manager| manager.reachable);
    match role {
        NodeRole::Manager if takes_part => Step::Done("takes part as a manager".to_owned()),
        NodeRole::Manager if node.status.state != NodeState::Ready => {
            Step::Busy(format!("the node is {}", node.status.state))
        }
        NodeRole::Manager => Step::Busy("gets a certificate and the state".to_owned()),
        NodeRole::Worker if node.manager.is_none() => Step::Done("is a worker".to_owned()),
        NodeRole::Worker => Step::Busy("leaves the managers".to_owned()),
    }
}

fn drain_step(world: &World, node: NodeId) -> Step {
    let left: Vec<_> =
        world.tasks.values().filter(|task| task.node == Some(node) && !task.status.state.is_terminal()).collect();
    if left.is_empty() {
        return Step::Done("has no tasks".to_owned());
    }
    // What holds each task up, the same reasons together.
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for task in &left {
        let successor = world.tasks.values().filter(|other| other.service == task.service && other.slot == task.slot);
        let waiting = successor
            .filter(|other| other.node != Some(node) && !other.status.state.is_terminal())
            .max_by_key(|other| other.meta.created_at);
        let reason = match waiting {
            Some(other) if other.node.is_none() && !other.status.message.is_empty() => {
                format!("no place elsewhere: {}", other.status.message)
            }
            Some(other) if other.desired.wants_work() => format!("the new task is {}", other.status.state),
            _ if task.desired.wants_work() => "its turn comes".to_owned(),
            _ => "is stopping".to_owned(),
        };
        reasons.entry(reason).or_default().push(short_task_name(world, task));
    }
    let told = reasons.into_iter().map(|(reason, names)| {
        let more = if names.len() > NAMED { ", …" } else { "" };
        format!("{}{more} ({reason})", names[..names.len().min(NAMED)].join(", "))
    });
    Step::Busy(format!("{} tasks left: {}", left.len(), told.collect::<Vec<_>>().join("; ")))
}

/// Looks until the step is done.
async fn watch(
    client: &Client,
    word: &str,
    node: NodeId,
    silent: bool,
    patience: Duration,
    step: impl Fn(&World) -> Step,
) -> Result<(), Failure> {
    let client = client.stale(false);
    let deadline = Instant::now() + patience;
    let mut board = Board::new(silent);
    loop {
        let world = client.world(&KINDS).await?;
        let name = world.nodes.get(&node).map_or_else(|| word.to_owned(), |node: &Node| world.node_name(node.id));
        match step(&world) {
            Step::Done(words) => {
                board.set(&name, Line::new(Mark::Done, words));
                return Ok(());
            }
            Step::Busy(words) if Instant::now() >= deadline => {
                board.set(&name, Line::new(Mark::Failed, words.as_str()));
                board.close();
                let failure = Failure::new(format!("node {name} is not there yet after {patience:?}: {words}"));
                return Err(failure.hint("it goes on; run the command again to wait for it"));
            }
            Step::Busy(words) => board.set(&name, Line::new(Mark::Busy, words)),
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {
                board.close();
                return Err(Failure::new("interrupted").hint("the change goes on"));
            }
            // Cancel-safe: nothing is lost but time.
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::state::TaskState;
    use serde_json::json;

    use crate::fixture::{add_service, add_task, world};

    #[test]
    fn a_drain_ends_with_the_last_task_and_says_what_is_left() {
        let mut world = world();
        let node = *world.nodes.keys().next().expect("a node");
        let web = add_service(&mut world, 20, "web", json!({}));
        add_task(&mut world, web, 21, 1, TaskState::Running, 1000);
        add_task(&mut world, web, 22, 2, TaskState::Failed, 1000);
        assert_eq!(drain_step(&world, node), Step::Busy("1 tasks left: web.1 (its turn comes)".to_owned()));
        world.tasks.clear();
        assert_eq!(drain_step(&world, node), Step::Done("has no tasks".to_owned()));
    }

    #[test]
    fn a_promotion_ends_when_the_node_takes_part() {
        let mut world = world();
        let node = *world.nodes.keys().next().expect("a node");
        assert!(matches!(role_step(&world, node, NodeRole::Manager), Step::Done(_)));
        assert!(matches!(role_step(&world, node, NodeRole::Worker), Step::Busy(_)));
        world.nodes.values_mut().for_each(|node| node.manager = None);
        assert!(matches!(role_step(&world, node, NodeRole::Worker), Step::Done(_)));
    }
}
