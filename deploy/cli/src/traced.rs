//! Commands and the daemon as parts of traces: the first span of a command that changes something, and where traces go.

use std::time::Duration;

use berth_trace::{Exporting, Settings, TraceContext, Tracer, export};

use crate::cli::Context;
use crate::commands::Command;
use crate::ui::{Failure, Outcome, failure, terminal};

/// How long a command that is done waits for the collector.
const COMMAND_LIMIT: Duration = Duration::from_secs(1);

/// Begins to send traces where the flag or the variables say. Takes a runtime.
pub fn start(flag: Option<&str>) -> Result<Option<(Tracer, Exporting)>, Failure> {
    let settings =
        Settings::read(flag, |name| std::env::var(name).ok()).map_err(|error| Failure::usage(error.to_string()))?;
    let started = settings.map(|settings| export::start(&settings)).transpose();
    started.map_err(|error| Failure::new(failure::chain(&error)))
}

/// Runs a command; one that changes something is a span, and what follows from it in the cluster is below that. No trouble with
/// a collector keeps a command from doing what it does.
pub async fn run(command: Command, context: &Context) -> Outcome {
    let Some(name) = command.traced_name() else { return command.run(context).await };
    let started = start(None).unwrap_or_else(|failure| {
        terminal::warn(format!("nothing is traced: {}", failure.message()));
        None
    });
    let above = above();
    let Some((tracer, exporting)) = started else { return berth_trace::within(above, command.run(context)).await };
    let mut span = match above {
        Some(above) => tracer.child(Some(above), name),
        None => tracer.root(name),
    };
    let outcome = berth_trace::within(span.context(), command.run(context)).await;
    let code = outcome.as_ref().map_or_else(Failure::code, |code| *code);
    span.set("process.exit.code", i64::from(code));
    if code != 0 {
        // Not what was printed: that may show values out of the file.
        span.fail(&format!("exit code {code}"));
    }
    span.end();
    if let Err(unsent) = exporting.finish(COMMAND_LIMIT).await {
        terminal::warn(unsent.to_string());
    }
    outcome
}

/// Where whoever runs the command belongs (`TRACEPARENT`, as the OpenTelemetry specification has it for processes), if that is
/// recorded.
fn above() -> Option<TraceContext> {
    let context: TraceContext = std::env::var("TRACEPARENT").ok()?.parse().ok()?;
    context.is_sampled().then_some(context)
}
