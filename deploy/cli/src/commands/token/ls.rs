//! `berth token ls`.

use std::time::SystemTime;

use berth_proto::pb;
use berth_proto::state::ApiRole;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::ListFlags;
use crate::ui::{Outcome, listing, terminal};
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
    let now = SystemTime::now().into();
    let mut rows: Vec<TokenRow> = tokens.into_iter().map(|token| TokenRow::new(token, now)).collect();
    rows.retain(|row| {
        filters.allow("name", |wanted| row.name.contains(wanted))
            && filters.allow("role", |wanted| wanted.parse::<ApiRole>() == Ok(row.role))
    });
    terminal::done(listing::list(&rows, args.list.look())?)
}
