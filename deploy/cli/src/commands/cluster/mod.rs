//! `berth cluster …`.

mod info;

use clap::Subcommand;

use crate::cli::Context;
use crate::ui::{Failure, Outcome};

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster
    Info(info::InfoArgs),
    /// Everything else that is to come, refused by name
    #[command(external_subcommand)]
    NotYet(Vec<String>),
}

impl ClusterCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Info(args) => info::run(args, context).await,
            Self::NotYet(words) => {
                let word = words.first().map_or("", String::as_str);
                let known = ["init", "join", "leave", "token", "ca", "backup", "restore"];
                if known.contains(&word) {
                    let failure = Failure::unsupported(format!("cluster {word}"));
                    return Err(failure.hint("`berth daemon` starts a cluster of one node by itself"));
                }
                Err(Failure::usage(format!("unrecognized subcommand 'cluster {word}'"))
                    .hint("try `berth cluster info`"))
            }
        }
    }
}
