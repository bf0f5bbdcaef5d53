//! `berth volume …`: volumes of the cluster, and their files on this node.

mod create;
mod ls;
mod prune;

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::{Args, Subcommand};

use super::object::InspectArgs;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve;
use crate::ui::{Failure, Outcome, listing, terminal};
use crate::view::resource::VolumeRow;

/// Commands on volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Create a volume
    Create(create::CreateArgs),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print volumes in full
    Inspect(InspectArgs),
    /// Remove volumes and their files on this node
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Remove the volumes of this node that nothing uses
    Prune(prune::PruneArgs),
}

/// Flags of `volume rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also when tasks that have ended still hold it
    #[arg(short, long)]
    force: bool,
}

impl VolumeCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => create::run(args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Inspect(args) => inspect(args, context).await,
            Self::Rm(args) => rm(args, context).await,
            Self::Prune(args) => prune::run(args, context).await,
        }
    }
}

async fn inspect(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let rows = ls::all(&client).await?;
    let world = client.world(&[ObjectKind::Volume]).await?;
    let one = |word: &String| -> Result<&VolumeRow, Failure> {
        if let Some(row) = rows.iter().find(|row| row.name == *word) {
            return Ok(row);
        }
        let volume = resolve::volume(&world, word)?;
        let row = rows.iter().find(|row| *row.name == *volume.spec.name);
        row.ok_or_else(|| Failure::new(format!("no such volume: {word}")))
    };
    let found = args.names.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}

async fn rm(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    for word in &args.names {
        let world = client.world(&[ObjectKind::Volume]).await?;
        let known = resolve::volume(&world, word);
        let name = known.as_ref().map_or_else(|_| word.clone(), |volume| volume.spec.name.to_string());
        let what = format!("cannot remove volume {name}");
        if known.is_ok() {
            let request =
                pb::ObjectRemoveRequest { kind: ObjectKind::Volume.into(), ids: vec![name.clone()], version: 0 };
            client.control().object_remove(request).await.map_err(|status| refused(&what, &status))?;
        }
        let request = pb::LocalVolumeRemoveRequest { names: vec![name.clone()], force: args.force };
        match client.node().local_volume_remove(request).await {
            Ok(_) => {}
            // The cluster knew it, this node never had files of it.
            Err(status) if status.code() == tonic::Code::NotFound && known.is_ok() => {}
            Err(status) => return Err(refused(&what, &status)),
        }
        terminal::print_line(word)?;
    }
    Ok(0)
}
