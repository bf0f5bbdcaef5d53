//! The tasks of a service slot by slot, and how a new one is made. Reads and builds; decides nothing.

use std::collections::BTreeMap;

use berth_proto::object::{Meta, RestartRecord, Slot, SpecVersion, Task, TaskStatus};
use berth_proto::spec::PublishMode;
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::trace::TraceContext;

use super::turn::Turn;
use super::work::{TaskRef, Work};

/// The tasks of one slot, oldest first.
#[derive(Debug, Clone, Default)]
pub struct SlotTasks {
    /// All of them.
    pub all: Vec<TaskRef>,
}

/// The slots of the service that have tasks.
pub fn slots(work: &Work) -> BTreeMap<Slot, SlotTasks> {
    let mut slots: BTreeMap<Slot, SlotTasks> = BTreeMap::new();
    for (at, task) in work.tasks() {
        slots.entry(task.slot).or_default().all.push(at);
    }
    for slot in slots.values_mut() {
        // Restarts break the tie between tasks of the same instant.
        slot.all.sort_by_key(|at| {
            let task = work.task(*at);
            (task.meta.created_at, task.restarts.total, task.id)
        });
    }
    slots
}

impl SlotTasks {
    /// Those that are meant to work, oldest first.
    pub fn wanted<'a>(&'a self, work: &'a Work) -> impl DoubleEndedIterator<Item = TaskRef> + 'a {
        self.all.iter().copied().filter(|at| work.task(*at).desired.wants_work())
    }

    /// The newest one that is meant to work. A slot without one is free.
    pub fn current(&self, work: &Work) -> Option<TaskRef> {
        self.wanted(work).next_back()
    }

    /// True while something of an earlier task may still run although it was asked to stop.
    pub fn is_clearing(&self, work: &Work, turn: &Turn<'_>) -> bool {
        let stopping = |at: &TaskRef| !work.task(*at).desired.wants_work() && !turn.is_over(work.task(*at));
        self.all.iter().any(stopping)
    }

    /// Asks every task of the slot for at least that.
    pub fn desire_all(&self, work: &mut Work, desired: DesiredState) {
        for at in &self.all {
            work.desire(*at, desired);
        }
    }
}

/// What is to be known of a task to make it.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Its slot.
    pub slot: Slot,
    /// Its spec version.
    pub version: SpecVersion,
    /// What it should do at first.
    pub desired: DesiredState,
    /// Carried from the task it replaces.
    pub restarts: RestartRecord,
    /// Run of the job.
    pub iteration: Option<u64>,
    /// The trace of the change that it is made for.
    pub traced: Option<TraceContext>,
}

/// Makes a task and notes it in its slot.
pub fn create(work: &mut Work, slot: &mut SlotTasks, new: NewTask, turn: &mut Turn<'_>) -> TaskRef {
    let spec = work.service.spec_at(new.version).unwrap_or(&work.service.spec);
    let host_ports = spec.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host).cloned().collect();
    let node = match new.slot {
        Slot::Node(node) => Some(node),
        Slot::Replica(_) => None,
    };
    let waits = new.restarts.start_at.is_some_and(|at| at > turn.now);
    let message = if waits { "waiting to restart" } else { "created" };
    let task = Task {
        id: turn.task_id(),
        meta: Meta { version: 0, created_at: turn.now, updated_at: turn.now },
        service: work.service.id,
        service_name: work.service.spec.name.clone(),
        spec_version: new.version,
        slot: new.slot,
        node,
        desired: new.desired,
        status: TaskStatus { state: TaskState::New, at: turn.now, message: message.into(), ..TaskStatus::default() },
        attachments: Vec::new(),
        host_ports,
        restarts: new.restarts,
        job_iteration: new.iteration,
        nominated: None,
        traced: new.traced,
    };
    let at = work.create(task);
    slot.all.push(at);
    at
}

/// Ready where an earlier task of the slot still runs, otherwise what the mode asks of a working task.
pub fn desired_now(slot: &SlotTasks, work: &Work, turn: &Turn<'_>) -> DesiredState {
    if slot.is_clearing(work, turn) { DesiredState::Ready } else { working(work) }
}

/// What a task of this service is desired to do once it may start.
pub fn working(work: &Work) -> DesiredState {
    if work.service.spec.mode.is_job() { DesiredState::Complete } else { DesiredState::Running }
}
