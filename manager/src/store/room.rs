//! What is reserved on each node by the tasks that are meant to work there. Schedulers of two leaders may give the last room
//! of a node to two tasks, each from what it knows: the store takes one.

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::{NodeResources, Task};
use berth_proto::spec::ServiceSpec;
use berth_proto::state::TaskState;
use berth_scheduler::{Demand, HostPort};
use imbl::OrdMap;

use super::conflict::Conflict;
use super::event::Event;
use super::object::{Object, ObjectRef};
use super::state::State;

/// What tasks that are meant to work have reserved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserved {
    /// 1_000_000_000 is one whole cpu.
    pub nano_cpus: u64,
    /// Bytes.
    pub memory: u64,
}

/// Sums over the tasks, kept beside them. Tasks that reserve nothing are not in it.
#[derive(Clone, Default)]
pub struct Room {
    tasks: OrdMap<TaskId, (NodeId, Reserved)>,
    nodes: OrdMap<NodeId, Reserved>,
}

impl Room {
    /// Brings the sums from `old` to `new`. `spec` is what the task runs.
    pub fn replace<'a>(
        &mut self,
        old: Option<&Task>,
        new: Option<&Task>,
        spec: impl FnOnce(&Task) -> Option<&'a ServiceSpec>,
    ) {
        let place = |task: &Task| task.node.filter(|_| holds(task));
        let (before, now) = (old.and_then(place), new.and_then(place));
        if before == now {
            return;
        }
        if let Some((node, held)) = old.and_then(|task| self.tasks.remove(&task.id)) {
            self.change(node, |sum| {
                sum.nano_cpus -= held.nano_cpus;
                sum.memory -= held.memory;
            });
        }
        let reserved = |task: &Task| {
            let reservations = &spec(task)?.task.resources.reservations;
            Some(Reserved { nano_cpus: reservations.nano_cpus, memory: reservations.memory })
        };
        let Some((task, node)) = new.zip(now) else { return };
        let Some(held) = reserved(task).filter(|held| *held != Reserved::default()) else { return };
        self.tasks.insert(task.id, (node, held));
        self.change(node, |sum| {
            sum.nano_cpus += held.nano_cpus;
            sum.memory += held.memory;
        });
    }

    /// What is reserved on a node.
    pub fn on_node(&self, node: NodeId) -> Reserved {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut Reserved)) {
        let mut sum = self.on_node(node);
        change(&mut sum);
        if sum == Reserved::default() {
            self.nodes.remove(&node);
        } else {
            self.nodes.insert(node, sum);
        }
    }
}

/// Refuses tasks that were given a node which has no room for them.
pub fn check(state: &State, events: &[Event]) -> Result<(), Conflict> {
    for event in events {
        let (old, new) = match event {
            Event::Created(Object::Task(new)) => (None, new),
            Event::Updated { old: Object::Task(old), new: Object::Task(new) } => (Some(old), new),
            _ => continue,
        };
        let Some(node) = new.node.filter(|_| !old.is_some_and(|old| holds(old)) && holds(new)) else { continue };
        let Some(description) = state.node(node).and_then(|node| node.description.as_ref()) else { continue };
        let Some(spec) = state.spec_of(new) else { continue };
        if !fits(state, node, &description.resources, spec) || clashes(state, node, new, spec) {
            return Err(Conflict::NodeFull { object: ObjectRef::Task(new.id), node });
        }
    }
    Ok(())
}

/// A task that is bound to a node holds nothing there before it is assigned. One that is asked to stop does not count: the
/// scheduler knows better when its room is free, this is against two of them.
fn holds(task: &Task) -> bool {
    let state = task.status.state;
    task.desired.wants_work() && state >= TaskState::Assigned && !state.is_terminal()
}

fn fits(state: &State, node: NodeId, has: &NodeResources, spec: &ServiceSpec) -> bool {
    let asked = &spec.task.resources.reservations;
    let held = state.room.on_node(node);
    if (asked.nano_cpus > 0 && held.nano_cpus > has.nano_cpus) || (asked.memory > 0 && held.memory > has.memory) {
        return false;
    }
    if asked.generic.is_empty() && asked.devices.is_empty() {
        return true;
    }
    // Few tasks ask for these: they are counted when one does.
    let others: Vec<Demand> = working(state, node).filter_map(|task| demand(state, task)).collect();
    let of = |name: &str| others.iter().filter_map(|other| other.generic.get(name)).sum::<u64>();
    let fits = |name: &String| of(name) <= has.generic.get(name).copied().unwrap_or_default();
    Demand::of(spec, Vec::new()).generic.keys().all(fits)
}

/// True when another task there has one of its ports.
fn clashes(state: &State, node: NodeId, task: &Task, spec: &ServiceSpec) -> bool {
    let own: Vec<HostPort> = spec.endpoint.ports.iter().filter_map(HostPort::of).collect();
    let taken = |other: &Task| {
        let held =
            state.spec_of(other).into_iter().flat_map(|spec| spec.endpoint.ports.iter().filter_map(HostPort::of));
        held.into_iter().any(|held| own.iter().any(|port| port.clashes_with(&held)))
    };
    !own.is_empty() && working(state, node).any(|other| other.id != task.id && taken(other))
}

fn working(state: &State, node: NodeId) -> impl Iterator<Item = &Task> {
    state.tasks_on_node(node).map(|task| &**task).filter(|task| holds(task))
}

fn demand(state: &State, task: &Task) -> Option<Demand> {
    Some(Demand::of(state.spec_of(task)?, Vec::new()))
}
