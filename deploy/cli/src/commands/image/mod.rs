//! `berth image …`: the images of the node that answers.

mod auth;
mod history;
mod inspect;
mod load;
mod ls;
mod progress;
mod prune;
mod pull;
mod rm;
mod save;
mod tag;

use clap::Subcommand;

use crate::cli::Context;
use crate::ui::Outcome;

/// Commands on images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Read images from a tar archive
    Load(load::LoadArgs),
    /// Fetch an image from a registry
    Pull(pull::PullArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print images in full
    Inspect(inspect::InspectArgs),
    /// Show how an image was made
    History(history::HistoryArgs),
    /// Write images to a tar archive
    Save(save::SaveArgs),
    /// Give an image another name
    Tag(tag::TagArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
    /// Remove images that nothing uses
    Prune(prune::PruneArgs),
}

impl ImageCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Load(args) => load::run(args, context).await,
            Self::Pull(args) => pull::run(args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Inspect(args) => inspect::run(args, context).await,
            Self::History(args) => history::run(args, context).await,
            Self::Save(args) => save::run(args, context).await,
            Self::Tag(args) => tag::run(args, context).await,
            Self::Rm(args) => rm::run(args, context).await,
            Self::Prune(args) => prune::run(args, context).await,
        }
    }
}
