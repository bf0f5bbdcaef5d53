//! Images of this node, for people.

use std::collections::BTreeSet;

use berth_image::{
    ImageError, ImageSummary, Progress, ProgressEvent, PruneFilter, Reference, RegistryAuth, RemoveReport,
};
use berth_proto::pb;
use berth_proto::time::Timestamp;
use pb::image_progress::Done;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{ReaderStream, StreamReader};
use tonic::{Status, Streaming};

use super::LocalService;
use super::progress::{self, Translator};
use super::service::Answers;

/// Messages that wait for a slow client.
const QUEUE: usize = 64;
/// Bytes between an archive's writer and the wire.
const PIPE: usize = 1 << 20;

type Send = mpsc::Sender<Result<pb::ImageProgress, Status>>;

/// All images; those without a name only with `all`.
pub fn list(service: &LocalService, request: pb::ImageListRequest) -> pb::ImageListResponse {
    let images = service.images.list().into_iter().filter(|image| request.all || !image.names.is_empty());
    pb::ImageListResponse { images: images.map(summary).collect() }
}

/// One image.
pub async fn inspect(service: &LocalService, image: &str) -> Result<pb::ImageInspectResponse, Status> {
    let details = service.images.inspect(image).await.map_err(refused)?;
    let text = |blob: Option<Vec<u8>>| String::from_utf8_lossy(&blob.unwrap_or_default()).into_owned();
    let config = service.images.read_blob(&details.summary.id).await.map_err(refused)?;
    let manifest = service.images.read_blob(&details.manifest).await.map_err(refused)?;
    Ok(pb::ImageInspectResponse {
        summary: Some(summary(details.summary)),
        config_json: text(config),
        manifest_json: text(manifest),
    })
}

/// How an image came to be, newest step first.
pub async fn history(service: &LocalService, image: &str) -> Result<pb::ImageHistoryResponse, Status> {
    let items = service.images.history(image).await.map_err(refused)?;
    let layers = items.into_iter().map(|item| pb::image_history_response::Layer {
        created_at: time(item.created.as_deref()),
        created_by: item.created_by,
        size: item.size,
        comment: item.comment,
        empty: item.empty_layer,
    });
    Ok(pb::ImageHistoryResponse { layers: layers.collect() })
}

/// Loads an archive.
pub fn load(service: &LocalService, chunks: Streaming<pb::ImageLoadChunk>) -> Answers<pb::ImageProgress> {
    let store = service.images.clone();
    work(service, move |send, progress| async move {
        let bytes = chunks.map(|chunk| chunk.map(|chunk| chunk.data).map_err(std::io::Error::other));
        let loaded = store.load(StreamReader::new(bytes), progress).await?;
        let mut told = BTreeSet::new();
        for image in loaded {
            let references: Vec<String> = image.names.iter().map(Reference::familiar).collect();
            // An archive of several names of one image has it several times.
            if !told.insert((image.id.to_string(), references.clone())) {
                continue;
            }
            let done = Done { references, image_id: image.id.to_string(), ..Done::default() };
            let _ = send.send(Ok(progress::done(done))).await;
        }
        Ok(())
    })
}

/// Pulls an image.
#[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
pub fn pull(service: &LocalService, request: pb::ImagePullRequest) -> Result<Answers<pb::ImageProgress>, Status> {
    let reference = Reference::parse(&request.reference).map_err(|error| refused(error.into()))?;
    let host = berth_image::Platform::host();
    let own = format!("{}/{}", host.os, host.architecture);
    if !request.platform.is_empty() && !request.platform.starts_with(&own) {
        return Err(Status::unimplemented(format!("this node pulls images for {own} only, not {}", request.platform)));
    }
    let auth = match request.auth {
        Some(auth) if !auth.identity_token.is_empty() => RegistryAuth::IdentityToken(auth.identity_token),
        Some(auth) if !auth.username.is_empty() => {
            RegistryAuth::Basic { username: auth.username, password: auth.password }
        }
        _ => RegistryAuth::Anonymous,
    };
    let store = service.images.clone();
    Ok(work(service, move |send, progress| async move {
        let pulled = store.pull(&reference, auth, progress).await?;
        let done = Done {
            references: vec![reference.familiar()],
            image_id: pulled.id.to_string(),
            digest: pulled.repo_digest.digest().map(|digest| digest.to_string()).unwrap_or_default(),
            up_to_date: !pulled.changed,
        };
        let _ = send.send(Ok(progress::done(done))).await;
        Ok(())
    }))
}

