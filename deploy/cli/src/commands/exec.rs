//! `berth exec`.

use std::io::IsTerminal;

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::resolve;
use crate::flags::not_yet::{Never, NotYet};
use crate::flags::value;
use crate::session::{raw, run};
use crate::ui::{Failure, OrFail, Outcome};

/// Flags of `exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Task (id or SERVICE.SLOT), or service: then one of its running tasks
    #[arg(value_name = "TASK|SERVICE")]
    target: String,
    /// Command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Pass stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Give the process a terminal
    #[arg(short, long)]
    tty: bool,
    /// User or uid, and group or gid: `user[:group]`
    #[arg(short, long)]
    user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Environment variable; without `=` the caller's value
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<String>,
    /// Start the command and return at once
    #[arg(short, long)]
    detach: bool,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    privileged: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    detach_keys: Option<Never>,
}

/// Runs the command and ends with its exit code.
pub async fn run(args: ExecArgs, context: &Context) -> Outcome {
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(Failure::usage("-t needs a terminal, but stdin is none").hint("leave out -t"));
    }
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let task = resolve::running_task(&world, &args.target)?;
    let start = start(&args, task.id.to_string())?;
    let mode = run::Mode {
        stdin: args.interactive && !args.detach,
        tty: args.tty && !args.detach,
        detach_keys: true,
        forward_signals: !args.tty,
        detached: args.detach,
    };
    let what = format!("cannot run {} in {}", args.command[0], resolve::short_task_name(&world, task));
    run::run(&what, start, mode, |request| {
        let mut node = client.node();
        async move { node.exec(request).await }
    })
    .await
}

fn start(args: &ExecArgs, task_id: String) -> Result<pb::ExecStart, Failure> {
    let mut texts = Vec::new();
    for path in &args.env_file {
        let text = std::fs::read_to_string(path).or_fail(|| format!("cannot read --env-file {path}"))?;
        texts.extend(value::env_file_lines(&text));
    }
    texts.extend(args.env.iter().cloned());
    let env = value::environment(&texts, |key| std::env::var(key).ok()).map_err(Failure::usage)?;
    Ok(pb::ExecStart {
        task_id,
        command: args.command.clone(),
        env: env.into_iter().collect(),
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        tty: args.tty,
        stdin: args.interactive,
        tty_size: if args.tty { raw::size() } else { None },
        privileged: false,
        detach: args.detach,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExecArgs,
    }

    #[test]
    fn flags_after_the_command_belong_to_it() {
        let line = Line::try_parse_from(["exec", "-it", "-e", "A=1", "web.1", "sh", "-c", "echo -n"]).unwrap();
        assert!(line.args.interactive && line.args.tty);
        assert_eq!(line.args.command, ["sh", "-c", "echo -n"]);
        let start = start(&line.args, "t".into()).unwrap();
        assert_eq!(start.env.get("A").map(String::as_str), Some("1"));
    }

    #[test]
    fn privileged_is_refused() {
        let error = Line::try_parse_from(["exec", "--privileged", "web", "sh"]).unwrap_err();
        assert!(error.to_string().contains("--privileged is not supported yet"), "{error}");
    }
}
