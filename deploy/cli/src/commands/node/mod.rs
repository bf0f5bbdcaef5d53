//! `berth node …`.

mod inspect;
mod ls;
mod ps;
mod rm;
mod role;
pub mod update;

use berth_proto::state::{Availability, NodeRole};
use clap::Subcommand;

use crate::cli::Context;
use crate::ui::Outcome;

/// Commands on nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print nodes in full
    Inspect(inspect::InspectArgs),
    /// List the tasks of nodes [default: this one]
    Ps(ps::PsArgs),
    /// Change availability or labels of a node
    Update(update::UpdateArgs),
    /// Give the tasks of nodes away and take no new ones
    #[command(mut_arg("detach", |arg| arg.help("Return at once instead of waiting until they have no tasks")))]
    Drain(role::DrainArgs),
    /// Take tasks again
    Activate(update::NodesArgs),
    /// Keep tasks, take no new ones
    Pause(update::NodesArgs),
    /// Make nodes managers
    #[command(mut_arg("detach", |arg| arg.help("Return at once instead of waiting until they take part as managers")))]
    Promote(role::RoleArgs),
    /// Make managers workers
    #[command(mut_arg("detach", |arg| arg.help("Return at once instead of waiting until they are workers")))]
    Demote(role::RoleArgs),
    /// Remove nodes that are down
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

impl NodeCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(args) => ls::run(args, context).await,
            Self::Inspect(args) => inspect::run(args, context).await,
            Self::Ps(args) => ps::run(args, context).await,
            Self::Update(args) => update::run(args, context).await,
            Self::Drain(args) => role::drain(args, context).await,
            Self::Activate(args) => update::set(args, Availability::Active, context).await,
            Self::Pause(args) => update::set(args, Availability::Pause, context).await,
            Self::Promote(args) => role::set_role(args, NodeRole::Manager, context).await,
            Self::Demote(args) => role::set_role(args, NodeRole::Worker, context).await,
            Self::Rm(args) => rm::run(args, context).await,
        }
    }
}
