//! One service and its tasks, copied on write. Every decision about a service edits the same [`Work`], one after the
//! other, so that create, address and place are one transaction. Knows nothing of why something changes.

use std::sync::Arc;

use berth_proto::id::TaskId;
use berth_proto::object::{Service, Task};
use berth_proto::state::DesiredState;
use berth_proto::time::Timestamp;

use crate::store::{Change, Object, ObjectRef, Precondition, State, Transaction};

/// Changes in one transaction at most; a service with more becomes several.
pub const MAX_CHANGES: usize = 1_000;

/// One service and its tasks on the way to a transaction.
#[derive(Debug, Clone)]
pub struct Work {
    stored: Arc<Service>,
    /// The service as it shall be; edit with [`Work::service_mut`].
    pub service: Arc<Service>,
    /// The service shall go once its tasks are gone.
    pub remove_service: bool,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    /// `None` for a new task.
    stored: Option<Arc<Task>>,
    task: Arc<Task>,
    removed: bool,
}

/// A task of a [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskRef(usize);

impl Work {
    /// The service as it is in `state`.
    pub fn load(state: &State, service: &Arc<Service>) -> Self {
        let entry = |task: &Arc<Task>| Entry { stored: Some(task.clone()), task: task.clone(), removed: false };
        Self {
            stored: service.clone(),
            service: service.clone(),
            remove_service: false,
            entries: state.tasks_of_service(service.id).map(entry).collect(),
        }
    }

    /// The service, to change it.
    pub fn service_mut(&mut self) -> &mut Service {
        Arc::make_mut(&mut self.service)
    }

    /// All tasks that are not removed, in the order of their slots; new ones last.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskRef, &Arc<Task>)> {
        let kept = self.entries.iter().enumerate().filter(|(_, entry)| !entry.removed);
        kept.map(|(at, entry)| (TaskRef(at), &entry.task))
    }

    /// The task.
    pub fn task(&self, at: TaskRef) -> &Arc<Task> {
        &self.entries[at.0].task
    }

    /// The task, to change it.
    pub fn task_mut(&mut self, at: TaskRef) -> &mut Task {
        Arc::make_mut(&mut self.entries[at.0].task)
    }

    /// Adds a task.
    pub fn create(&mut self, task: Task) -> TaskRef {
        self.entries.push(Entry { stored: None, task: Arc::new(task), removed: false });
        TaskRef(self.entries.len() - 1)
    }

    /// Raises what the task should do; a desired state never goes back.
    pub fn desire(&mut self, at: TaskRef, desired: DesiredState) {
        if self.task(at).desired < desired {
            self.task_mut(at).desired = desired;
        }
    }

    /// Forgets the task.
    pub fn remove(&mut self, at: TaskRef) {
        self.entries[at.0].removed = true;
    }

    /// Tasks that are new or changed, as they shall be, and ids of those that go.
    pub fn changed(&self) -> impl Iterator<Item = Result<&Arc<Task>, TaskId>> {
        self.entries.iter().filter_map(|entry| match (&entry.stored, entry.removed) {
            (Some(stored), true) => Some(Err(stored.id)),
            (None, true) => None,
            (Some(stored), false) if Arc::ptr_eq(stored, &entry.task) => None,
            (_, false) => Some(Ok(&entry.task)),
        })
    }

    /// The changes as transactions of at most [`MAX_CHANGES`] each, to be proposed in this order. Empty when nothing changed.
    pub fn into_transactions(self, now: Timestamp, actor: &Arc<str>) -> Vec<Transaction> {
        let mut all: Vec<Transaction> = Vec::new();
        let mut current = Transaction::new(now, actor.clone());
        let service = ObjectRef::Service(self.stored.id);
        let guard = Precondition { object: service, version: self.stored.meta.version };
        let same_service = Arc::ptr_eq(&self.service, &self.stored) || *self.service == *self.stored;
        let service_changed = !self.remove_service && !same_service;
        let creates = self.entries.iter().any(|entry| entry.stored.is_none() && !entry.removed);
        if service_changed || creates {
            current.preconditions.push(guard);
        }
        if service_changed {
            current.changes.push(Change::Put(Object::Service(self.service)));
        }
        for entry in self.entries {
            if current.changes.len() >= MAX_CHANGES {
                all.push(std::mem::replace(&mut current, Transaction::new(now, actor.clone())));
            }
            entry.add_to(&mut current);
        }
        if self.remove_service {
            current.preconditions.push(guard);
            current.changes.push(Change::Remove(service));
        }
        if !current.is_empty() {
            all.push(current);
        }
        all
    }
}

impl Entry {
    fn add_to(self, transaction: &mut Transaction) {
        match (self.stored, self.removed) {
            (None, true) => {}
            (None, false) => transaction.changes.push(Change::Put(Object::Task(self.task))),
            (Some(stored), true) => {
                let object = ObjectRef::Task(stored.id);
                transaction.preconditions.push(Precondition { object, version: stored.meta.version });
                transaction.changes.push(Change::Remove(object));
            }
            (Some(stored), false) => {
                if Arc::ptr_eq(&stored, &self.task) || *stored == *self.task {
                    return;
                }
                let only_desired = Task { desired: stored.desired, ..Task::clone(&self.task) } == *stored;
                transaction.changes.push(if only_desired {
                    Change::Desire { task: stored.id, desired: self.task.desired }
                } else {
                    Change::Put(Object::Task(self.task))
                });
            }
        }
    }
}
