//! `berth network …`.

mod create;

use berth_proto::pb::ObjectKind;
use clap::{Args, Subcommand};

use super::remove::{self, RmArgs};
use crate::cli::Context;
use crate::client::resolve;
use crate::flags::common::{InspectFlags, ListFlags};
use crate::ui::{Outcome, listing, terminal};
use crate::view::resource::NetworkRow;

/// Commands on networks.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Create a network
    Create(create::CreateArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Print networks in full
    Inspect(InspectArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Flags of `network ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `network inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// By name, id or beginning of an id
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
}

impl NetworkCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => create::run(args, context).await,
            Self::Ls(args) => ls(args, context).await,
            Self::Inspect(args) => inspect(args, context).await,
            Self::Rm(args) => remove::remove(&context.connect().await?, ObjectKind::Network, &args.names).await,
        }
    }
}

async fn ls(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&["id", "name", "driver", "scope", "label", "stack"])?;
    let world = context.connect().await?.world(&[ObjectKind::Network]).await?;
    let mut rows: Vec<NetworkRow> = world.networks.values().map(NetworkRow::new).collect();
    rows.retain(|row| {
        filters.allow("id", |wanted| row.id.starts_with(wanted))
            && filters.allow("name", |wanted| row.name.contains(wanted))
            && filters.allow("driver", |wanted| row.driver == wanted)
            && filters.allow("scope", |wanted| row.scope == wanted)
            && filters.allow("stack", |wanted| row.stack.as_deref() == Some(wanted))
            && filters.allow_labels("label", &row.labels)
    });
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    terminal::done(listing::list(&rows, args.list.look())?)
}

async fn inspect(args: InspectArgs, context: &Context) -> Outcome {
    let world = context.connect().await?.world(&[ObjectKind::Network]).await?;
    let found = args.names.iter().map(|word| resolve::network(&world, word)).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}
