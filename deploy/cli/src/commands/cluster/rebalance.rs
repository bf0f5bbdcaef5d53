//! `berth cluster rebalance`.

use berth_proto::pb;
use clap::{Args, ValueEnum};

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::{Failure, Format, Outcome, listing, terminal};
use crate::view::foresight;

/// Flags of `cluster rebalance`.
#[derive(Debug, Args)]
pub struct RebalanceArgs {
    /// Only show the moves and what they bring
    #[arg(long)]
    dry_run: bool,
    /// What the moves are for
    #[arg(long, value_enum, default_value_t = Goal::FreeNodes)]
    goal: Goal,
    /// Most moves
    #[arg(long, value_name = "N", default_value_t = 20)]
    moves: u32,
    /// Print the proposal as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
}

/// What moves are for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Goal {
    /// As many nodes as possible without tasks
    FreeNodes,
    /// The fullest nodes less full
    Level,
}

/// Shows the moves.
pub async fn run(args: RebalanceArgs, context: &Context) -> Outcome {
    if !args.dry_run {
        let failure = Failure::usage("tasks that run are not moved by this command yet");
        return Err(failure.hint("`--dry-run` shows the moves; drain a node to move its tasks"));
    }
    let goal = match args.goal {
        Goal::FreeNodes => pb::cluster_rebalance_request::Goal::FreeNodes,
        Goal::Level => pb::cluster_rebalance_request::Goal::Level,
    };
    let client = context.connect().await?;
    let request = pb::ClusterRebalanceRequest { goal: goal.into(), moves: args.moves };
    let answer = client.control().cluster_rebalance(request).await;
    let answer = answer.map_err(|status| refused("cannot propose moves", &status))?.into_inner();
    terminal::print(match args.format {
        Format::Table => foresight::rebalance_text(&answer),
        format => listing::data(&foresight::rebalance_rows(&answer), format)?,
    })?;
    Ok(0)
}
