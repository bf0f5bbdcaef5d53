//! `berth image ls`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::ListFlags;
use crate::rollout::wait::now;
use crate::ui::{Outcome, listing, terminal};
use crate::view::image;

/// Flags of `image ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Only images of this repository, or this reference
    image: Option<String>,
    /// Also images without a name
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the images.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters(&["reference", "dangling"])?;
    let client = context.connect().await?;
    let answer = client.node().image_list(pb::ImageListRequest { all: args.all, node_id: String::new() }).await;
    let images = answer.map_err(|status| refused("cannot list images", &status))?.into_inner().images;
    let now = now();
    let mut rows: Vec<_> = images.iter().flat_map(|one| image::rows(one, now)).collect();
    let names = |row: &image::ImageRow, wanted: &str| {
        row.repository == wanted
            || row.reference.as_deref() == Some(wanted)
            || format!("{}:{}", row.repository, row.tag) == wanted
    };
    rows.retain(|row| {
        args.image.as_deref().is_none_or(|wanted| names(row, wanted))
            && filters.allow("reference", |wanted| names(row, wanted))
            && filters.allow("dangling", |wanted| row.reference.is_none() == (wanted == "true"))
    });
    rows.sort_by(|a, b| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)));
    if args.list.quiet {
        rows.dedup_by(|a, b| a.id == b.id);
    }
    terminal::done(listing::list(&rows, args.list.look())?)
}
