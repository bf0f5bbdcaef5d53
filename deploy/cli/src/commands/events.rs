//! `berth events`.

use berth_proto::filter::Filters;
use berth_proto::pb::ObjectKind;
use berth_proto::time::Timestamp;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::parse_filters;
use crate::flags::when::parse_when;
use crate::rollout::wait::now;
use crate::ui::{Failure, Format, Outcome, terminal};
use crate::view::event::EventRow;

/// Flags of `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Also show what happened since then, as far as the daemon remembers: 10m, a date, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// End then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// type=task, action=running, name=web, actor=… (repeat to give more)
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Print as table (lines), json (one object a line) or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
}

const KINDS: [ObjectKind; 8] = [
    ObjectKind::Cluster,
    ObjectKind::Node,
    ObjectKind::Service,
    ObjectKind::Task,
    ObjectKind::Network,
    ObjectKind::Volume,
    ObjectKind::Config,
    ObjectKind::Secret,
];

/// Prints changes as they are committed, until interrupted.
pub async fn run(args: EventsArgs, context: &Context) -> Outcome {
    let filters = parse_filters(&args.filter, &["type", "action", "event", "name", "id", "actor"])?;
    let time = |text: &Option<String>| -> Result<Option<Timestamp>, Failure> {
        text.as_deref().map(|text| parse_when(text, now())).transpose().map_err(Failure::usage)
    };
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let client = context.connect().await?;
    let mut events = client.watch(&KINDS, since.map(|_| 0)).await?;
    loop {
        let end = async {
            match until {
                Some(until) => tokio::time::sleep(until.since(now())).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            biased;
            // tonic's stream keeps its state between polls: no message is lost. It comes first, so that what is already
            // there is printed before the end.
            event = events.message() => event.map_err(|status| refused("cannot watch", &status))?,
            () = end => return Ok(0),
            _ = tokio::signal::ctrl_c() => return Ok(130),
        };
        let Some(event) = event else { return Err(Failure::new("the daemon ended the stream of events")) };
        let Some(row) = EventRow::new(event) else {
            // Too old, or too slow: go on from now.
            terminal::warn("some events are missing: the daemon no longer remembers them");
            events = client.watch(&KINDS, None).await?;
            continue;
        };
        if since.is_some_and(|since| row.time < since) || !matches(&row, &filters) {
            continue;
        }
        if until.is_some_and(|until| row.time > until) {
            return Ok(0);
        }
        terminal::print(text(&row, args.format)?)?;
    }
}

fn matches(row: &EventRow, filters: &Filters) -> bool {
    filters.allow("type", |wanted| row.kind == wanted)
        && filters.allow("action", |wanted| row.action == wanted)
        && filters.allow("event", |wanted| row.action == wanted)
        && filters.allow("name", |wanted| row.name.starts_with(wanted))
        && filters.allow("id", |wanted| row.id.starts_with(wanted))
        && filters.allow("actor", |wanted| row.actor == wanted)
}

fn text(row: &EventRow, format: Format) -> Result<String, Failure> {
    let bad = |error: &dyn std::error::Error| Failure::new(format!("cannot write the event: {error}"));
    match format {
        Format::Table => Ok(row.line()),
        Format::Json => Ok(serde_json::to_string(row).map_err(|error| bad(&error))? + "\n"),
        Format::Yaml => Ok(format!("---\n{}", serde_yaml::to_string(row).map_err(|error| bad(&error))?)),
    }
}
