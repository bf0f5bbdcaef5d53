//! Copies between a container and a person, as tar streams.
//!
//! Owns the streams. The walking, packing and unpacking are in the files beside this one.

use std::io;

use berth_proto::pb;
use pb::copy_to_chunk::Chunk;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::pipe::{ChunkReader, ChunkWriter};
use super::service::Answers;
use super::tree::Root;
use super::{LocalService, pack, refused, unpack};

/// Chunks that wait for a slow client or a slow disk.
const QUEUE: usize = 8;

/// Packs a path of a container.
pub async fn copy_from(service: &LocalService, request: pb::CopyFromRequest) -> Result<Answers<pb::CopyChunk>, Status> {
    let root = root(service, &request.task_id).await?;
    let path = request.path.clone();
    // Said at once, not in the middle of a stream.
    let (root, found) = blocking(move || {
        let found = root.find(&path, true);
        (root, found)
    })
    .await?;
    found.map_err(|error| failed(&request.path, &error.into()))?;
    let (send, mut chunks) = mpsc::channel(QUEUE);
    let (answers, receive) = mpsc::channel(QUEUE);
    let path = request.path.clone();
    let packing =
        tokio::task::spawn_blocking(move || pack::pack(&root, &path, request.follow_link, ChunkWriter::new(send)));
    tokio::spawn(async move {
        while let Some(data) = chunks.recv().await {
            if answers.send(Ok(pb::CopyChunk { data })).await.is_err() {
                // The closed channel ends the packing, too.
                return;
            }
        }
        let last = match packing.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => failed(&request.path, &error),
            Err(error) => Status::internal(error.to_string()),
        };
        let _ = answers.send(Err(last)).await;
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

/// Unpacks a stream into a directory of a container.
pub async fn copy_to(service: &LocalService, mut chunks: Streaming<pb::CopyToChunk>) -> Result<(), Status> {
    let first = chunks.next().await.transpose()?.and_then(|first| first.chunk);
    let Some(Chunk::Target(target)) = first else {
        return Err(Status::invalid_argument("the first message must be `target`"));
    };
    let root = root(service, &target.task_id).await?;
    let (send, receive) = mpsc::channel(QUEUE);
    let path = target.path.clone();
    let unpacking =
        tokio::task::spawn_blocking(move || unpack::unpack(&root, &path, target.keep_owner, ChunkReader::new(receive)));
    while let Some(chunk) = chunks.next().await {
        let data = match chunk {
            Ok(pb::CopyToChunk { chunk: Some(Chunk::Data(data)) }) => Ok(data),
            Ok(_) => continue,
            Err(status) => Err(io::Error::other(status)),
        };
        // An unpacking that has failed takes no more; its error says why.
        if send.send(data).await.is_err() {
            break;
        }
    }
    drop(send);
    let unpacked = unpacking.await.map_err(|error| Status::internal(error.to_string()))?;
    unpacked.map_err(|error| failed(&target.path, &error))
}

async fn root(service: &LocalService, task: &str) -> Result<Root, Status> {
    let view = service.task(task)?;
    let path = service.runtime.rootfs(&view.task.id.to_string()).await.map_err(|error| refused(&error))?;
    let opened = blocking(move || Root::open(&path)).await?;
    opened.map_err(|error| Status::failed_precondition(format!("cannot open the container's files: {error}")))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Status::internal(error.to_string()))
}

fn failed(path: &str, error: &io::Error) -> Status {
    let text = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => format!("{path}: the container's file system is read-only there"),
        _ => format!("{path}: {error}"),
    };
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(text),
        io::ErrorKind::StorageFull => Status::resource_exhausted(text),
        io::ErrorKind::PermissionDenied => Status::permission_denied(text),
        _ => Status::failed_precondition(text),
    }
}
