//! The worker: an actor for each assigned task.
//!
//! Owns the actors. Level-triggered: each change of assignments leads to a look at all of them; a look that finds nothing new
//! changes nothing. What a former life of the agent left is adopted by the first look that has an assignment for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{Task, TaskStatus};
use berth_proto::pb;
use berth_proto::spec::ServiceSpec;
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Assignments, Board, Inventory, Item, Key, Touched};
use crate::db::{self, Change, Writer};
use crate::health::HealthRecord;
use crate::task::actor::{self, Former, Setup};
use crate::task::{Executor, Found, Prepared, Reports, Wanted, Work};

/// What a former life of the agent, and the runtime, left.
#[derive(Debug, Default)]
pub struct Restored {
    /// Last statuses.
    pub statuses: BTreeMap<TaskId, TaskStatus>,
    /// How tasks were prepared.
    pub prepared: BTreeMap<TaskId, Prepared>,
    /// Containers.
    pub found: BTreeMap<TaskId, Found>,
}

/// What a worker is made of.
pub struct WorkerSetup {
    /// The assignments.
    pub inventory: Arc<Inventory>,
    /// Statuses.
    pub board: Arc<Board>,
    /// Does to the machine what tasks need.
    pub executor: Arc<dyn Executor>,
    /// Where actors tell.
    pub reports: Arc<dyn Reports>,
    /// The records; `None` in tests.
    pub records: Option<Writer>,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Where spans go.
    pub tracer: Tracer,
    /// What was left.
    pub restored: Restored,
    /// Fires when the agent ends; containers run on.
    pub shutdown: CancellationToken,
}

/// All actors of this node.
pub struct Worker {
    setup: WorkerSetup,
    state: Arc<Mutex<State>>,
    tracker: TaskTracker,
}

#[derive(Default)]
struct State {
    actors: BTreeMap<TaskId, Handle>,
    restored: Restored,
    complete: bool,
}

struct Handle {
    wanted: watch::Sender<Wanted>,
    trouble: watch::Sender<Option<String>>,
    health: watch::Receiver<Option<HealthRecord>>,
    work: Work,
}

/// A task as others may look at it.
#[derive(Debug, Clone)]
pub struct TaskView {
    /// The task.
    pub task: Arc<Task>,
    /// Its spec.
    pub spec: Arc<ServiceSpec>,
    /// Its status.
    pub status: TaskStatus,
    /// Its health check's record.
    pub health: Option<HealthRecord>,
}

impl Worker {
    /// A worker with what is in the inventory already; call [`Self::look`] to set it going.
    pub fn new(mut setup: WorkerSetup) -> Self {
        let restored = std::mem::take(&mut setup.restored);
        let state = Arc::new(Mutex::new(State { restored, ..State::default() }));
        Self { setup, state, tracker: TaskTracker::new() }
    }

    /// Replaces everything assigned. What is not in the set is ended and forgotten, known or not.
    pub async fn apply_complete(&self, items: Vec<pb::Assignment>) -> Touched {
        if let Some(records) = &self.setup.records {
            let rows = items.iter().filter_map(db::record).collect();
            records.put(Change::ReplaceAssigned(rows)).await;
        }
        let touched = self.setup.inventory.write(|assigned| {
            *assigned = Assignments::default();
            for item in parse_all(items) {
                assigned.put(item);
            }
            Touched { networks: true, endpoints: true, peers: true }
        });
        self.state().complete = true;
        touched
    }

    /// Applies changes on top of what is assigned.
    pub async fn apply_changes(&self, updates: Vec<pb::Assignment>, removals: Vec<pb::AssignmentKey>) -> Touched {
        if let Some(records) = &self.setup.records {
            for (key, value) in updates.iter().filter_map(db::record) {
                records.put(Change::Put(key, value)).await;
            }
            for key in removals.iter().filter_map(db::record_key) {
                records.put(Change::Remove(key)).await;
            }
        }
        let mut partly = Vec::new();
        let touched = self.setup.inventory.write(|assigned| {
            let mut touched = Touched::default();
            for item in parse_all(updates) {
                if let Item::EndpointsChange(change) = &item {
                    partly.push(change.service);
                }
                touched = touched.or(assigned.put(item));
            }
            for key in removals {
                match Key::parse(key) {
                    Ok(key) => touched = touched.or(assigned.remove(key)),
                    Err(error) => tracing::error!(%error, "a withdrawn assignment cannot be read"),
                }
            }
            touched
        });
        self.record_endpoints(&partly).await;
        touched
    }

