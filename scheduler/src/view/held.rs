//! What one task holds on its node, and the map of all tasks, which forks share until one of them writes.

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Slot, Task};
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;

use crate::demand::{Demand, HostPort};
use crate::hash::IdMap;

/// What a task holds or left behind on a node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    pub node: NodeId,
    pub service: ServiceId,
    pub demand: Arc<Demand>,
    pub ports: Box<[HostPort]>,
    pub kind: Kind,
}

/// In which way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// Holds its reservations.
    Holds(Hold),
    /// Ended badly at that time.
    Failed(Timestamp),
}

/// What is known of a task that holds something.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Hold {
    /// A task of its service; false once it is asked to stop.
    pub counted: bool,
    /// Belongs to its node (global services).
    pub bound: bool,
    /// It runs; until then it is unavailable.
    pub up: bool,
    /// Meant to end: moving it would lose its work.
    pub job: bool,
}

impl Hold {
    /// A task that was placed just now.
    pub const PLACED: Self = Self { counted: true, bound: false, up: true, job: false };
}

impl Held {
    /// What a task holds or leaves behind on its node; `None` when that is nothing.
    pub fn of(task: &Task, demand: &Arc<Demand>) -> Option<Self> {
        let node = task.node?;
        let kind = match task.status.state {
            TaskState::Failed | TaskState::Rejected => Kind::Failed(task.status.at),
            state if state.is_terminal() => return None,
            state => Kind::Holds(Hold {
                counted: task.desired.wants_work(),
                bound: matches!(task.slot, Slot::Node(_)),
                up: state == TaskState::Running,
                job: task.desired == DesiredState::Complete,
            }),
        };
        let ports = task.host_ports.iter().filter_map(HostPort::of).collect();
        Some(Self { node, service: task.service, demand: demand.clone(), ports, kind })
    }

    /// How it holds, when it does.
    pub fn hold(&self) -> Option<Hold> {
        match self.kind {
            Kind::Holds(hold) => Some(hold),
            Kind::Failed(_) => None,
        }
    }
}

const SHARDS: usize = 64;

/// Tasks by id, in shards of which a fork copies only those that it writes.
#[derive(Debug, Clone)]
pub(crate) struct Tasks(Vec<Arc<IdMap<TaskId, Held>>>);

impl Default for Tasks {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Arc::default()).collect())
    }
}

impl Tasks {
    pub fn get(&self, id: TaskId) -> Option<&Held> {
        self.0[shard(id)].get(&id)
    }

    pub fn insert(&mut self, id: TaskId, held: Held) {
        Arc::make_mut(&mut self.0[shard(id)]).insert(id, held);
    }

    pub fn remove(&mut self, id: TaskId) -> Option<Held> {
        let shard = &mut self.0[shard(id)];
        if shard.contains_key(&id) { Arc::make_mut(shard).remove(&id) } else { None }
    }

    pub fn same_as(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

fn shard(id: TaskId) -> usize {
    (id.as_u128() % SHARDS as u128) as usize
}
