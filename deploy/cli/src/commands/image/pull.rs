//! `berth image pull`.

use berth_proto::pb;
use clap::Args;

use super::auth;
use super::progress::follow;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::not_yet::{Never, NotYet};
use crate::ui::progress::Board;
use crate::ui::{Outcome, terminal};

/// Flags of `image pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Image reference
    image: String,
    /// Platform of a multi-platform image, e.g. linux/arm64
    #[arg(long, default_value = "", hide_default_value = true)]
    platform: String,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[arg(short, long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    all_tags: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    disable_content_trust: Option<Never>,
}

/// Pulls the image and prints its reference.
pub async fn run(args: PullArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let auth = auth::for_image(&args.image)?;
    let request = pb::ImagePullRequest { reference: args.image.clone(), platform: args.platform.clone(), auth };
    let what = format!("cannot pull {}", args.image);
    let answer = client.node().image_pull(request).await;
    let mut events = answer.map_err(|status| refused(&what, &status))?.into_inner();
    let mut board = Board::new(args.quiet);
    let ends = follow(&what, &mut events, &mut board).await;
    board.close();
    for end in ends? {
        if !args.quiet && !end.digest.is_empty() {
            terminal::say(format!("Digest: {}", end.digest));
            let status = if end.up_to_date { "Image is up to date" } else { "Downloaded newer image" };
            terminal::say(format!("Status: {status}"));
        }
        let reference = end.references.first().unwrap_or(&args.image);
        terminal::print_line(reference)?;
    }
    Ok(0)
}
