//! `berth service rollback`.

use std::collections::BTreeSet;

use berth_proto::id::TaskId;
use berth_proto::pb;
use clap::Args;

use super::taken;
use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::common::WaitFlags;
use crate::rollout::wait;
use crate::ui::{Outcome, terminal};

/// Flags of `service rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Service, by name or id
    service: String,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Goes back to the spec before the last update.
pub async fn run(args: RollbackArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let before = wait::tasks_before(&client).await?;
    roll_back(&client, &args.service, before, &args.wait).await
}

/// What `service update --rollback` does too.
pub(super) async fn roll_back(client: &Client, word: &str, before: BTreeSet<TaskId>, flags: &WaitFlags) -> Outcome {
    let request = pb::ServiceRollbackRequest { id: word.to_owned() };
    let answer = client
        .control()
        .service_rollback(request)
        .await
        .map_err(|status| refused(&format!("cannot roll back {word}"), &status))?;
    let service = taken(answer.into_inner())?;
    terminal::print_line(service.spec.name.as_str())?;
    wait::until_rolled_back(client, &service, before, flags).await?;
    Ok(0)
}
