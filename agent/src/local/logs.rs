//! Logs of tasks, or of all tasks of a service on this node: merged by time, followed over rotations, replicas that end and
//! replicas that come.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::pb;
use berth_proto::time::Timestamp;
use berth_shim::log::{ReadOptions, Stream};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::service::Answers;
use super::{LocalService, short_name};
use crate::log::{Merge, Pick, TaskLine, Watch};
use crate::worker::TaskView;

/// Records that wait for a slow client; reading stops meanwhile.
const QUEUE: usize = 1024;
/// Records read at one look.
const BATCH: usize = 512;
/// After a wake-up, so that a log that is written all the time is read in pieces of some size.
const SETTLE: Duration = Duration::from_millis(5);
/// Between two looks while nothing wakes the follower.
const FULL_LOOK: Duration = Duration::from_secs(10);
/// The same where the system does not tell of writes.
const BLIND_LOOK: Duration = Duration::from_millis(250);

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
    /// Rings when one of the logs is written to.
    bell: Arc<Notify>,
    watched: BTreeMap<TaskId, Watch>,
    /// One of the logs cannot be watched.
    blind: bool,
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
    let follower = Follower {
        service: service.clone(),
        whose,
        request,
        names: BTreeMap::new(),
        bell: Arc::default(),
        watched: BTreeMap::new(),
        blind: false,
        send,
    };
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
        let mut statuses = self.service.worker.watch();
        loop {
            // Looked at before reading: what a task wrote before it ended is read after.
            statuses.mark_unchanged();
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
            self.watched.retain(|task, _| merge.has(*task));
            tokio::select! {
                biased;
                // Cancel-safe, all: a ring and a change that nobody took are there at the next wait.
                () = self.send.closed() => return Ok(()),
                () = self.bell.notified() => tokio::time::sleep(SETTLE).await,
                _ = statuses.changed() => {}
                () = tokio::time::sleep(self.patience()) => {}
            }
        }
    }

    /// How long to wait at most before the next look.
    fn patience(&self) -> Duration {
        let look = if self.blind { BLIND_LOOK } else { FULL_LOOK };
        let now = Timestamp::from(SystemTime::now());
        self.request.until.map_or(look, |until| look.min(Timestamp(until.saturating_add(1)).since(now)))
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
        let passed = |until: i64| Timestamp::from(SystemTime::now()).0 > until;
        let ended = matches!(self.whose, Whose::Tasks(_)) && views.iter().all(|view| view.status.state.is_terminal());
        ended || self.request.until.is_some_and(passed)
    }

    #[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
    fn add_new(&mut self, merge: &mut Merge, views: &[TaskView], first: bool) -> Result<(), Status> {
        let time = |at: Option<i64>| at.map(|at| u64::try_from(at).unwrap_or(0));
        for view in views {
            let path = self.service.runtime.log_path(&view.task.id.to_string());
            // Before the first read: what is written after that rings.
            self.watch(view.task.id, &path);
            if merge.has(view.task.id) {
                continue;
            }
            let options = ReadOptions {
                // A replica that came while following is shown from its beginning.
                tail: self.request.tail.filter(|_| first).map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
                since: time(self.request.since),
                until: time(self.request.until),
            };
            let added = merge.add(view.task.id, &path, &options);
            added.map_err(|error| Status::internal(format!("cannot read {}: {error}", path.display())))?;
            self.names.insert(view.task.id, short_name(view));
        }
        Ok(())
    }

    fn watch(&mut self, task: TaskId, path: &Path) {
        if !self.request.follow || self.watched.contains_key(&task) {
            return;
        }
        let (Some(watches), Some(directory)) = (self.service.watches(), path.parent()) else {
            self.blind = true;
            return;
        };
        match watches.watch(directory, Arc::clone(&self.bell)) {
            Ok(watch) => drop(self.watched.insert(task, watch)),
            // Not made yet, or gone: the task's status changes then.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                if !self.blind {
                    tracing::warn!(%error, "cannot watch {}; looking again and again", directory.display());
                }
                self.blind = true;
            }
        }
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
