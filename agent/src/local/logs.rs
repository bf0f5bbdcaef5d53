//! Logs of tasks, or of all tasks of a service on this node: merged by time, followed over rotations, replicas that end and
//! replicas that come.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::pb;
use berth_shim::log::{ReadOptions, Stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::service::Answers;
use super::{LocalService, short_name};
use crate::log::{Merge, Pick, TaskLine};
use crate::worker::TaskView;

/// Records that wait for a slow client; reading stops meanwhile.
const QUEUE: usize = 1024;
/// Records read at one look.
const BATCH: usize = 512;
/// Between two looks while nothing comes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Whose logs.
enum Whose {
    Service(ServiceId),
    Tasks(Vec<TaskId>),
}

struct Follower {
    service: LocalService,
    whose: Whose,
    request: pb::LogsRequest,
    names: BTreeMap<TaskId, String>,
    send: mpsc::Sender<Result<pb::LogRecord, Status>>,
}

/// Streams logs.
#[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
pub fn stream(service: &LocalService, request: pb::LogsRequest) -> Result<Answers<pb::LogRecord>, Status> {
    let whose = match &request.service_id {
        Some(id) => Whose::Service(id.parse().map_err(|error| Status::invalid_argument(format!("service: {error}")))?),
        None => {
            let tasks = request.task_ids.iter().map(|id| service.task(id).map(|view| view.task.id));
            Whose::Tasks(tasks.collect::<Result<_, _>>()?)
        }
    };
    let (send, receive) = mpsc::channel(QUEUE);
    let shutdown = service.shutdown.clone();
    let follower = Follower { service: service.clone(), whose, request, names: BTreeMap::new(), send };
    tokio::spawn(async move {
        let send = follower.send.clone();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // Dropped half-way: the client sees the stream end.
            result = follower.run() => if let Err(status) = result {
                // A client that is gone needs no reason.
                let _ = send.send(Err(status)).await;
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

impl Follower {
    async fn run(mut self) -> Result<(), Status> {
        let both = !self.request.stdout && !self.request.stderr;
        let pick = Pick { stdout: self.request.stdout || both, stderr: self.request.stderr || both };
        let mut merge = Merge::new(pick);
        let mut first = true;
        loop {
            // Looked at before reading: what a task wrote before it ended is read after.
            let views = self.views();
            let over = self.is_over(&views);
            self.add_new(&mut merge, &views, first)?;
            first = false;
            let (back, lines) = read(merge).await?;
            merge = back;
            let had_some = !lines.is_empty();
            for line in lines {
                if self.send.send(Ok(self.record(line))).await.is_err() {
                    return Ok(());
                }
            }
            if had_some {
                continue;
            }
            if !self.request.follow || over {
                return Ok(());
            }
            let known: Vec<TaskId> = views.iter().map(|view| view.task.id).collect();
            merge.retain(|task| known.contains(&task));
            tokio::select! {
                biased;
                () = self.send.closed() => return Ok(()),
                // Cancel-safe, both.
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn views(&self) -> Vec<TaskView> {
        match &self.whose {
            Whose::Service(id) => {
                self.service.worker.views().into_iter().filter(|view| view.task.service == *id).collect()
            }
            Whose::Tasks(tasks) => tasks.iter().filter_map(|task| self.service.worker.view(*task)).collect(),
        }
    }

    /// Following ends with the tasks that were named, or at `until`; a service may always get new tasks.
    fn is_over(&self, views: &[TaskView]) -> bool {
        let now = std::time::SystemTime::now();
        let passed = |until: i64| berth_proto::time::Timestamp::from(now).0 > until;
        let ended = matches!(self.whose, Whose::Tasks(_)) && views.iter().all(|view| view.status.state.is_terminal());
        ended || self.request.until.is_some_and(passed)
    }

    #[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
    fn add_new(&mut self, merge: &mut Merge, views: &[TaskView], first: bool) -> Result<(), Status> {
        let time = |at: Option<i64>| at.map(|at| u64::try_from(at).unwrap_or(0));
        for view in views {
            if merge.has(view.task.id) {
                continue;
            }
            let options = ReadOptions {
                // A replica that came while following is shown from its beginning.
                tail: self.request.tail.filter(|_| first).map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
                since: time(self.request.since),
                until: time(self.request.until),
            };
            let path = self.service.runtime.log_path(&view.task.id.to_string());
            let added = merge.add(view.task.id, &path, &options);
            added.map_err(|error| Status::internal(format!("cannot read {}: {error}", path.display())))?;
            self.names.insert(view.task.id, short_name(view));
        }
        Ok(())
    }

    fn record(&self, line: TaskLine) -> pb::LogRecord {
        let stream = match line.record.stream {
            Stream::Stdout => pb::log_record::Stream::Stdout,
            Stream::Stderr => pb::log_record::Stream::Stderr,
        };
        pb::LogRecord {
            at: i64::try_from(line.record.time).unwrap_or(i64::MAX),
            stream: stream.into(),
            line: line.record.line.into(),
            partial: line.record.partial,
            task_id: line.task.to_string(),
            task_name: self.names.get(&line.task).cloned().unwrap_or_default(),
            node_id: self.service.node.to_string(),
        }
    }
}

async fn read(mut merge: Merge) -> Result<(Merge, Vec<TaskLine>), Status> {
    let read = tokio::task::spawn_blocking(move || merge.read(BATCH).map(|lines| (merge, lines))).await;
    read.map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| Status::internal(format!("cannot read a log: {error}")))
}
