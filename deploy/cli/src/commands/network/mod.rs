//! `berth network …`.

mod check;
mod create;

use berth_proto::filter;
use berth_proto::pb::ObjectKind;
use clap::Subcommand;

use super::object::{self, InspectArgs, RmArgs};
use crate::cli::Context;
use crate::client::resolve;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
use crate::view::resource::NetworkRow;

/// Commands on networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Find out whether nodes reach each other, and what to do where they do not
    Check(check::CheckArgs),
    /// Create a network
    Create(create::CreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Print networks in full
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

impl NetworkCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Check(args) => check::run(args, context).await,
            Self::Create(args) => create::run(args, context).await,
            Self::Ls(args) => ls(args, context).await,
            Self::Inspect(args) => object::inspect(args, context, ObjectKind::Network, resolve::network).await,
            Self::Rm(args) => object::remove(args, context, ObjectKind::Network).await,
        }
    }
}

async fn ls(list: ListFlags, context: &Context) -> Outcome {
    let filters = list.filters_of(&filter::NETWORK)?;
    let world = context.connect().await?.world(&[ObjectKind::Network]).await?;
    let matching = world.networks.values().filter(|network| filters.network(network));
    let mut rows: Vec<NetworkRow> = matching.map(NetworkRow::new).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    terminal::done(listing::list(&rows, list.look())?)
}
