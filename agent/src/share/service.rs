//! Gives images to other nodes: what a reference means here, and blobs by digest.
//!
//! Only what is whole is given. The number of blobs under way is bounded; who comes beyond it waits, and then goes elsewhere.

use std::io::SeekFrom;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use berth_image::{Digest, ImageError, ImageStore, Platform, Reference};
use berth_proto::pb;
use berth_proto::pb::image_share_server::{ImageShare, ImageShareServer};
use futures::{Stream, StreamExt};
use tokio::io::AsyncSeekExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Blobs that go out at the same time.
const TRANSFERS: usize = 16;
/// How long a node waits for its turn before it is told to go elsewhere.
const TURN: Duration = Duration::from_secs(10);
/// A node that takes nothing for so long is given up: others wait.
const STALL: Duration = Duration::from_secs(30);
/// Bytes in one message.
const CHUNK: usize = 128 << 10;
/// Messages between disk and network; a full queue holds the disk back.
const QUEUE: usize = 4;

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct ShareService {
    images: ImageStore,
    transfers: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl ShareService {
    /// Gives what this store has, until `shutdown`.
    pub fn new(images: ImageStore, shutdown: CancellationToken) -> Self {
        Self { images, transfers: Arc::new(Semaphore::new(TRANSFERS)), shutdown }
    }

    /// For a server that only nodes of the cluster reach.
    pub fn into_server(self) -> ImageShareServer<Self> {
        ImageShareServer::new(self)
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.transfers).acquire_owned()).await;
        let busy = || Status::unavailable("it is busy giving images to others");
        turn.map_err(|_| busy())?.map_err(|_| busy())
    }
}

type Chunks = Pin<Box<dyn Stream<Item = Result<pb::CopyChunk, Status>> + Send>>;

#[tonic::async_trait]
impl ImageShare for ShareService {
    async fn resolve(
        &self,
        request: Request<pb::ShareResolveRequest>,
    ) -> Result<Response<pb::ShareResolveResponse>, Status> {
        let request = request.into_inner();
        let invalid = |error: &dyn std::error::Error| Status::invalid_argument(error.to_string());
        let reference = Reference::parse(&request.reference).map_err(|error| invalid(&error))?;
        let platform = request.platform.unwrap_or_default();
        let platform = Platform { os: platform.os, architecture: platform.architecture, variant: None };
        let found = self.images.shared_manifest(&reference, &platform).await.map_err(failed)?;
        let missing = || Status::not_found(format!("no such image on this node: {}", reference.familiar()));
        let found = found.ok_or_else(missing)?;
        Ok(Response::new(pb::ShareResolveResponse {
            digest: Digest::of(&found.document).to_string(),
            media_type: found.media_type,
            manifest: found.document.into(),
        }))
    }

    type BlobStream = Chunks;

    async fn blob(&self, request: Request<pb::ShareBlobRequest>) -> Result<Response<Chunks>, Status> {
        let pb::ShareBlobRequest { digest, offset } = request.into_inner();
        let digest: Digest = digest.parse().map_err(|error| Status::invalid_argument(format!("blob: {error}")))?;
        // Nobody waits in vain for what is not here.
        if !self.images.has_blob(&digest) {
            return Err(Status::not_found(format!("no such blob on this node: {digest}")));
        }
        let turn = self.turn().await?;
        let missing = || Status::not_found(format!("no such blob on this node: {digest}"));
        // An open file stays whole, even when its image is removed meanwhile.
        let file = self.images.open_blob(&digest).await.map_err(failed)?.ok_or_else(missing)?;
        let mut file = tokio::fs::File::from_std(file);
        let broken = |error: std::io::Error| Status::internal(format!("cannot read blob {digest}: {error}"));
        let length = file.metadata().await.map_err(broken)?.len();
        if offset > length {
            return Err(Status::out_of_range(format!("blob {digest} has {length} bytes, not {offset}")));
        }
        file.seek(SeekFrom::Start(offset)).await.map_err(broken)?;
        let (send, receive) = mpsc::channel(QUEUE);
        tokio::spawn(give(file, send, turn, self.shutdown.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }
}

/// Sends a file until its end, or until nobody takes it any more.
async fn give(
    file: tokio::fs::File,
    send: mpsc::Sender<Result<pb::CopyChunk, Status>>,
    _turn: OwnedSemaphorePermit,
    shutdown: CancellationToken,
) {
    let mut chunks = ReaderStream::with_capacity(file, CHUNK);
    loop {
        let chunk = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // Cancel-safe: a chunk is taken whole or not at all.
            chunk = chunks.next() => chunk,
        };
        let Some(chunk) = chunk else { return };
        let chunk = chunk.map(|data| pb::CopyChunk { data });
        let chunk = chunk.map_err(|error| Status::internal(format!("cannot read a blob: {error}")));
        let ends = chunk.is_err();
        if send.send_timeout(chunk, STALL).await.is_err() || ends {
            return;
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn failed(error: ImageError) -> Status {
    Status::internal(error.report())
}
