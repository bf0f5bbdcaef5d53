//! `berth image load`.

use std::io::IsTerminal;
use std::path::PathBuf;

use berth_proto::pb;
use bytes::Bytes;
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::progress::follow;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::ui::progress::Board;
use crate::ui::{Failure, OrFail, Outcome, terminal};

/// Bytes in one message.
const CHUNK: usize = 1 << 20;
/// Messages that wait; the reader pauses when the daemon is slower.
const QUEUE: usize = 4;

/// Flags of `image load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Archive to read [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Sends the archive and prints the references that it brought.
pub async fn run(args: LoadArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let (name, source): (String, Box<dyn AsyncRead + Send + Unpin>) = match &args.input {
        Some(path) => {
            let file = tokio::fs::File::open(path).await.or_fail(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        }
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("no archive: stdin is a terminal").hint("use -i FILE, or pipe an archive in"));
        }
        None => ("stdin".to_owned(), Box::new(tokio::io::stdin())),
    };
    let what = format!("cannot load {name}");
    let (sender, chunks) = mpsc::channel(QUEUE);
    let reader = tokio::spawn(read(source, sender));
    let answer = client.node().image_load(ReceiverStream::new(chunks)).await;
    let mut events = answer.map_err(|status| refused(&what, &status))?.into_inner();
    let mut board = Board::new(args.quiet);
    let ends = follow(&what, &mut events, &mut board).await;
    board.close();
    // A broken source ends the archive early: its error says more than the daemon's.
    if let Ok(Err(error)) = reader.await {
        return Err(Failure::new(format!("{what}: {error}")));
    }
    for end in ends? {
        if end.references.is_empty() {
            terminal::print_line(format!("Loaded image ID: {}", end.image_id))?;
        }
        for reference in end.references {
            terminal::print_line(format!("Loaded image: {reference}"))?;
        }
    }
    Ok(0)
}

async fn read(mut source: impl AsyncRead + Unpin, chunks: mpsc::Sender<pb::ImageLoadChunk>) -> std::io::Result<()> {
    loop {
        let mut data = bytes::BytesMut::with_capacity(CHUNK);
        while data.len() < CHUNK && source.read_buf(&mut data).await? > 0 {}
        let data: Bytes = data.freeze();
        // A closed queue means that the daemon has refused the archive; it says why itself.
        if data.is_empty() || chunks.send(pb::ImageLoadChunk { data }).await.is_err() {
            return Ok(());
        }
    }
}
