//! The real machine behind a task's actor: images, volumes, network and runtime put together.
//!
//! | file | what |
//! |---|---|
//! | `images.rs` | getting an image by its pull policy, as a trait over `berth-image` |
//! | `prepare.rs` | from an assigned task to a created container |
//! | `barrier.rs` | waiting for the other nodes before a task starts or stops |
//! | `mounts.rs` | sources of mounts |
//! | `files.rs` | secrets, configs and network files, on a tmpfs |
//! | `names.rs` | the name server's sockets, kept by the container's supervisor |
//! | `owners.rs` | owners of files by name, from an image's `/etc` |
//! | `prober.rs` | health probes through exec |
//!
//! Never decides what a task should do: `crate::task` does. Every step may be repeated after a crash in its midst.

mod barrier;
mod files;
mod images;
mod mounts;
mod names;
mod owners;
mod prepare;
mod prober;

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use berth_proto::id::TaskId;
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use dashmap::DashMap;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::NodeFacts;
use crate::health::Prober;
use crate::metrics::TaskMetrics;
use crate::net;
use crate::runtime::{Exit, Runtime, RuntimeError};
use crate::secure;
use crate::task::{Ended, Executor, Found, Prepared, Progress, Refusal, Work};
use crate::volume::VolumeStore;
use crate::worker::Inventory;

pub use barrier::Barrier;
pub use files::{FilesDir, FilesError};
pub use images::{Acquired, Images, NodeImages, image_facts};

/// A creation waits for its own processes part of the time, so a cpu can carry several.
const CREATIONS_PER_CPU: usize = 4;

/// Everything that a task needs of the machine.
pub struct NodeExecutor {
    /// Facts of the node.
    pub node: NodeFacts,
    /// Runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Gives images.
    pub images: Arc<dyn Images>,
    /// Gives networks.
    pub network: Arc<net::Driver>,
    /// Gives volumes.
    pub volumes: Arc<VolumeStore>,
    /// What is assigned besides the task itself.
    pub inventory: Arc<Inventory>,
    /// Where files for containers are shown from.
    pub files: Arc<FilesDir>,
    /// What tasks wait for before they start and stop.
    pub barrier: Barrier,
    /// Encrypted links.
    pub secure: Arc<secure::Keeper>,
    /// Process ids of containers that were created and not yet started.
    pub created: DashMap<TaskId, u32>,
    /// Containers made at the same time: more only take each other's time, and the first would come up last.
    pub creating: Semaphore,
    /// Where spans go.
    pub tracer: Tracer,
    /// Counts what containers take.
    pub metrics: TaskMetrics,
}

/// How many containers this machine makes at the same time.
pub fn creations() -> Semaphore {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new(CREATIONS_PER_CPU * cpus)
}

#[async_trait]
impl Executor for NodeExecutor {
    async fn prepare(&self, work: &Work, progress: &Progress, cancel: &CancellationToken) -> Result<Prepared, Refusal> {
        self.barrier.begin(work.task.id);
        prepare::prepare(self, work, progress, cancel).await
    }

    async fn recover(&self, work: &Work) -> Option<Prepared> {
        prepare::recover(self, work).await
    }

