//! `berth image tag`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::Outcome;

/// Flags of `image tag`.
#[derive(Debug, Args)]
pub struct TagArgs {
    /// Image, by reference or id
    source: String,
    /// New reference
    target: String,
}

/// Gives the image another name.
pub async fn run(args: TagArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let what = format!("cannot tag {} as {}", args.source, args.target);
    let request = pb::ImageTagRequest { source: args.source, target: args.target };
    client.node().image_tag(request).await.map_err(|status| refused(&what, &status))?;
    Ok(0)
}
