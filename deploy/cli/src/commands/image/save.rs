//! `berth image save`.

use std::io::IsTerminal;
use std::path::PathBuf;

use berth_proto::pb;
use clap::Args;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::progress::{Board, Line, Mark};
use crate::ui::{Failure, OrFail, Outcome, human};

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
    let mut chunks = answer.map_err(|status| refused(&what, &status))?.into_inner();
    let Some(path) = &args.output else {
        copy(&what, &mut chunks, &mut tokio::io::stdout()).await?;
        return Ok(0);
    };
    let part = path.with_file_name(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = async {
        let mut file = tokio::fs::File::create(&part).await.or_fail(|| format!("cannot write {}", part.display()))?;
        copy(&what, &mut chunks, &mut file).await?;
        file.sync_all().await.or_fail(|| format!("cannot write {}", part.display()))?;
        tokio::fs::rename(&part, path).await.or_fail(|| format!("cannot write {}", path.display()))
    };
    let outcome = written.await;
    if outcome.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    }
    outcome.map(|()| 0)
}

async fn copy(
    what: &str,
    chunks: &mut tonic::Streaming<pb::CopyChunk>,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let mut board = Board::new(!std::io::stderr().is_terminal());
    let mut written = 0;
    while let Some(chunk) = chunks.message().await.map_err(|status| refused(what, &status))? {
        out.write_all(&chunk.data).await.or_fail(|| what.to_owned())?;
        written += chunk.data.len() as u64;
        board.set("saving", Line::new(Mark::Busy, human::size(written)));
    }
    out.flush().await.or_fail(|| what.to_owned())?;
    board.set("saving", Line::new(Mark::Done, human::size(written)));
    Ok(())
}
