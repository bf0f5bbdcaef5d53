//! `berth service …`.

mod create;
mod inspect;
mod ls;
mod ps;
mod rm;
mod rollback;
mod update;

use berth_proto::object::Service;
use berth_proto::pb;
use clap::Subcommand;

use super::{logs, scale};
use crate::cli::Context;
use crate::ui::{Failure, Outcome};

pub use ls::rows;

/// Commands on services.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Create a service
    Create(Box<create::CreateArgs>),
    /// List services
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// List the tasks of services
    Ps(ps::PsArgs),
    /// Print services in full
    Inspect(inspect::InspectArgs),
    /// Change a service
    Update(Box<update::UpdateArgs>),
    /// Set the number of tasks of services
    Scale(scale::ScaleArgs),
    /// Go back to the spec before the last update
    Rollback(rollback::RollbackArgs),
    /// Show the output of a service or a task
    Logs(logs::LogsArgs),
    /// Remove services
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

impl ServiceCommand {
    /// What its span is called; `None` for one that starts no task.
    pub fn traced_name(&self) -> Option<&'static str> {
        match self {
            Self::Create(_) => Some("berth service create"),
            Self::Update(_) => Some("berth service update"),
            Self::Scale(_) => Some("berth service scale"),
            Self::Rollback(_) => Some("berth service rollback"),
            _ => None,
        }
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => create::run(*args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Ps(args) => ps::run(args, context).await,
            Self::Inspect(args) => inspect::run(args, context).await,
            Self::Update(args) => update::run(*args, context).await,
            Self::Scale(args) => scale::run(args, context).await,
            Self::Rollback(args) => rollback::run(args, context).await,
            Self::Logs(args) => logs::run(args, context).await,
            Self::Rm(args) => rm::run(args, context).await,
        }
    }
}

/// A service out of an answer.
pub(crate) fn taken(service: pb::Service) -> Result<Service, Failure> {
    Service::try_from(service).map_err(|error| Failure::new(format!("the daemon's answer makes no sense: {error}")))
}
