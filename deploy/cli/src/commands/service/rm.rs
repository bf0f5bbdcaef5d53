//! `berth service rm`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::{Outcome, terminal};

/// Flags of `service rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Services, by name or id
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

/// Removes the services; their tasks are stopped.
pub async fn run(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let request = pb::ServiceRemoveRequest { ids: args.services.clone(), version: 0 };
    client
        .control()
        .service_remove(request)
        .await
        .map_err(|status| refused(&format!("cannot remove {}", args.services.join(", ")), &status))?;
    terminal::done(args.services.iter().map(|name| format!("{name}\n")).collect::<String>())
}
