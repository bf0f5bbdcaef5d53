//! Use of resources of running tasks, once or on a period.

use std::time::{Duration, SystemTime};

use berth_proto::pb;
use berth_proto::time::Timestamp;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::service::Answers;
use super::{LocalService, short_name};
use crate::worker::TaskView;

const QUEUE: usize = 64;
const LEAST: Duration = Duration::from_millis(100);

/// Samples of the tasks named, or of all that run.
#[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
pub fn stream(service: &LocalService, request: pb::StatsRequest) -> Result<Answers<pb::StatsSample>, Status> {
    for id in &request.task_ids {
        service.task(id)?;
    }
    let (send, receive) = mpsc::channel(QUEUE);
    let service = service.clone();
    tokio::spawn(async move {
        let shutdown = service.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // Dropped half-way: the client sees the stream end.
            () = sample(&service, &request, &send) => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

async fn sample(
    service: &LocalService,
    request: &pb::StatsRequest,
    send: &mpsc::Sender<Result<pb::StatsSample, Status>>,
) {
    let period = Duration::from_nanos(request.interval).max(LEAST);
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        let views = match request.task_ids.is_empty() {
            true => service.worker.views(),
            false => request.task_ids.iter().filter_map(|id| service.task(id).ok()).collect(),
        };
        let running = views.iter().filter(|view| view.status.container.as_ref().is_some_and(|c| c.pid > 0));
        for sample in join_all(running.map(|view| one(service, view))).await.into_iter().flatten() {
            if send.send(Ok(sample)).await.is_err() {
                return;
            }
        }
        if request.interval == 0 || send.is_closed() {
            return;
        }
    }
}

async fn one(service: &LocalService, view: &TaskView) -> Option<pb::StatsSample> {
    // A task that ended meanwhile has none.
    let stats = service.runtime.stats(&view.task.id.to_string()).await.ok()?;
    let online = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Some(pb::StatsSample {
        task_id: view.task.id.to_string(),
        task_name: short_name(view),
        at: Timestamp::from(SystemTime::now()).0,
        cpu_nanos: stats.cpu_ns,
        memory_bytes: stats.memory,
        memory_limit: stats.memory_limit.unwrap_or(0),
        pids: stats.pids,
        pids_limit: stats.pids_limit.unwrap_or(0),
        net_rx_bytes: stats.net_rx,
        net_tx_bytes: stats.net_tx,
        block_read_bytes: stats.block_read,
        block_write_bytes: stats.block_write,
        online_cpus: u32::try_from(online).unwrap_or(1),
    })
}
