//! What `network|volume|config|secret inspect|rm` have in common.

use berth_http::api::model::kind_word;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::world::World;
use crate::flags::common::InspectFlags;
use crate::ui::{Failure, Outcome, listing, terminal};

/// Names or ids to remove.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// By name, id or beginning of an id
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Names or ids to print in full.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// By name, id or beginning of an id
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// How.
    #[command(flatten)]
    pub inspect: InspectFlags,
}

/// Removes objects of one kind, each by itself: the first that is in use ends the command.
pub async fn remove(args: RmArgs, context: &Context, kind: ObjectKind) -> Outcome {
    let client = context.connect().await?;
    for name in &args.names {
        let request = pb::ObjectRemoveRequest { kind: kind.into(), ids: vec![name.clone()], version: 0 };
        let what = format!("cannot remove {} {name}", kind_word(kind));
        client.control().object_remove(request).await.map_err(|status| refused(&what, &status))?;
        terminal::print_line(name)?;
    }
    Ok(0)
}

/// Prints objects of one kind in full; `find` says what a word means.
pub async fn inspect<T: Serialize>(
    args: InspectArgs,
    context: &Context,
    kind: ObjectKind,
    find: impl for<'w> Fn(&'w World, &str) -> Result<&'w T, Failure>,
) -> Outcome {
    let world = context.connect().await?.world(&[kind]).await?;
    let found = args.names.iter().map(|word| find(&world, word)).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}
