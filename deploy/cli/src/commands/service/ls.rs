//! `berth service ls`.

use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::cli::Context;
use crate::client::world::World;
use crate::flags::common::{Filters, ListFlags};
use crate::ui::{Outcome, listing, terminal};
use crate::view::service::ServiceRow;

/// Filters that lists of services know.
pub const FILTERS: [&str; 5] = ["id", "name", "label", "mode", "stack"];

/// Flags of `service ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the services.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&FILTERS)?;
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Service, ObjectKind::Task]).await?;
    terminal::done(listing::list(&rows(&world, &filters), args.list.look())?)
}

/// The rows that match, by name. As in Docker, a name matches what begins with it.
pub fn rows(world: &World, filters: &Filters) -> Vec<ServiceRow> {
    // A service that is on its way out is gone for people, as in Docker.
    let there = world.services.values().filter(|service| !service.pending_delete);
    let matching = there.filter(|service| {
        let spec = &service.spec;
        let id = service.id.to_string();
        filters.allow("id", |wanted| id.starts_with(wanted))
            && filters.allow("name", |wanted| spec.name.starts_with(wanted))
            && filters.allow("mode", |wanted| spec.mode.as_str() == wanted)
            && filters.allow("stack", |wanted| spec.stack.as_ref().is_some_and(|stack| stack.as_str() == wanted))
            && filters.allow_labels("label", &spec.labels)
    });
    let mut rows: Vec<ServiceRow> = matching.map(|service| ServiceRow::new(service, world)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}
