//! `berth image rm`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::not_yet::{Never, NotYet};
use crate::ui::{Failure, Outcome, terminal};

/// Flags of `image rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Images, by reference, id or beginning of an id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Also when ended tasks still name it, or several references do
    #[arg(short, long)]
    force: bool,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_prune: Option<Never>,
}

/// Removes the images.
pub async fn run(args: RmArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let what = format!("cannot remove {}", args.images.join(", "));
    let answer = client.node().image_remove(pb::ImageRemoveRequest { images: args.images, force: args.force }).await;
    report(answer.map_err(|status| refused(&what, &status))?.into_inner())?;
    Ok(0)
}

/// Says what went.
pub(super) fn report(answer: pb::ImageRemoveResponse) -> Result<(), Failure> {
    for reference in answer.untagged {
        terminal::print_line(format!("Untagged: {reference}"))?;
    }
    for id in answer.deleted {
        terminal::print_line(format!("Deleted: {id}"))?;
    }
    Ok(())
}
