//! `berth service inspect`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::resolve;
use crate::flags::common::InspectFlags;
use crate::flags::not_yet::{Never, NotYet};
use crate::ui::{Outcome, listing, terminal};

/// Flags of `service inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Services, by name or id
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pretty: Option<Never>,
}

/// Prints the services in full.
pub async fn run(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service]).await?;
    let found = args.services.iter().map(|word| resolve::service(&world, word)).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}
