//! What an actor needs of the machine, as traits: the real ones are in `crate::executor` and `crate::worker`, the fakes in
//! tests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use berth_proto::id::TaskId;
use berth_proto::object::{Task, TaskStatus};
use berth_proto::spec::ServiceSpec;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::step::{Ended, Refusal, Traits};
use crate::health::{Prober, Settings};

/// A task with the spec that it runs.
#[derive(Debug, Clone)]
pub struct Work {
    /// The task.
    pub task: Arc<Task>,
    /// Its service's spec, of the task's version.
    pub spec: Arc<ServiceSpec>,
}

/// What preparation decided about how the task runs; recorded, so that a restarted agent goes on by the same rules even when
/// the image's tag has moved meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Digest of the image.
    pub image_digest: String,
    /// Signal that asks the process to stop.
    pub stop_signal: i32,
    /// Its health check.
    pub health: Option<HealthSettings>,
    /// Names of the volumes that it holds.
    #[serde(default)]
    pub volumes: Vec<String>,
}

/// [`Settings`] as they are recorded; times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSettings {
    command: Vec<String>,
    interval: u64,
    timeout: u64,
    retries: u32,
    start_period: u64,
    start_interval: u64,
}

impl From<&Settings> for HealthSettings {
    fn from(settings: &Settings) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            command: settings.command.clone(),
            interval: nanos(settings.interval),
            timeout: nanos(settings.timeout),
            retries: settings.retries,
            start_period: nanos(settings.start_period),
            start_interval: nanos(settings.start_interval),
        }
    }
}

impl From<&HealthSettings> for Settings {
    fn from(recorded: &HealthSettings) -> Self {
        Self {
            command: recorded.command.clone(),
            interval: Duration::from_nanos(recorded.interval),
            timeout: Duration::from_nanos(recorded.timeout),
            retries: recorded.retries,
            start_period: Duration::from_nanos(recorded.start_period),
            start_interval: Duration::from_nanos(recorded.start_interval),
        }
    }
}

impl Prepared {
    /// What the state machine needs of it.
    pub fn traits(&self, grace: Duration) -> Traits {
        Traits { has_healthcheck: self.health.is_some(), grace, image_digest: self.image_digest.clone() }
    }
}

/// Where preparation says what it is doing; the latest text wins.
pub type Progress = Arc<watch::Sender<String>>;

/// Does to the machine what one task needs. Every call may be repeated, also after a crash in its midst.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Fetches the image, makes volumes, network and container. Ends soon with [`Refusal::Cancelled`] once `cancel` fires.
    async fn prepare(&self, work: &Work, progress: &Progress, cancel: &CancellationToken) -> Result<Prepared, Refusal>;
    /// Works out again how a running task was prepared, when the agent was killed before it could record that.
    async fn recover(&self, _work: &Work) -> Option<Prepared> {
        None
    }
    /// Lets the container run once other nodes reach it; its process id.
    async fn start(&self, work: &Work) -> Result<i32, Refusal>;
    /// Waits for the end of the process.
    async fn wait(&self, task: TaskId) -> Ended;
    /// Takes the task into the load balancing or out of it; returns when that is in force, out of it on every node.
    async fn publish(&self, task: TaskId, ready: bool);
    /// Sends a signal to the process; fine when it has ended.
    async fn signal(&self, task: TaskId, signal: i32);
    /// The task has ended and [`Self::release`] follows; called before anyone is told, for others may be given what it held then.
    fn leaves(&self, _task: TaskId) {}
    /// Gives back what the task holds, ending what still runs; log and record stay.
    async fn release(&self, task: TaskId);
    /// Removes the log.
    async fn purge(&self, task: TaskId);
    /// Runs probes in the container.
    fn prober(&self, task: TaskId) -> Arc<dyn Prober>;
}

/// Where an actor tells what it found. Calls do not block.
pub trait Reports: Send + Sync + 'static {
    /// The status changed.
    fn status(&self, task: TaskId, status: &TaskStatus);
    /// Preparation decided this.
    fn prepared(&self, task: TaskId, prepared: &Prepared);
    /// Nothing is left of the task: forget it.
    fn gone(&self, task: TaskId);
}
