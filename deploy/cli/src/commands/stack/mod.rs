//! `berth stack …`.

mod ls;
mod ps;
mod rm;
mod services;

use clap::Subcommand;

use crate::cli::Context;
use crate::client::world::World;
use crate::ui::{Failure, Outcome};

/// Commands on stacks.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// List stacks
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// List the tasks of a stack
    Ps(ps::PsArgs),
    /// List the services of a stack
    Services(services::ServicesArgs),
    /// Remove stacks
    #[command(visible_aliases = ["remove", "down"], mut_arg("detach", |arg| arg.help("Return at once instead of waiting until they are gone")))]
    Rm(rm::RmArgs),
}

impl StackCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(args) => ls::run(args, context).await,
            Self::Ps(args) => ps::run(args, context).await,
            Self::Services(args) => services::run(args, context).await,
            Self::Rm(args) => rm::run(args, context).await,
        }
    }
}

/// Refuses a stack that nothing belongs to.
fn must_exist(world: &World, stack: &str) -> Result<(), Failure> {
    let known = crate::view::stack::rows(world);
    if known.iter().any(|row| row.name == stack) {
        return Ok(());
    }
    let failure = Failure::new(format!("no such stack: {stack}"));
    let names: Vec<&str> = known.iter().map(|row| row.name.as_str()).collect();
    Err(if names.is_empty() { failure } else { failure.hint(format!("there are: {}", names.join(", "))) })
}
