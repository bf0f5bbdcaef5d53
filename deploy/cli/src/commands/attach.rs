//! `berth attach`.

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::resolve;
use crate::flags::not_yet::{Never, NotYet};
use crate::session::{raw, run};
use crate::ui::Outcome;

/// Flags of `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Task (id or SERVICE.SLOT), or service: then one of its running tasks
    #[arg(value_name = "TASK|SERVICE")]
    target: String,
    /// Do not pass stdin on
    #[arg(long)]
    no_stdin: bool,
    /// Pass Ctrl-C and SIGTERM on to the process
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          hide_default_value = true, hide_possible_values = true, action = clap::ArgAction::Set)]
    sig_proxy: bool,
    #[arg(long, hide = true, value_parser = NotYet)]
    detach_keys: Option<Never>,
}

/// Talks to the main process of a task until it ends, or until Ctrl-P Ctrl-Q.
pub async fn run(args: AttachArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task, ObjectKind::Node]).await?;
    let task = resolve::running_task(&world, &args.target)?;
    let spec = world.services.get(&task.service).and_then(|service| service.spec_at(task.spec_version));
    let container = spec.map(|spec| &spec.task.container);
    let tty = container.is_some_and(|container| container.tty) && std::io::IsTerminal::is_terminal(&std::io::stdin());
    let stdin_open = container.is_some_and(|container| container.stdin_open);
    let mode = run::Mode {
        stdin: !args.no_stdin && (stdin_open || tty),
        tty,
        detach_keys: true,
        forward_signals: args.sig_proxy && !tty,
        detached: false,
    };
    let start = pb::ExecStart {
        task_id: task.id.to_string(),
        tty,
        stdin: mode.stdin,
        tty_size: if tty { raw::size() } else { None },
        ..Default::default()
    };
    let what = format!("cannot attach to {}", resolve::short_task_name(&world, task));
    run::run(&what, start, mode, |request| {
        let mut node = client.node();
        async move { node.attach(request).await }
    })
    .await
}
