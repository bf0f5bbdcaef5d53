//! What may change in a task, and how an agent's report is taken.

use berth_proto::object::Task;
use berth_proto::state::TaskState;

use super::conflict::Conflict;
use super::object::ObjectRef;
use super::transaction::Observation;

/// Refuses a step from `old` to `new` that moves a state backward, moves the task to another node, or makes it the task
/// of another service or slot.
pub fn check_step(old: &Task, new: &Task) -> Result<(), Conflict> {
    let object = ObjectRef::Task(new.id);
    let fixed = |field| Err(Conflict::Fixed { object, field });
    if old.service != new.service {
        return fixed("the service");
    }
    if old.slot != new.slot {
        return fixed("the slot");
    }
    if old.node.is_some() && old.node != new.node {
        return fixed("the node");
    }
    if !may_follow(old.status.state, new.status.state) {
        return Err(Conflict::StateBackward { object, found: old.status.state, wanted: new.status.state });
    }
    if new.desired < old.desired {
        return Err(Conflict::DesiredBackward { object, found: old.desired, wanted: new.desired });
    }
    Ok(())
}

/// The task after the report, or `None` when the report says nothing new.
pub fn observe(task: &Task, observation: &Observation) -> Option<Task> {
    let status = &observation.status;
    if task.node != Some(observation.node) || !may_follow(task.status.state, status.state) {
        return None;
    }
    let ports_are_news = observation.host_ports.as_ref().is_some_and(|ports| *ports != task.host_ports);
    if task.status == *status && !ports_are_news {
        return None;
    }
    let mut task = task.clone();
    task.status = status.clone();
    if let Some(ports) = &observation.host_ports {
        task.host_ports.clone_from(ports);
    }
    Some(task)
}

/// A state may stay or move forward; how a task ended stays, except that its record may be given up.
fn may_follow(old: TaskState, new: TaskState) -> bool {
    if old.is_terminal() && new != old {
        return new > old && matches!(new, TaskState::Remove | TaskState::Orphaned);
    }
    new >= old
}