    /// Writes down as a whole what changed in part.
    async fn record_endpoints(&self, services: &[ServiceId]) {
        let Some(records) = &self.setup.records else { return };
        let endpoints: Vec<pb::Assignment> = self.setup.inventory.read(|assigned| {
            let known = services.iter().filter_map(|id| assigned.endpoints.get(id));
            known.map(|it| pb::Assignment { item: Some(pb::assignment::Item::Endpoints((&**it).into())) }).collect()
        });
        for (key, value) in endpoints.iter().filter_map(db::record) {
            records.put(Change::Put(key, value)).await;
        }
    }

    /// Brings actors to what is assigned.
    pub fn look(&self) {
        let assigned: Vec<(Arc<Task>, Option<Arc<ServiceSpec>>)> = self.setup.inventory.read(|assigned| {
            assigned.tasks.values().map(|task| (Arc::clone(task), assigned.spec_of(task).cloned())).collect()
        });
        let mut state = self.state();
        let ids: BTreeSet<TaskId> = assigned.iter().map(|(task, _)| task.id).collect();
        for (task, spec) in assigned {
            match (state.actors.get(&task.id), spec) {
                (Some(handle), _) => want(handle, Wanted::assigned(task.desired)),
                (None, Some(spec)) if !state.complete && self.lacks_files(&state, &task, &spec) => {
                    tracing::debug!(task = %task.id, "a task waits for the managers to send its secrets again");
                }
                (None, Some(spec)) => self.spawn(&mut state, Work { task, spec }),
                // Its spec comes with a later change.
                (None, None) => tracing::debug!(task = %task.id, "a task waits for its spec"),
            }
        }
        for (id, handle) in &state.actors {
            if !ids.contains(id) {
                let desired = handle.wanted.borrow().desired;
                want(handle, Wanted { desired, assigned: false });
            }
        }
        if state.complete {
            self.end_unknown(&mut state, &ids);
        }
    }

    /// Tasks whose containers a former life left alive, until the first look adopts them; true when they took requests.
    pub fn restored_alive(&self) -> Vec<(TaskId, bool)> {
        let state = self.state();
        let alive = |found: &Found| matches!(found, Found::Created | Found::Running(_));
        let ready = |task: &TaskId| {
            let status = state.restored.statuses.get(task);
            let running = matches!(state.restored.found.get(task), Some(Found::Running(_)));
            running && status.is_some_and(|status| status.state == TaskState::Running)
        };
        let found = state.restored.found.iter().filter(|(_, found)| alive(found));
        found.map(|(task, _)| (*task, ready(task))).collect()
    }

    /// Every task that has an actor or is about to be ended.
    pub fn known(&self) -> BTreeSet<TaskId> {
        self.state().actors.keys().copied().collect()
    }

    /// A task with its status.
    pub fn view(&self, task: TaskId) -> Option<TaskView> {
        let state = self.state();
        state.actors.get(&task).map(|handle| self.view_of(handle))
    }

    /// All tasks with their statuses.
    pub fn views(&self) -> Vec<TaskView> {
        self.state().actors.values().map(|handle| self.view_of(handle)).collect()
    }

    /// Says what is wrong around the tasks of a service that run all the same; `None` when nothing is.
    pub fn trouble(&self, service: ServiceId, why: Option<&str>) {
        for handle in self.state().actors.values().filter(|handle| handle.work.task.service == service) {
            handle.trouble.send_if_modified(|known| {
                let is_news = known.as_deref() != why;
                if is_news {
                    *known = why.map(str::to_owned);
                }
                is_news
            });
        }
    }

