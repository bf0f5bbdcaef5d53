//! `berth cluster token` and `berth cluster init`: what a new machine joins with.

use std::time::Duration;

use berth_proto::pb;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use clap::Args;

use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::value::{parse_duration, parse_word};
use crate::ui::{Failure, Outcome, terminal};

/// Flags of `cluster token`.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// worker or manager
    #[arg(value_name = "ROLE", value_parser = parse_word::<NodeRole>)]
    role: NodeRole,
    /// Print only the token
    #[arg(short, long)]
    quiet: bool,
    /// Make a new one; the one before is refused from then on
    #[arg(long)]
    rotate: bool,
    /// The new one is refused after this time, e.g. 24h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, requires = "rotate")]
    expires: Option<Duration>,
}

/// Flags of `cluster init`.
#[derive(Debug, Args)]
pub struct InitArgs {}

/// Shows a join token, and how to use it.
pub async fn run(args: TokenArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let token = ask(&client, args.role, args.rotate, args.expires).await?;
    if args.quiet {
        terminal::print_line(&token.token)?;
        return Ok(0);
    }
    terminal::done(how_to_join(args.role, &token))
}

/// Shows how other machines join the cluster that the daemon made when it was first started.
pub async fn init(_: InitArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let info = client.info().await?;
    let cluster = info.cluster.unwrap_or_default();
    let mut text = format!("Cluster {} is up; this node is manager {}.\n", cluster.id, info.node_id);
    for role in [NodeRole::Worker, NodeRole::Manager] {
        text.push('\n');
        text.push_str(&how_to_join(role, &ask(&client, role, false, None).await?));
    }
    terminal::done(text)
}

async fn ask(
    client: &Client,
    role: NodeRole,
    rotate: bool,
    lifetime: Option<Duration>,
) -> Result<pb::ClusterTokenResponse, Failure> {
    let lifetime = lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX));
    let request = pb::ClusterTokenRequest { role: pb::NodeRole::from(role).into(), rotate, lifetime };
    let answer = client.control().cluster_token(request).await;
    Ok(answer.map_err(|status| refused("cannot get the join token", &status))?.into_inner())
}

fn how_to_join(role: NodeRole, token: &pb::ClusterTokenResponse) -> String {
    let managers = token.managers.join(",");
    let until = token.expires_at.map(|at| format!(", until {}", Timestamp(at))).unwrap_or_default();
    format!(
        "To add a {}, run this on the new machine{until}:\n\n    berth daemon --join {managers} --token {}\n",
        role.as_str(),
        token.token
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_machine_is_told_one_command() {
        let token = pb::ClusterTokenResponse {
            token: "BERTH-1-x-y".to_owned(),
            expires_at: None,
            managers: vec!["10.0.0.1:4777".to_owned(), "10.0.0.2:4777".to_owned()],
        };
        insta::assert_snapshot!(how_to_join(NodeRole::Worker, &token), @r"
        To add a worker, run this on the new machine:

            berth daemon --join 10.0.0.1:4777,10.0.0.2:4777 --token BERTH-1-x-y
        ");
    }
}