    async fn start(&self, work: &Work) -> Result<i32, Refusal> {
        let id = work.task.id.to_string();
        let end = Instant::now() + barrier::START_LIMIT;
        self.barrier.before_start(&work.task).await;
        self.secure.known(&work.task, end).await;
        let began = std::time::Instant::now();
        self.runtime.start(&id).await.map_err(|error| Refusal::Rejected(crate::errors::chain(&error)))?;
        self.metrics.took("start", began);
        let pid = match self.created.remove(&work.task.id) {
            Some((_, pid)) => Some(pid),
            None => self.runtime.state(&id).await.ok().flatten().and_then(|state| state.pid),
        };
        // A process that has ended already has none; `wait` tells of its end.
        Ok(pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0))
    }

    async fn wait(&self, task: TaskId) -> Ended {
        match self.runtime.wait(&task.to_string()).await {
            Ok(exit) => ended(&exit, String::new()),
            Err(error) => Ended {
                exit_code: None,
                oom_killed: false,
                at: SystemTime::now().into(),
                note: crate::errors::chain(&error),
            },
        }
    }

    async fn publish(&self, task: TaskId, ready: bool) {
        if ready {
            self.barrier.ready(task);
            return self.network.publish(task, true).await;
        }
        // The others first: what they still send here must find the task.
        let took_requests = self.barrier.before_stop(task).await;
        self.network.publish(task, false).await;
        if took_requests {
            tokio::time::sleep(barrier::LINGER).await;
        }
    }

    async fn signal(&self, task: TaskId, signal: i32) {
        if let Err(error) = self.runtime.signal(&task.to_string(), signal).await {
            tracing::warn!(%task, signal, %error, "cannot signal a task's process");
        }
    }

    fn leaves(&self, task: TaskId) {
        self.network.leaves(task);
    }

    async fn release(&self, task: TaskId) {
        self.created.remove(&task);
        self.barrier.forget(task);
        // The container first: it holds the mounts and the namespace.
        let id = task.to_string();
        warn(
            task,
            "delete the container of",
            self.runtime.delete(&id).await.map_err(|error| crate::errors::chain(&error)),
        );
        let detached = self.network.detach(task);
        let gave_back = self.give_back_files(task);
        let released = self.images.release(task);
        let (detached, gave_back, released) = tokio::join!(detached, gave_back, released);
        warn(task, "remove the network of", detached.map_err(|error| crate::errors::chain(&error)));
        warn(task, "give back volumes of", gave_back);
        warn(task, "give back the image of", released);
    }

    async fn purge(&self, task: TaskId) {
        let purged = self.runtime.purge(&task.to_string()).await;
        warn(task, "remove the log of", purged.map_err(|error| crate::errors::chain(&error)));
    }

    fn prober(&self, task: TaskId) -> Arc<dyn Prober> {
        Arc::new(prober::ExecProber::new(Arc::clone(&self.runtime), task))
    }
}

impl NodeExecutor {
    async fn give_back_files(&self, task: TaskId) -> Result<(), String> {
        let (files, volumes) = (Arc::clone(&self.files), Arc::clone(&self.volumes));
        let work = move || {
            let files = files.remove(task).map_err(|error| crate::errors::chain(&error));
            let volumes = volumes.release(task).map_err(|error| crate::errors::chain(&error));
            files.and(volumes)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// What the runtime holds of a task, for its adoption.
    pub async fn find(&self, task: TaskId) -> Found {
        match self.runtime.state(&task.to_string()).await {
            Ok(Some(state)) => found(&state),
            Ok(None) => Found::Nothing,
            Err(error) => {
                tracing::warn!(%task, %error, "cannot look at a container");
                Found::Nothing
            }
        }
    }
}

/// A container's state in the words of the task's machine.
pub fn found(state: &crate::runtime::ContainerState) -> Found {
    use crate::runtime::Phase;
    match &state.phase {
        Phase::Created => Found::Created,
        Phase::Running => Found::Running(state.pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0)),
        Phase::Exited(exit) => Found::Exited(ended(exit, String::new())),
    }
}

fn ended(exit: &Exit, note: String) -> Ended {
    let note = match exit.code {
        None if note.is_empty() => "nobody saw it end: its supervisor was killed or the machine went down".to_owned(),
        _ => note,
    };
    Ended { exit_code: exit.code, oom_killed: exit.oom_killed, at: Timestamp::from(exit.at), note }
}

/// The text that a rejected task shows for an error of the runtime.
fn rejected(error: &RuntimeError) -> Refusal {
    Refusal::Rejected(crate::errors::chain(error))
}

fn warn(task: TaskId, what: &str, result: Result<(), String>) {
    if let Err(error) = result {
        tracing::warn!(%task, error, "cannot {what} a task");
    }
}

/// Takes over the network of a task that a former life of the agent started; `ready` when it took requests.
pub async fn reattach(executor: &NodeExecutor, work: &Work, ready: bool) -> Result<(), String> {
    let mut errors = Vec::new();
    let mut spec = prepare::sandbox_spec(executor, work, &mut errors);
    if !errors.is_empty() {
        return Err(crate::config::explain(&errors));
    }
    if ready {
        executor.network.assume_ready(work.task.id).await;
        spec.ready = true;
    }
    names::give_back(executor, work.task.id).await;
    executor.network.attach(spec).await.map(drop).map_err(|error| crate::errors::chain(&error))
}
