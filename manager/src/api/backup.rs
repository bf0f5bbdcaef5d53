//! Everything that the cluster keeps, as a stream: written while the manager goes on, as fast as it is read.

use std::io::{self, Write};

use berth_proto::pb;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::raft::recover::write_backup;
use crate::store::Snapshot;

/// Bytes in one message.
const CHUNK: usize = 256 << 10;
/// Chunks that wait for a reader; the writer waits beyond them.
const CHUNKS: usize = 4;

/// A backup of the state.
pub fn stream(state: Snapshot) -> BoxStream<'static, Result<pb::BackupChunk, Status>> {
    let (send, chunks) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { send: send.clone(), buffer: Vec::with_capacity(CHUNK) };
        let written = write_backup(&state, &mut chunks).and_then(|()| chunks.flush());
        if let Err(error) = written {
            // A reader that is gone needs no reason.
            let _ = send.blocking_send(Err(Status::internal(format!("the backup broke off: {error}"))));
        }
    });
    ReceiverStream::new(chunks).boxed()
}

struct Chunks {
    send: mpsc::Sender<Result<pb::BackupChunk, Status>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        let sent = self.send.blocking_send(Ok(pb::BackupChunk { data }));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads it any more"))
    }
}
