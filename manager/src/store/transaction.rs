//! What is written to the log: preconditions and changes that hold or fail together.
//!
//! A transaction is data. Time and ids come in with it; applying it draws nothing from outside.

use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::TaskStatus;
use berth_proto::spec::PortConfig;
use berth_proto::state::DesiredState;
use berth_proto::time::Timestamp;

use super::object::{Object, ObjectRef, Stored};

/// Preconditions and changes that hold or fail together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transaction {
    /// Stamped into what it writes.
    pub now: Timestamp,
    /// Who asked: a person's name, or the loop's.
    pub actor: Arc<str>,
    /// What must hold before any change; besides these each [`Change::Put`] carries its own.
    pub preconditions: Vec<Precondition>,
    /// What is done, in order.
    pub changes: Vec<Change>,
}

/// The object is at that version; 0 means that it does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precondition {
    /// The object.
    pub object: ObjectRef,
    /// Its version.
    pub version: u64,
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Writes an object. Its `meta.version` must be the stored version, 0 to make a new one.
    Put(Object),
    /// Removes an object. The transaction must carry a precondition on it.
    Remove(ObjectRef),
    /// What an agent saw of a task of its node. Needs no version because a state only moves forward: a report that is
    /// older than what is stored, or names a task that is gone or another node's, changes nothing.
    Observe(Observation),
    /// Raises the desired state of a task. Needs no version because a desired state only moves forward: lowering it, or
    /// naming a task that is gone, changes nothing.
    Desire {
        /// The task.
        task: TaskId,
        /// At least this.
        desired: DesiredState,
    },
}

/// What an agent saw of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// The task.
    pub task: TaskId,
    /// The node that says so.
    pub node: NodeId,
    /// What it saw.
    pub status: TaskStatus,
    /// Its host-mode ports as they were opened; `None` leaves them.
    pub host_ports: Option<Vec<PortConfig>>,
}

impl Transaction {
    /// An empty transaction.
    pub fn new(now: Timestamp, actor: impl Into<Arc<str>>) -> Self {
        Self { now, actor: actor.into(), ..Self::default() }
    }

    /// True when it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Requires that nobody has written `object` since this version of it was read.
    pub fn expect<T: Stored>(&mut self, object: &T) {
        self.expect_version(T::reference(object.id()), object.meta().version);
    }

    /// Requires that the object is at that version; 0 means that it must not exist.
    pub fn expect_version(&mut self, object: impl Into<ObjectRef>, version: u64) {
        let precondition = Precondition { object: object.into(), version };
        if !self.preconditions.contains(&precondition) {
            self.preconditions.push(precondition);
        }
    }

    /// Makes a new object; refused when its id or its name is taken. Whatever version it carries is set to 0.
    pub fn create<T: Stored>(&mut self, mut object: T) {
        object.meta_mut().version = 0;
        self.changes.push(Change::Put(T::into_object(Arc::new(object))));
    }

    /// Writes an object that was read before and changed; refused when somebody else wrote it since.
    pub fn update(&mut self, object: impl Into<Object>) {
        self.changes.push(Change::Put(object.into()));
    }

    /// Removes an object; refused when somebody wrote it since it was read.
    pub fn remove<T: Stored>(&mut self, object: &T) {
        self.expect(object);
        self.changes.push(Change::Remove(T::reference(object.id())));
    }

    /// Adds what an agent saw of a task.
    pub fn observe(&mut self, observation: Observation) {
        self.changes.push(Change::Observe(observation));
    }

    /// Raises the desired state of a task, whatever was written to the task in between.
    pub fn desire(&mut self, task: TaskId, desired: DesiredState) {
        self.changes.push(Change::Desire { task, desired });
    }

    /// Takes over the preconditions and changes of another transaction.
    pub fn extend(&mut self, other: Self) {
        for precondition in other.preconditions {
            self.expect_version(precondition.object, precondition.version);
        }
        self.changes.extend(other.changes);
    }
}
