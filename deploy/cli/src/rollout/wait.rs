//! Watches services until each is up or has failed, draws how they do, and ends with the reasons.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::name::StackName;
use berth_proto::object::Service;
use berth_proto::pb::ObjectKind;
use berth_proto::time::Timestamp;
use tokio::time::Instant;

use super::assess::{Assessment, Goal, Verdict, assess};
use crate::client::Client;
use crate::client::refusal::refused;
use crate::client::world::{Heard, World};
use crate::flags::common::WaitFlags;
use crate::ui::Failure;
use crate::ui::progress::{Board, Line, Mark};

const KINDS: [ObjectKind; 3] = [ObjectKind::Service, ObjectKind::Task, ObjectKind::Node];

/// The time now.
pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// The tasks that are there before a change is asked for. Their ends are not the change's fault.
pub async fn tasks_before(client: &Client) -> Result<BTreeSet<TaskId>, Failure> {
    Ok(client.stale(false).world(&[ObjectKind::Task]).await?.tasks.into_keys().collect())
}

/// Waits for these services, unless `flags` say not to.
pub async fn until_up(
    client: &Client,
    services: &[Service],
    before: BTreeSet<TaskId>,
    flags: &WaitFlags,
) -> Result<(), Failure> {
    let since = now();
    let goals = services.iter().map(|service| Goal::new(service, before.clone(), since)).collect();
    wait(client, goals, flags).await
}

/// [`until_up`] for a rollback.
pub async fn until_rolled_back(
    client: &Client,
    service: &Service,
    before: BTreeSet<TaskId>,
    flags: &WaitFlags,
) -> Result<(), Failure> {
    wait(client, vec![Goal { rollback: true, ..Goal::new(service, before, now()) }], flags).await
}

/// Waits until every goal is met or lost.
async fn wait(client: &Client, goals: Vec<Goal>, flags: &WaitFlags) -> Result<(), Failure> {
    if flags.detach || goals.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + flags.timeout;
    let mut board = Board::new(flags.no_progress).with_names(goals.iter().map(|goal| goal.name.as_str()));
    let mut settled: Vec<Option<Assessment>> = vec![None; goals.len()];
    loop {
        let mut world = client.stale(false).world(&KINDS).await?;
        let mut events = client.watch(&KINDS, Some(world.index)).await?;
        loop {
            let wake = look(&world, &goals, &mut settled, &mut board);
            let Some(wake) = wake else {
                board.close();
                return conclude(&goals, &settled);
            };
            if Instant::now() >= deadline {
                board.close();
                return Err(late(&goals, &settled, &world, flags.timeout));
            }
            let pause = tokio::time::sleep_until(deadline.min(Instant::now() + wake));
            let event = tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => return Err(interrupted()),
                // A message that was received whole is never lost: tonic's stream keeps its state between polls.
                event = events.message() => event,
                () = pause => continue,
            };
            match event {
                Ok(Some(event)) => match world.hear(event)? {
                    Heard::Current => {}
                    Heard::Resync => break,
                },
                Ok(None) => break,
                Err(status) => return Err(refused("cannot watch the services", &status)),
            }
        }
    }
}

/// Assesses and draws every goal that is still open. `None` when none is; else how long until the next look.
fn look(world: &World, goals: &[Goal], settled: &mut [Option<Assessment>], board: &mut Board) -> Option<Duration> {
    let now = now();
    let mut wake: Option<Duration> = None;
    for (goal, settled) in goals.iter().zip(settled) {
        if settled.is_some() {
            continue;
        }
        let assessment = assess(world, goal, now);
        let mark = match &assessment.verdict {
            Verdict::Waiting(at) => {
                let pause = at.map_or(Duration::from_secs(1), |at| at.since(now)).max(Duration::from_millis(10));
                wake = Some(wake.map_or(pause, |wake| wake.min(pause)));
                Mark::Busy
            }
            Verdict::Up => Mark::Done,
            Verdict::Failed(_) => Mark::Failed,
        };
        let replicas = assessment.replicas;
        let amount = match (replicas.completed, replicas.total) {
            (Some(completed), Some(total)) => (completed, total),
            _ => (replicas.running, replicas.desired),
        };
        let (words, stage) = (assessment.words.clone(), Some(assessment.stage.clone()));
        board.set(&goal.name, Line { mark, words, stage, amount: Some(amount), bytes: false });
        if mark != Mark::Busy {
            *settled = Some(assessment);
        }
    }
    wake
}

