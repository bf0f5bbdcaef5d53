//! `berth cluster …`.

mod backup;
mod ca;
mod info;
mod token;

use clap::Subcommand;

use crate::cli::Context;
use crate::ui::{Failure, Outcome};

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster
    Info(info::InfoArgs),
    /// Show how other machines join
    Init(token::InitArgs),
    /// Show or replace a join token
    Token(token::TokenArgs),
    /// Manage the certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Write everything that the cluster keeps to a file
    Backup(backup::BackupArgs),
    /// Make a cluster of one out of a backup, on a machine whose daemon is stopped
    Restore(backup::RestoreArgs),
    /// Everything else that is to come, refused by name
    #[command(external_subcommand)]
    NotYet(Vec<String>),
}

impl ClusterCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Info(args) => info::run(args, context).await,
            Self::Init(args) => token::init(args, context).await,
            Self::Token(args) => token::run(args, context).await,
            Self::Ca(command) => command.run(context).await,
            Self::Backup(args) => backup::backup(args, context).await,
            Self::Restore(args) => backup::restore(args).await,
            Self::NotYet(words) => {
                let word = words.first().map_or("", String::as_str);
                let known = ["join", "leave"];
                if known.contains(&word) {
                    let failure = Failure::unsupported(format!("cluster {word}"));
                    return Err(failure.hint(
                        "a machine joins with `berth daemon --join`, and leaves with `berth node rm` and `berth reset`",
                    ));
                }
                Err(Failure::usage(format!("unrecognized subcommand 'cluster {word}'"))
                    .hint("try `berth cluster info`"))
            }
        }
    }
}
