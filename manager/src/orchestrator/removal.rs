//! Ending a service: its tasks are to stop and be forgotten; once none is left the service goes too.

use berth_proto::state::DesiredState;

use super::work::{TaskRef, Work};

/// Asks all tasks to go. The reaper forgets those that have ended, and [`finish`] then the service.
pub fn decide(work: &mut Work) {
    let all: Vec<TaskRef> = work.tasks().map(|(at, _)| at).collect();
    for at in all {
        work.desire(at, DesiredState::Remove);
    }
}

/// Removes the service when a person asked for it and no task is left; after the reaper.
pub fn finish(work: &mut Work) {
    if work.service.pending_delete && work.tasks().next().is_none() {
        work.remove_service = true;
    }
}
