//! `berth image prune`.

use berth_proto::pb;
use clap::Args;

use super::rm::report;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::parse_filters;
use crate::flags::value::parse_label;
use crate::rollout::wait::now;
use crate::ui::{Failure, Outcome, human, prompt, terminal};

/// Flags of `image prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Also images that have a name, if no task uses them
    #[arg(short, long)]
    all: bool,
    /// until=24h or label=KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long, visible_alias = "yes", visible_short_alias = 'y')]
    force: bool,
}

/// Removes the images that nothing uses.
pub async fn run(args: PruneArgs, context: &Context) -> Outcome {
    let filters = parse_filters(&args.filter, &["until", "label"])?;
    let what = if args.all { "all images that no task uses" } else { "all images without a name" };
    prompt::confirm(&format!("Remove {what}?"), args.force)?;
    let until = match filters.values("until").next() {
        Some(text) => Some(crate::flags::when::parse_when(text, now()).map_err(Failure::usage)?.0),
        None => None,
    };
    let labels = filters.values("label").map(parse_label).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let client = context.connect().await?;
    let answer = client.node().image_prune(pb::ImagePruneRequest { all: args.all, until, labels }).await;
    let answer = answer.map_err(|status| refused("cannot prune images", &status))?.into_inner();
    let reclaimed = answer.reclaimed_bytes;
    report(answer)?;
    terminal::say(format!("Total reclaimed space: {}", human::size(reclaimed)));
    Ok(0)
}
