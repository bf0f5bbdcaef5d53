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

/// Whose decision a change is: the actor of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loop {
    /// How many tasks there are, and what they should do.
    Orchestrator,
    /// Bringing a changed spec to the tasks.
    Updater,
    /// Subnets, addresses and ports.
    Allocator,
    /// Where tasks go.
    Scheduler,
    /// Forgetting tasks.
    Reaper,
}

impl Loop {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Orchestrator, Self::Updater, Self::Allocator, Self::Scheduler, Self::Reaper];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Updater => "updater",
            Self::Allocator => "allocator",
            Self::Scheduler => "scheduler",
            Self::Reaper => "reaper",
        }
    }

    /// What it does to a stored task holds whether or not the rest of the pass is accepted.
    fn stands_alone(self) -> bool {
        matches!(self, Self::Allocator | Self::Scheduler | Self::Reaper)
    }
}

/// One service and its tasks on the way to a transaction.
#[derive(Debug, Clone)]
pub struct Work {
    /// Who decides now.
    turn_of: Loop,
    /// Who was the first to change the service.
    service_by: Option<Loop>,
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
    /// Who was the first to change it: what the others add follows from that.
    by: Option<Loop>,
    /// Tasks of other services that stop for it, in the same transaction.
    evicts: Vec<TaskId>,
}

/// A task of a [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskRef(usize);

impl Work {
    /// The service as it is in `state`.
    pub fn load(state: &State, service: &Arc<Service>) -> Self {
        let entry = |task: &Arc<Task>| {
            let (stored, task) = (Some(task.clone()), task.clone());
            Entry { stored, task, removed: false, by: None, evicts: Vec::new() }
        };
        Self {
            turn_of: Loop::Orchestrator,
            service_by: None,
            stored: service.clone(),
            service: service.clone(),
            remove_service: false,
            entries: state.tasks_of_service(service.id).map(entry).collect(),
        }
    }

    /// Who makes the changes from now on.
    pub fn act_as(&mut self, who: Loop) {
        self.turn_of = who;
    }

    /// The service, to change it.
    pub fn service_mut(&mut self) -> &mut Service {
        self.service_by.get_or_insert(self.turn_of);
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
        let entry = &mut self.entries[at.0];
        entry.by.get_or_insert(self.turn_of);
        Arc::make_mut(&mut entry.task)
    }

    /// Adds a task.
    pub fn create(&mut self, task: Task) -> TaskRef {
        let (task, by) = (Arc::new(task), Some(self.turn_of));
        self.entries.push(Entry { stored: None, task, removed: false, by, evicts: Vec::new() });
        TaskRef(self.entries.len() - 1)
    }

    /// Raises what the task should do; a desired state never goes back.
    pub fn desire(&mut self, at: TaskRef, desired: DesiredState) {
        if self.task(at).desired < desired {
            self.task_mut(at).desired = desired;
        }
    }

    /// Asks tasks of other services to stop when this one is written: it takes their place.
    pub fn evict(&mut self, at: TaskRef, victims: &[TaskId]) {
        self.entries[at.0].evicts.extend_from_slice(victims);
    }

    /// Forgets the task.
    pub fn remove(&mut self, at: TaskRef) {
        let entry = &mut self.entries[at.0];
        entry.by.get_or_insert(self.turn_of);
        entry.removed = true;
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
    ///
    /// What belongs together is one transaction, in the name of who began it; what another loop did to other tasks in the
    /// same pass goes in its own name.
    pub fn into_transactions(self, now: Timestamp) -> Vec<Transaction> {
        let lead = self.lead();
        let mut out = Builder { now, all: Vec::new(), current: Transaction::new(now, lead.as_str()), by: lead };
        let service = ObjectRef::Service(self.stored.id);
        let guard = Precondition { object: service, version: self.stored.meta.version };
        let service_changed = self.service_changed();
        if service_changed || self.creates().next().is_some() {
            out.current.preconditions.push(guard);
        }
        if service_changed {
            out.current.changes.push(Change::Put(Object::Service(self.service)));
        }
        let is_led = |entry: &Entry| {
            let by = entry.by.unwrap_or(lead);
            self.remove_service || entry.stored.is_none() || by == lead || !by.stands_alone()
        };
        let (led, mut others): (Vec<Entry>, Vec<Entry>) = self.entries.into_iter().partition(is_led);
        led.into_iter().for_each(|entry| out.add(entry));
        if self.remove_service {
            out.current.preconditions.push(guard);
            out.current.changes.push(Change::Remove(service));
        }
        others.sort_by_key(|entry| entry.by);
        for entry in others {
            out.turn_to(entry.by.unwrap_or(lead));
            out.add(entry);
        }
        out.finish()
    }

    fn creates(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.stored.is_none() && !entry.removed)
    }

    fn service_changed(&self) -> bool {
        let same = Arc::ptr_eq(&self.service, &self.stored) || *self.service == *self.stored;
        !self.remove_service && !same
    }

    /// Who began the first transaction: the maker of new tasks, else who changed the service, else who changed a task.
    fn lead(&self) -> Loop {
        let made = self.creates().next().and_then(|entry| entry.by);
        let changed = self.service_by.filter(|_| self.service_changed());
        let touched = || self.entries.iter().find_map(|entry| entry.by);
        made.or(changed).or_else(touched).unwrap_or(Loop::Orchestrator)
    }
}

/// Transactions in the making.
struct Builder {
    now: Timestamp,
    all: Vec<Transaction>,
    current: Transaction,
    by: Loop,
}

impl Builder {
    fn add(&mut self, entry: Entry) {
        if self.current.changes.len() >= MAX_CHANGES {
            self.close();
        }
        entry.add_to(&mut self.current);
    }

    fn turn_to(&mut self, by: Loop) {
        if self.by != by {
            self.by = by;
            self.close();
        }
    }

    /// What was added so far is a transaction of its own.
    fn close(&mut self) {
        let next = Transaction::new(self.now, self.by.as_str());
        let done = std::mem::replace(&mut self.current, next);
        if !done.is_empty() {
            self.all.push(done);
        }
    }

    fn finish(mut self) -> Vec<Transaction> {
        self.close();
        self.all
    }
}

impl Entry {
    fn add_to(self, transaction: &mut Transaction) {
        let stops = self.evicts.iter().map(|task| Change::Desire { task: *task, desired: DesiredState::Shutdown });
        transaction.changes.extend(stops);
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
