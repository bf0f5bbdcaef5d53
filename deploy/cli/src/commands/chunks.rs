//! A stream of chunks, written to a file or to stdout: archives of images, backups.

use std::io::IsTerminal;
use std::path::Path;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::client::refusal::refused;
use crate::ui::progress::{Board, Line, Mark};
use crate::ui::{Failure, OrFail, human};

/// Writes a stream of chunks to a file, which appears under its name only when it is whole and is its owner's alone, or to
/// stdout.
pub async fn write_chunks<M>(
    what: &str,
    mut chunks: tonic::Streaming<M>,
    data: impl Fn(M) -> Bytes,
    path: Option<&Path>,
) -> Result<(), Failure> {
    let Some(path) = path else {
        return copy(what, &mut chunks, &data, &mut tokio::io::stdout()).await;
    };
    let part = path.with_file_name(format!(".{}.part", path.file_name().unwrap_or_default().to_string_lossy()));
    let written = async {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part).await;
        let mut file = file.or_fail(|| format!("cannot write {}", part.display()))?;
        copy(what, &mut chunks, &data, &mut file).await?;
        file.sync_all().await.or_fail(|| format!("cannot write {}", part.display()))?;
        tokio::fs::rename(&part, path).await.or_fail(|| format!("cannot write {}", path.display()))
    };
    let outcome = written.await;
    if outcome.is_err() {
        let _ = tokio::fs::remove_file(&part).await;
    }
    outcome
}

async fn copy<M>(
    what: &str,
    chunks: &mut tonic::Streaming<M>,
    data: impl Fn(M) -> Bytes,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Failure> {
    let mut board = Board::new(!std::io::stderr().is_terminal());
    let mut written = 0;
    while let Some(chunk) = chunks.message().await.map_err(|status| refused(what, &status))? {
        let data = data(chunk);
        out.write_all(&data).await.or_fail(|| what.to_owned())?;
        written += data.len() as u64;
        board.set("saving", Line::new(Mark::Busy, human::size(written)));
    }
    out.flush().await.or_fail(|| what.to_owned())?;
    board.set("saving", Line::new(Mark::Done, human::size(written)));
    Ok(())
}
