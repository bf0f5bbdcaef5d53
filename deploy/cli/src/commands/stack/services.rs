//! `berth stack services`.

use berth_proto::filter;
use berth_proto::pb::ObjectKind;
use clap::Args;

use super::must_exist;
use crate::cli::Context;
use crate::commands::service;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};

/// Flags of `stack services`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Stack
    stack: String,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the services of a stack.
pub async fn run(args: ServicesArgs, context: &Context) -> Outcome {
    let filters = args.list.filters_of(&filter::SERVICE)?;
    let world = context.connect().await?.world(&[ObjectKind::Service, ObjectKind::Task]).await?;
    must_exist(&world, &args.stack)?;
    let mut rows = service::rows(&world, &filters);
    rows.retain(|row| row.stack.as_deref() == Some(args.stack.as_str()));
    terminal::done(listing::list(&rows, args.list.look())?)
}
