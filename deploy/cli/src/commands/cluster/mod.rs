//! `berth cluster …`.

mod backup;
mod ca;
mod info;
mod join;
mod leave;
mod rebalance;
mod token;
mod update;

use clap::Subcommand;

use crate::cli::Context;
use crate::ui::Outcome;

/// Commands on the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster
    Info(info::InfoArgs),
    /// Change settings of the cluster
    Update(update::UpdateArgs),
    /// Show how other machines join
    Init(token::InitArgs),
    /// Say how this machine joins a cluster
    Join(join::JoinArgs),
    /// Propose moves of tasks that would free nodes or level their load
    Rebalance(rebalance::RebalanceArgs),
    /// Take this machine out of its cluster
    Leave(leave::LeaveArgs),
    /// Show or replace a join token
    Token(token::TokenArgs),
    /// Manage the certificate authority
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Write everything that the cluster keeps to a file
    Backup(backup::BackupArgs),
    /// Make a cluster of one out of a backup, on a machine whose daemon is stopped
    Restore(backup::RestoreArgs),
}

impl ClusterCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Info(args) => info::run(args, context).await,
            Self::Update(args) => update::run(args, context).await,
            Self::Init(args) => token::init(args, context).await,
            Self::Join(args) => join::run(args, context).await,
            Self::Rebalance(args) => rebalance::run(args, context).await,
            Self::Leave(args) => leave::run(args, context).await,
            Self::Token(args) => token::run(args, context).await,
            Self::Ca(command) => command.run(context).await,
            Self::Backup(args) => backup::backup(args, context).await,
            Self::Restore(args) => backup::restore(args).await,
        }
    }
}
