//! `berth volume prune`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::ForceFlag;
use crate::ui::{Outcome, human, prompt, terminal};

/// Flags of `volume prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also named volumes, not only anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    force: ForceFlag,
}

/// Removes the volumes of this node that nothing uses.
pub async fn run(args: PruneArgs, context: &Context) -> Outcome {
    let what = if args.all { "all volumes" } else { "all anonymous volumes" };
    prompt::confirm(&format!("Remove {what} of this node that no task uses, and their data?"), args.force.yes)?;
    let client = context.connect().await?;
    let answer = client.node().local_volume_prune(pb::LocalVolumePruneRequest { all: args.all }).await;
    let answer = answer.map_err(|status| refused("cannot prune volumes", &status))?.into_inner();
    for name in answer.removed {
        terminal::print_line(name)?;
    }
    terminal::say(format!("reclaimed {}", human::size(answer.reclaimed_bytes)));
    Ok(0)
}