/// Writes images into one archive.
#[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
pub fn save(service: &LocalService, request: pb::ImageSaveRequest) -> Result<Answers<pb::CopyChunk>, Status> {
    for image in &request.images {
        service.images.resolve(image).map_err(refused)?;
    }
    let (write, read) = tokio::io::duplex(PIPE);
    let (store, shutdown) = (service.images.clone(), service.shutdown.clone());
    let (send, receive) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let saving = tokio::spawn(async move { store.save(&request.images, write).await });
        let mut chunks = ReaderStream::with_capacity(read, super::pipe::CHUNK);
        loop {
            let chunk = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Cancel-safe: a chunk is taken whole or not at all.
                chunk = chunks.next() => chunk,
            };
            let Some(Ok(data)) = chunk else { break };
            if send.send(Ok(pb::CopyChunk { data })).await.is_err() {
                return;
            }
        }
        let failed = match saving.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => refused(error),
            Err(error) => Status::internal(error.to_string()),
        };
        let _ = send.send(Err(failed)).await;
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

/// One more name.
pub async fn tag(service: &LocalService, request: pb::ImageTagRequest) -> Result<(), Status> {
    let target = Reference::parse(&request.target).map_err(|error| refused(error.into()))?;
    service.images.tag(&request.source, &target).await.map_err(refused)
}

/// Takes names, and images with their last name.
pub async fn remove(
    service: &LocalService,
    request: pb::ImageRemoveRequest,
) -> Result<pb::ImageRemoveResponse, Status> {
    let mut all = RemoveReport::default();
    for image in &request.images {
        let report = service.images.remove(image, request.force).await.map_err(refused)?;
        all.untagged.extend(report.untagged);
        all.deleted.extend(report.deleted);
        all.reclaimed += report.reclaimed;
    }
    Ok(removed(all))
}

/// Removes unused images.
pub async fn prune(service: &LocalService, request: pb::ImagePruneRequest) -> Result<pb::ImageRemoveResponse, Status> {
    let labels = request.labels.into_iter().map(|(key, value)| (key, Some(value).filter(|value| !value.is_empty())));
    let filter = PruneFilter {
        added_before: request.until.map(|nanos| nanos / 1_000_000_000),
        labels: labels.collect(),
        ..PruneFilter::default()
    };
    service.images.prune(request.all, filter).await.map(removed).map_err(refused)
}

/// Runs long work beside the stream of its progress; a client that goes away ends the work.
fn work<F>(
    service: &LocalService,
    run: impl FnOnce(Send, Progress) -> F + std::marker::Send + 'static,
) -> Answers<pb::ImageProgress>
where
    F: Future<Output = Result<(), ImageError>> + std::marker::Send,
{
    let (send, receive) = mpsc::channel(QUEUE);
    let (progress, events) = Progress::channel(QUEUE);
    let shutdown = service.shutdown.clone();
    tokio::spawn(async move {
        let working = async {
            let (result, ()) = tokio::join!(run(send.clone(), progress), forward(events, &send));
            if let Err(error) = result {
                let _ = send.send(Err(refused(error))).await;
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // What was fetched stays for the next attempt.
            () = send.closed() => {}
            () = working => {}
        }
    });
    Box::pin(ReceiverStream::new(receive))
}

async fn forward(mut events: mpsc::Receiver<ProgressEvent>, send: &Send) {
    let mut translator = Translator::default();
    while let Some(event) = events.recv().await {
        for message in translator.translate(event) {
            // Progress is dropped rather than holding the work up.
            let _ = send.try_send(Ok(message));
        }
    }
}

fn summary(image: ImageSummary) -> pb::ImageSummary {
    pb::ImageSummary {
        id: image.id.to_string(),
        references: image.names.iter().map(Reference::familiar).collect(),
        digests: image.repo_digests.iter().map(Reference::familiar).collect(),
        created_at: time(image.created.as_deref()),
        size: image.size,
        in_use: u32::try_from(image.in_use_by.len()).unwrap_or(u32::MAX),
    }
}

fn removed(report: RemoveReport) -> pb::ImageRemoveResponse {
    pb::ImageRemoveResponse {
        untagged: report.untagged.iter().map(Reference::familiar).collect(),
        deleted: report.deleted.iter().map(ToString::to_string).collect(),
        reclaimed_bytes: report.reclaimed,
    }
}

/// Nanoseconds since the epoch; 0 when the image does not say.
fn time(text: Option<&str>) -> i64 {
    text.and_then(|text| text.parse::<Timestamp>().ok()).map_or(0, |at| at.0)
}

/// An error of the store on the wire.
#[allow(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn refused(error: ImageError) -> Status {
    let text = error.report();
    match error {
        ImageError::NotFound { .. } => Status::not_found(text),
        ImageError::InUse { .. } | ImageError::ManyNames { .. } => Status::failed_precondition(text),
        ImageError::Reference(_) | ImageError::Ambiguous { .. } | ImageError::TagWithDigest { .. } => {
            Status::invalid_argument(text)
        }
        ImageError::Archive { .. } | ImageError::Malformed { .. } | ImageError::Unpack(_) => {
            Status::invalid_argument(text)
        }
        ImageError::DiskFull { .. } => Status::resource_exhausted(text),
        ImageError::Registry(_) => Status::unavailable(text),
        _ => Status::internal(text),
    }
}
