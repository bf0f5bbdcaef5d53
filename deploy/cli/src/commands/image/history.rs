//! `berth image history`.

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::rollout::wait::now;
use crate::ui::{Format, Look, Outcome, listing, terminal};
use crate::view::image::HistoryRow;

/// Flags of `image history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Image, by reference, id or beginning of an id
    image: String,
    /// Print as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
    /// Do not cut long values
    #[arg(long)]
    no_trunc: bool,
}

/// Shows the layers, newest first.
pub async fn run(args: HistoryArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let answer = client.node().image_history(pb::ImageInspectRequest { image: args.image.clone() }).await;
    let what = format!("cannot show the history of {}", args.image);
    let layers = answer.map_err(|status| refused(&what, &status))?.into_inner().layers;
    let now = now();
    let rows: Vec<_> = layers.into_iter().map(|layer| HistoryRow::new(layer, now)).collect();
    let look = Look { format: args.format, quiet: false, no_trunc: args.no_trunc };
    terminal::done(listing::list(&rows, look)?)
}
