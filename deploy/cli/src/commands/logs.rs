//! `berth logs` and `berth service logs`.

use std::io::IsTerminal;

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve::{self, Target};
use crate::client::world::World;
use crate::flags::not_yet::{Never, NotYet};
use crate::flags::when::parse_when;
use crate::rollout::wait::now;
use crate::ui::{Failure, Outcome};
use crate::view::log::{Look, Printer, Record};

/// Flags of `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Task (id or SERVICE.SLOT), or service
    #[arg(value_name = "TASK|SERVICE")]
    target: String,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each task: a number, or all
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_tail, default_value = "all")]
    tail: Tail,
    /// Only since then: 10m, a date, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only until then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// Leave task ids out of the line heads
    #[arg(long)]
    no_task_ids: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Only what was written, without line heads
    #[arg(long)]
    raw: bool,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    details: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_resolve: Option<Never>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail(Option<u64>);

fn parse_tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail(None)),
        _ => text.parse().map(|n| Tail(Some(n))).map_err(|_| "not a number of lines, or all".to_owned()),
    }
}

/// Prints the output: stdout of tasks to stdout, stderr to stderr.
pub async fn run(args: LogsArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let target = resolve::either(&world, &args.target)?;
    let request = request(&args, target)?;
    let what = format!("cannot read the logs of {}", args.target);
    let mut printer = Printer::new(look(&args, target), heads(&world, target));
    let answer = client.node().logs(request).await;
    let mut records = answer.map_err(|status| refused(&what, &status))?.into_inner();
    loop {
        let record = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => { printer.finish()?; return Ok(130) }
            record = records.message() => record.map_err(|status| refused(&what, &status))?,
        };
        let Some(record) = record else { break };
        let node = record.node_id.parse().map_or_else(|_| record.node_id.clone(), |node| world.node_name(node));
        printer.print(Record::new(record, node))?;
    }
    printer.finish()?;
    Ok(0)
}

fn request(args: &LogsArgs, target: Target<'_>) -> Result<pb::LogsRequest, Failure> {
    let time = |text: &Option<String>| -> Result<Option<i64>, Failure> {
        let parsed = text.as_deref().map(|text| parse_when(text, now())).transpose();
        Ok(parsed.map_err(Failure::usage)?.map(|time| time.0))
    };
    let mut request = pb::LogsRequest {
        follow: args.follow,
        tail: args.tail.0,
        since: time(&args.since)?,
        until: time(&args.until)?,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    match target {
        Target::Service(service) => request.service_id = Some(service.id.to_string()),
        Target::Task(task) => request.task_ids = vec![task.id.to_string()],
    }
    Ok(request)
}

/// One task is shown bare, as `docker logs` does; a service's tasks are told apart.
fn look(args: &LogsArgs, target: Target<'_>) -> Look {
    Look {
        heads: !args.raw && matches!(target, Target::Service(_)),
        task_ids: !args.no_task_ids,
        whole_ids: args.no_trunc,
        timestamps: args.timestamps,
        colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    }
}

/// Names of the tasks that are there now, so that the heads are wide enough from the first line.
fn heads(world: &World, target: Target<'_>) -> Vec<(String, String, String)> {
    let Target::Service(service) = target else { return Vec::new() };
    let node = |task: &berth_proto::object::Task| task.node.map(|node| world.node_name(node)).unwrap_or_default();
    let head = |task| (resolve::short_task_name(world, task), task.id.to_string(), node(task));
    world.tasks_of(service.id).map(head).collect()
}
