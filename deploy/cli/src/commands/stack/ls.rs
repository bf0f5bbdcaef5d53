//! `berth stack ls`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::stack;

/// Flags of `stack ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the stacks.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&["name"])?;
    let world = context.connect().await?.world(&[ObjectKind::Service]).await?;
    let mut rows = stack::rows(&world);
    rows.retain(|row| filters.allow("name", |wanted| row.name.starts_with(wanted)));
    terminal::done(listing::list(&rows, args.list.look())?)
}
