//! `berth stack rm`.

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::{ForceFlag, WaitFlags};
use crate::rollout::wait;
use crate::ui::{Outcome, prompt, terminal};

/// Flags of `stack rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Stacks
    #[arg(required = true, value_name = "STACK")]
    stacks: Vec<String>,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    force: ForceFlag,
}

/// Removes services, networks, configs and secrets of the stacks; volumes keep their data. Waits until tasks have ended.
pub async fn run(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service]).await?;
    prompt::confirm(&format!("Remove {} and stop their tasks?", args.stacks.join(", ")), args.force.yes)?;
    let mut services = Vec::new();
    for stack in &args.stacks {
        let request = pb::StackRemoveRequest { stack: stack.clone() };
        let what = format!("cannot remove stack {stack}");
        let answer = client.control().stack_remove(request).await.map_err(|status| refused(&what, &status))?;
        for line in answer.into_inner().removed {
            terminal::print_line(format!("removed {line}"))?;
        }
        let of_stack = |stack_of: &berth_proto::name::StackName| stack_of.as_str() == stack;
        let gone = world.services.values().filter(|service| service.spec.stack.as_ref().is_some_and(of_stack));
        services.extend(gone.map(|service| service.id));
    }
    if !args.wait.detach {
        wait::until_gone(&client, &args.stacks, &services, args.wait.timeout).await?;
    }
    Ok(0)
}
