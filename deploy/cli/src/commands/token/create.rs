//! `berth token create`.

use std::time::Duration;

use berth_proto::name::TokenName;
use berth_proto::pb;
use berth_proto::state::ApiRole;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::value::{parse_duration, parse_word};
use crate::ui::{Outcome, terminal};

/// Flags of `token create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of who uses it; what is done with it is recorded under this name
    #[arg(value_name = "NAME")]
    name: TokenName,
    /// viewer (looks), operator (runs services, takes nodes in and out of service) or admin (everything)
    #[arg(long, value_name = "ROLE", value_parser = parse_word::<ApiRole>)]
    role: ApiRole,
    /// It is refused after this time, e.g. 24h [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    expires: Option<Duration>,
}

/// Prints the token alone, for scripts; what to know of it goes to stderr.
pub async fn run(args: CreateArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let request = pb::TokenCreateRequest {
        name: args.name.to_string(),
        role: pb::ApiRole::from(args.role).into(),
        lifetime: args.expires.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX)),
    };
    let answer = client.control().token_create(request).await;
    let made = answer.map_err(|status| refused(&format!("cannot make token {}", args.name), &status))?.into_inner();
    terminal::say("keep it: it cannot be shown again");
    terminal::print_line(&made.text)?;
    Ok(0)
}