    /// Wakes at each change of a task's status; look again then.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.setup.board.watch()
    }

    /// Waits until all actors have ended, after the shutdown fired.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn view_of(&self, handle: &Handle) -> TaskView {
        TaskView {
            task: Arc::clone(&handle.work.task),
            spec: Arc::clone(&handle.work.spec),
            status: self.setup.board.get(handle.work.task.id).unwrap_or_default(),
            health: handle.health.borrow().clone(),
        }
    }

    /// Secrets and configs are not on disk: after a restart a task that needs them is not prepared before they come. One whose
    /// container is there has them already.
    fn lacks_files(&self, state: &State, task: &Task, spec: &ServiceSpec) -> bool {
        let container = &spec.task.container;
        let has_container = state.restored.found.contains_key(&task.id);
        !has_container
            && self.setup.inventory.read(|assigned| {
                container.secrets.iter().any(|file| assigned.secret_for(file).is_none())
                    || container.configs.iter().any(|file| assigned.config_for(file).is_none())
            })
    }

    fn spawn(&self, state: &mut State, work: Work) {
        let id = work.task.id;
        let former = former(&work.task, &mut state.restored);
        let (wanted, receiver) = watch::channel(Wanted::assigned(work.task.desired));
        let (health_send, health) = watch::channel(None);
        let (trouble, troubles) = watch::channel(None);
        let setup = Setup {
            work: work.clone(),
            wanted: receiver,
            trouble: troubles,
            executor: Arc::clone(&self.setup.executor),
            reports: Arc::clone(&self.setup.reports),
            now: self.setup.now,
            tracer: self.setup.tracer.clone(),
            former,
            health: health_send,
        };
        let (shutdown, actors) = (self.setup.shutdown.clone(), Arc::clone(&self.state));
        self.tracker.spawn(async move {
            actor::run(setup, shutdown.clone()).await;
            if !shutdown.is_cancelled() {
                actors.lock().unwrap_or_else(PoisonError::into_inner).actors.remove(&id);
            }
        });
        state.actors.insert(id, Handle { wanted, trouble, health, work });
    }

    /// Containers and records of tasks that nobody assigned: ended, then removed.
    fn end_unknown(&self, state: &mut State, assigned: &BTreeSet<TaskId>) {
        let restored = std::mem::take(&mut state.restored);
        let mut unknown: BTreeSet<TaskId> = restored.found.into_keys().collect();
        unknown.extend(restored.statuses.into_keys());
        unknown.extend(restored.prepared.into_keys());
        unknown.retain(|id| !assigned.contains(id) && !state.actors.contains_key(id));
        for id in unknown {
            tracing::info!(task = %id, "ending what is left of a task that is not assigned any more");
            let (executor, reports) = (Arc::clone(&self.setup.executor), Arc::clone(&self.setup.reports));
            self.tracker.spawn(async move {
                executor.release(id).await;
                executor.purge(id).await;
                reports.gone(id);
            });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn want(handle: &Handle, wanted: Wanted) {
    handle.wanted.send_if_modified(|current| {
        let next = current.forward(wanted);
        std::mem::replace(current, next) != next
    });
}

fn parse_all(items: Vec<pb::Assignment>) -> Vec<Item> {
    let parse = |item| match Item::parse(item) {
        Ok(item) => Some(item),
        Err(error) => {
            tracing::error!(%error, "an assignment cannot be read and is left out");
            None
        }
    };
    items.into_iter().filter_map(parse).collect()
}

/// What is known of the task from before. A task that the managers saw further than `assigned` was ours once, also when the
/// records are lost: it is never started a second time.
fn former(task: &Task, restored: &mut Restored) -> Option<Former> {
    let status = restored.statuses.remove(&task.id);
    let prepared = restored.prepared.remove(&task.id);
    let found = restored.found.remove(&task.id);
    let seen = Some(&task.status).filter(|status| status.state > TaskState::Assigned).cloned();
    if status.is_none() && found.is_none() && seen.is_none() {
        return None;
    }
    let status = match (status, seen) {
        (Some(own), Some(seen)) if seen.state > own.state => seen,
        (Some(own), _) => own,
        (None, Some(seen)) => seen,
        (None, None) => TaskStatus { state: TaskState::Accepted, ..TaskStatus::default() },
    };
    Some(Former { status, prepared, found: found.unwrap_or(Found::Nothing) })
}

#[cfg(test)]
#[path = "manage_tests.rs"]
mod tests;