fn conclude(goals: &[Goal], settled: &[Option<Assessment>]) -> Result<(), Failure> {
    let lost: Vec<(&Goal, &str)> = goals
        .iter()
        .zip(settled)
        .filter_map(|(goal, settled)| match settled.as_ref().map(|settled| &settled.verdict) {
            Some(Verdict::Failed(why)) => Some((goal, why.as_str())),
            _ => None,
        })
        .collect();
    match lost.as_slice() {
        [] => Ok(()),
        [(goal, why)] => {
            Err(Failure::new(format!("service {} did not come up: {why}", goal.name)).hint(look_at(&goal.name)))
        }
        several => {
            let failure = Failure::new(format!("{} of {} services did not come up", several.len(), goals.len()));
            let failure =
                several.iter().fold(failure, |failure, (goal, why)| failure.detail(format!("{}: {why}", goal.name)));
            Err(failure.hint(look_at(&several[0].0.name)))
        }
    }
}

fn look_at(name: &str) -> String {
    format!("see `berth service ps --no-trunc {name}` and `berth logs {name}`")
}

fn late(goals: &[Goal], settled: &[Option<Assessment>], world: &World, timeout: Duration) -> Failure {
    let open = goals.iter().zip(settled).filter(|(_, settled)| settled.is_none());
    let timeout = berth_proto::time::duration::format(timeout);
    let failure = Failure::new(format!("not up after {timeout}; Berth goes on trying"));
    open.fold(failure, |failure, (goal, _)| {
        failure.detail(format!("{}: {}", goal.name, assess(world, goal, now()).words))
    })
}

fn interrupted() -> Failure {
    Failure::new("interrupted while waiting; the change itself is made and goes on").exit_with(130)
}

/// Waits until nothing of these stacks is left but volumes: services, their tasks, networks, configs, secrets.
pub async fn until_gone(
    client: &Client,
    stacks: &[String],
    services: &[ServiceId],
    timeout: Duration,
) -> Result<(), Failure> {
    const KINDS: [ObjectKind; 5] =
        [ObjectKind::Service, ObjectKind::Task, ObjectKind::Network, ObjectKind::Config, ObjectKind::Secret];
    let deadline = Instant::now() + timeout;
    loop {
        let mut world = client.stale(false).world(&KINDS).await?;
        let mut events = client.watch(&KINDS, Some(world.index)).await?;
        while !is_gone(&world, stacks, services) {
            let event = tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => return Err(interrupted()),
                // A message that was received whole is never lost: tonic's stream keeps its state between polls.
                event = events.message() => event,
                () = tokio::time::sleep_until(deadline) => {
                    return Err(Failure::new("not everything has stopped in time; Berth goes on with it"));
                }
            };
            match event {
                Ok(Some(event)) => match world.hear(event)? {
                    Heard::Current => {}
                    Heard::Resync => break,
                },
                Ok(None) => break,
                Err(status) => return Err(refused("cannot watch the services", &status)),
            }
        }
        if is_gone(&world, stacks, services) {
            return Ok(());
        }
    }
}

fn is_gone(world: &World, stacks: &[String], services: &[ServiceId]) -> bool {
    let of_stack =
        |stack: &Option<StackName>| stack.as_ref().is_some_and(|of| stacks.iter().any(|name| **name == **of));
    let busy = |id: &ServiceId| world.tasks_of(*id).any(|task| !task.status.state.is_terminal());
    !services.iter().any(busy)
        && !world.services.values().any(|one| of_stack(&one.spec.stack))
        && !world.networks.values().any(|one| of_stack(&one.spec.stack))
        && !world.configs.values().any(|one| of_stack(&one.spec.stack))
        && !world.secrets.values().any(|one| of_stack(&one.spec.stack))
}
