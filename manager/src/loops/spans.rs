//! The spans of what the loops have written: a task made for a traced change, and its way to a node.

use berth_proto::object::Task;
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;
use berth_trace::{Step, Tracer};

use crate::store::{Change, Object, State, Transaction};

/// Tells what a transaction did that was just written. `before` is the state that it was decided from, `began` when.
pub fn written(tracer: &Tracer, transaction: &Transaction, before: &State, began: Timestamp) {
    if !tracer.is_on() {
        return;
    }
    let put = transaction.changes.iter().filter_map(|change| match change {
        Change::Put(Object::Task(task)) if task.traced.is_some() => Some(task),
        _ => None,
    });
    for task in put {
        tell(tracer, task, before.task(task.id).map(AsRef::as_ref), began);
    }
}

fn tell(tracer: &Tracer, task: &Task, before: Option<&Task>, began: Timestamp) {
    if before.is_none() {
        tracer.step(task, Step::Create).since(began).end();
    }
    let is_placed = |task: &Task| task.status.state >= TaskState::Assigned;
    if let Some(node) = task.node
        && is_placed(task)
        && !before.is_some_and(is_placed)
    {
        // One that was made earlier has waited since.
        let since = before.map_or(began, |before| before.meta.created_at);
        tracer.step(task, Step::Schedule).since(since).with("berth.task.node", node.to_string()).end();
    }
}
