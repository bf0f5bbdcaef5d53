//! `berth image save`.

use std::io::IsTerminal;
use std::path::PathBuf;

use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::commands::chunks::write_chunks;
use crate::ui::{Failure, Outcome};

/// Flags of `image save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Images, by reference or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the archive. A file appears under its name only when it is whole.
pub async fn run(args: SaveArgs, context: &Context) -> Outcome {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(
            Failure::usage("refusing to write an archive to a terminal").hint("use -o FILE, or redirect stdout")
        );
    }
    let client = context.connect().await?;
    let what = format!("cannot save {}", args.images.join(", "));
    let answer = client.node().image_save(pb::ImageSaveRequest { images: args.images.clone() }).await;
    let chunks = answer.map_err(|status| refused(&what, &status))?.into_inner();
    write_chunks(&what, chunks, |chunk: pb::CopyChunk| chunk.data, args.output.as_deref()).await?;
    Ok(0)
}
