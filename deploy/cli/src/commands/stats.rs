//! `berth stats`.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::state::TaskState;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve::{self, Target};
use crate::client::world::World;
use crate::ui::{Failure, Format, Look, Outcome, listing, terminal};
use crate::view::stats::StatsRow;

/// Between two samples of the same task.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same for a single look.
const ONE_LOOK: Duration = Duration::from_millis(500);

/// Flags of `stats`.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Tasks or services [default: every running task of this node]
    #[arg(value_name = "TASK|SERVICE")]
    targets: Vec<String>,
    /// Show one look and end
    #[arg(long)]
    no_stream: bool,
    /// Print as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
}

/// Samples by task: the last one and the one before.
type Samples = BTreeMap<String, (pb::StatsSample, Option<pb::StatsSample>)>;

/// Shows what tasks use, until interrupted.
pub async fn run(args: StatsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let task_ids = if args.targets.is_empty() {
        Vec::new()
    } else {
        let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
        named(&world, &args.targets)?
    };
    let look = Look { format: args.format, quiet: false, no_trunc: args.no_trunc };
    let interval = if args.no_stream { ONE_LOOK } else { INTERVAL };
    let request = pb::StatsRequest { task_ids, interval: interval.as_nanos() as u64 };
    let answer = client.node().stats(request).await;
    let mut stream = answer.map_err(|status| refused("cannot read statistics", &status))?.into_inner();
    let mut samples = Samples::new();
    // Tasks come one after the other: draw a little after the round has begun. A single look needs two rounds for the cpu.
    let mut tick = tokio::time::interval(interval);
    let rounds_needed = if args.no_stream { 2 } else { 0 };
    let mut rounds = 0;
    tick.tick().await;
    loop {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Ok(0),
            // tonic's stream keeps its state between polls: nothing received is lost.
            sample = stream.message() => match sample.map_err(|status| refused("cannot read statistics", &status))? {
                Some(sample) => remember(&mut samples, sample),
                None => return show(&samples, look, false),
            },
            _ = tick.tick() => {
                rounds += 1;
                if rounds_needed == 0 {
                    show(&samples, look, std::io::stdout().is_terminal())?;
                } else if rounds > rounds_needed || rounds == rounds_needed && samples.values().all(|(_, before)| before.is_some()) {
                    return show(&samples, look, false);
                }
            }
        }
    }
}

fn remember(samples: &mut Samples, sample: pb::StatsSample) {
    let before = samples.remove(&sample.task_id).map(|(last, _)| last);
    samples.insert(sample.task_id.clone(), (sample, before));
}

fn show(samples: &Samples, look: Look, redraw: bool) -> Outcome {
    let newest = samples.values().map(|(sample, _)| sample.at).max().unwrap_or_default();
    // A task that no longer reports has ended.
    let fresh = samples.values().filter(|(sample, _)| newest - sample.at < 5_000_000_000);
    let mut rows: Vec<StatsRow> = fresh.map(|(sample, before)| StatsRow::new(sample, before.as_ref())).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let text = listing::list(&rows, look)?;
    terminal::done(if redraw { format!("\u{1b}[H\u{1b}[2J{text}") } else { text })
}

fn named(world: &World, words: &[String]) -> Result<Vec<String>, Failure> {
    let mut ids = Vec::new();
    for word in words {
        match resolve::either(world, word)? {
            Target::Task(task) => ids.push(task.id.to_string()),
            Target::Service(service) => {
                let running = world.tasks_of(service.id).filter(|task| task.status.state == TaskState::Running);
                ids.extend(running.map(|task| task.id.to_string()));
            }
        }
    }
    if ids.is_empty() {
        return Err(Failure::new("no task of that service is running"));
    }
    Ok(ids)
}
