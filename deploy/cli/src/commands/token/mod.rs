//! `berth token …`: who may use the HTTP API and the dashboard.

mod create;
mod ls;

use berth_proto::pb;
use clap::{Args, Subcommand};

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::{Outcome, terminal};

/// Commands on tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; it cannot be shown again
    Create(create::CreateArgs),
    /// List tokens, without what they are
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Take tokens away: they are refused at once
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Flags of `token rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl TokenCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => create::run(args, context).await,
            Self::Ls(args) => ls::run(args, context).await,
            Self::Rm(args) => rm(args, context).await,
        }
    }
}

async fn rm(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let answer = client.control().token_remove(pb::TokenRemoveRequest { names: args.names }).await;
    let removed = answer.map_err(|status| refused("cannot take tokens away", &status))?.into_inner().removed;
    for name in removed {
        terminal::print_line(&name)?;
    }
    Ok(0)
}
