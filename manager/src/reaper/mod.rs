//! Forgetting: tasks that ended beyond the history that is kept, tasks that are to be removed and have ended, tasks that
//! never reached a node, tasks of nodes that are gone. Never ends a task and never touches one that may still run, but
//! for those on nodes that nobody can reach.

use std::time::Duration;

use berth_proto::object::Task;
use berth_proto::state::{DesiredState, NodeState, TaskState};

use crate::orchestrator::slot::slots;
use crate::orchestrator::work::TaskRef;
use crate::orchestrator::{Turn, Work};

/// How long a node may be down before its tasks are given up for good (Docker Swarm's `orphanTimeout`).
pub const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Tasks kept per slot where there is no cluster object yet.
const DEFAULT_HISTORY: u32 = 5;

/// Forgets tasks of the service.
pub fn decide(work: &mut Work, turn: &mut Turn<'_>) {
    let limit = turn.state.cluster().map_or(DEFAULT_HISTORY, |cluster| cluster.spec.task_history_limit);
    let mut gone: Vec<TaskRef> = Vec::new();
    let mut orphans: Vec<TaskRef> = Vec::new();
    for slot in slots(work).values() {
        let mut ended = Vec::new();
        for at in &slot.all {
            let task = work.task(*at);
            if task.desired.wants_work() {
                continue;
            }
            if is_to_go(task, turn) {
                gone.push(*at);
            } else if is_orphan(task, turn) {
                orphans.push(*at);
            } else if task.status.state.is_terminal() {
                ended.push(*at);
            }
        }
        // The working task counts too: a limit of 5 keeps it and the last four before it.
        let working = usize::from(slot.current(work).is_some());
        let kept = (limit as usize).saturating_sub(working);
        gone.extend(&ended[..ended.len().saturating_sub(kept)]);
    }
    for at in gone {
        work.remove(at);
    }
    for at in orphans {
        let task = work.task_mut(at);
        task.status.state = TaskState::Orphaned;
        task.status.at = turn.now;
        task.status.message = "given up: its node has been down for a day".into();
    }
}

/// Tasks that never reached a node leave nothing to keep; tasks that are to be removed go once they have ended, or when
/// nobody can reach their node: an agent that comes back ends what it is not told to run.
fn is_to_go(task: &Task, turn: &Turn<'_>) -> bool {
    let Some(node) = task.node else { return true };
    if task.status.state < TaskState::Assigned {
        return true;
    }
    match turn.node(node) {
        None => true,
        Some(node) if task.desired == DesiredState::Remove => {
            task.status.state.is_terminal() || node.status.state == NodeState::Down
        }
        Some(_) => false,
    }
}

fn is_orphan(task: &Task, turn: &mut Turn<'_>) -> bool {
    let Some(node) = task.node.and_then(|node| turn.node(node)) else { return false };
    if task.status.state.is_terminal() || node.status.state != NodeState::Down {
        return false;
    }
    let due = node.status.at.after(ORPHAN_AFTER);
    if due > turn.now {
        turn.wake_at(due);
        return false;
    }
    true
}
