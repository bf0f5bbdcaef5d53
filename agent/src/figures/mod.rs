//! What tasks use whose services are scaled by their load: read every few seconds, told by the session, kept nowhere.
//!
//! | file | what |
//! |---|---|
//! | `counter.rs` | pure: a counter in Prometheus' text format |
//! | `scrape.rs` | the way to it: HTTP inside the task's network namespace |
//!
//! Invariants: nothing is read that the managers did not ask for; a task that answers slowly, or not at all, holds nothing up
//! but its own figures.

mod counter;
mod scrape;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::pb;
use berth_proto::spec::RequestTarget;
use berth_proto::state::TaskState;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::runtime::Runtime;
use crate::worker::{Inventory, TaskView, Worker};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Tasks that are looked at at the same time.
const AT_ONCE: usize = 16;

/// What a meter is made of.
pub struct MeterSetup {
    /// What the managers ask for.
    pub inventory: Arc<Inventory>,
    /// The tasks.
    pub worker: Arc<Worker>,
    /// Knows what containers use.
    pub runtime: Arc<dyn Runtime>,
}

/// Reads what tasks use.
pub struct Meter {
    setup: MeterSetup,
    began: Instant,
    told: watch::Sender<pb::Figures>,
    /// Tasks whose counter could not be read last time: each is told of once.
    mute: Mutex<BTreeSet<TaskId>>,
}

impl Meter {
    /// Nothing is read before [`Meter::run`].
    pub fn new(setup: MeterSetup) -> Self {
        Self { setup, began: Instant::now(), told: watch::Sender::default(), mute: Mutex::default() }
    }

    /// What was read last; a session tells each of it once.
    pub fn figures(&self) -> watch::Receiver<pb::Figures> {
        self.told.subscribe()
    }

    /// Looks again and again until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = async {
            loop {
                period.tick().await;
                self.look().await;
            }
        };
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => {}
            // What is dropped with it would be of no use.
            () = looking => {}
        }
    }

    async fn look(&self) {
        let asked = self.setup.inventory.read(|assigned| assigned.measures.clone());
        if asked.is_empty() {
            return;
        }
        let is_asked = |view: &TaskView| asked.contains_key(&view.task.service) && pid(view).is_some();
        let views: Vec<TaskView> = self.setup.worker.views().into_iter().filter(is_asked).collect();
        self.mute().retain(|task| views.iter().any(|view| view.task.id == *task));
        let readings: Vec<_> = views.iter().map(|view| self.read(view, &asked)).collect();
        let tasks: Vec<_> = futures::stream::iter(readings).buffer_unordered(AT_ONCE).collect().await;
        let tasks: Vec<_> = tasks.into_iter().flatten().collect();
        if !tasks.is_empty() {
            self.told.send_replace(pb::Figures { tasks });
        }
    }

    async fn read(
        &self,
        view: &TaskView,
        asked: &BTreeMap<ServiceId, Option<RequestTarget>>,
    ) -> Option<pb::TaskFigures> {
        let id = view.task.id;
        let target = asked.get(&view.task.service).and_then(Option::as_ref);
        let requests = match target {
            Some(target) => self.counter(view, target).await,
            None => None,
        };
        // A task that ended meanwhile has none.
        let stats = self.setup.runtime.stats(&id.to_string()).await.ok()?;
        Some(pb::TaskFigures {
            task_id: id.to_string(),
            at: u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            cpu: stats.cpu_ns,
            memory: stats.memory,
            requests,
        })
    }

    async fn counter(&self, view: &TaskView, target: &RequestTarget) -> Option<f64> {
        let (id, pid) = (view.task.id, pid(view)?);
        let addresses = view.task.attachments.iter().flat_map(|attachment| attachment.ips()).collect();
        match scrape::counter(pid, addresses, target).await {
            Ok(count) => {
                self.mute().remove(&id);
                Some(count)
            }
            Err(error) => {
                if self.mute().insert(id) {
                    let error = crate::errors::chain(&error);
                    tracing::warn!(task = %id, metric = target.metric, error, "a counter of requests cannot be read");
                }
                None
            }
        }
    }

    fn mute(&self) -> std::sync::MutexGuard<'_, BTreeSet<TaskId>> {
        self.mute.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its first process, while it runs.
fn pid(view: &TaskView) -> Option<i32> {
    let container = view.status.container.as_ref().filter(|_| view.status.state == TaskState::Running)?;
    Some(container.pid).filter(|pid| *pid > 0)
}
