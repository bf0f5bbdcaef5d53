//! `berth token ls`.

use berth_proto::object::ApiToken;
use berth_proto::pb;
use berth_proto::state::ApiRole;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::ListFlags;
use crate::ui::{Failure, Outcome, listing, terminal};
use crate::view::token::TokenRow;

/// Flags of `token ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the tokens that are good.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&["name", "role"])?;
    let client = context.connect().await?;
    let answer = client.control().token_list(pb::TokenListRequest { stale: context.stale }).await;
    let tokens = answer.map_err(|status| refused("cannot list tokens", &status))?.into_inner().tokens;
    let mut rows = tokens.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
    rows.retain(|row| {
        filters.allow("name", |wanted| row.name.contains(wanted))
            && filters.allow("role", |wanted| wanted.parse::<ApiRole>() == Ok(row.role))
    });
    terminal::done(listing::list(&rows, args.list.look())?)
}

fn row(token: pb::ApiToken) -> Result<TokenRow, Failure> {
    // What is listed has no digest; the domain's word for a token has one.
    let digest = vec![0; 32].into();
    let token = ApiToken::try_from(pb::ApiToken { digest, ..token });
    let token = token.map_err(|error| Failure::new(format!("the daemon's answer makes no sense: {error}")))?;
    Ok(TokenRow::new(&token, std::time::SystemTime::now().into()))
}
