//! `berth image inspect`.

use berth_proto::pb;
use berth_proto::time::Timestamp;
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::InspectFlags;
use crate::ui::{Outcome, listing, terminal};

/// Flags of `image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Images, by reference, id or beginning of an id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
}

#[derive(Serialize)]
struct Whole {
    id: String,
    references: Vec<String>,
    digests: Vec<String>,
    created_at: Timestamp,
    size: u64,
    in_use: u32,
    config: Value,
    manifest: Value,
}

/// Prints the images in full.
pub async fn run(args: InspectArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut found = Vec::new();
    for image in &args.images {
        let answer = client.node().image_inspect(pb::ImageInspectRequest { image: image.clone() }).await;
        let answer = answer.map_err(|status| refused(&format!("cannot inspect {image}"), &status))?;
        found.push(whole(answer.into_inner()));
    }
    terminal::done(listing::data(&found, args.inspect.format)?)
}

fn whole(answer: pb::ImageInspectResponse) -> Whole {
    let summary = answer.summary.unwrap_or_default();
    let json = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    Whole {
        id: summary.id,
        references: summary.references,
        digests: summary.digests,
        created_at: Timestamp(summary.created_at),
        size: summary.size,
        in_use: summary.in_use,
        config: json(answer.config_json),
        manifest: json(answer.manifest_json),
    }
}
