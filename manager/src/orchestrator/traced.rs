//! How long a change of a person counts as the reason of what happens to a service: until every task that was made for it runs
//! or has ended, and the update is over. What is made after that (a crash's replacement, the task of a node that joins, a
//! rollback that nobody asked for) is part of no trace. Pure.

use berth_proto::object::UpdateProgress;
use berth_proto::state::TaskState;

use super::work::Work;

/// Forgets the trace of a change that is done.
pub fn decide(work: &mut Work) {
    if work.service.traced.is_some() && !is_under_way(work) {
        work.service_mut().traced = None;
    }
}

fn is_under_way(work: &Work) -> bool {
    let service = &work.service;
    let rolls = service
        .update
        .as_ref()
        .is_some_and(|update| matches!(update.progress, UpdateProgress::Updating | UpdateProgress::RollbackStarted));
    rolls
        || work.tasks().any(|(_, task)| {
            task.traced == service.traced && task.desired.wants_work() && task.status.state < TaskState::Running
        })
}
