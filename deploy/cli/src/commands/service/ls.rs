//! `berth service ls`.

use berth_proto::filter::{self, Filters};
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::world::World;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::service::ServiceRow;

/// Flags of `service ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the services.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters_of(&filter::SERVICE)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task]).await?;
    terminal::done(listing::list(&rows(&world, &filters), args.list.look())?)
}

/// The rows that match, by name. As in Docker, a name matches what begins with it.
pub fn rows(world: &World, filters: &Filters) -> Vec<ServiceRow> {
    // A service that is on its way out is gone for people, as in Docker.
    let there = world.services.values().filter(|service| !service.pending_delete);
    let matching = there.filter(|service| filters.service(service));
    let mut rows: Vec<ServiceRow> = matching.map(|service| ServiceRow::new(service, world)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}
