//! How many tasks of a service run, and how many should. Pure.

use std::fmt;

use berth_manager::store::State;
use berth_proto::object::{self, Service};
use berth_proto::state::TaskState;

/// How many tasks of a service run, and how many should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Tasks that run and are meant to.
    pub running: u64,
    /// Tasks that should.
    pub desired: u64,
    /// Of a job: tasks that have ended well, and how many have to.
    pub ended: Option<(u64, u64)>,
    /// Tasks of the newest spec that run or have done their work, of all that are meant to work.
    pub updated: (u64, u64),
}

impl Replicas {
    /// Counts the tasks of a service.
    pub fn count(state: &State, service: &Service) -> Self {
        let tasks = || state.tasks_of_service(service.id).map(|task| &**task);
        let counted = object::Replicas::count(service, tasks());
        let mut updated = (0, 0);
        for task in tasks() {
            let works = task.desired.wants_work();
            let runs = task.status.state == TaskState::Running && works;
            let is_new = task.spec_version == service.spec_version;
            updated.0 += u64::from(is_new && (runs || task.status.state == TaskState::Complete));
            updated.1 += u64::from(works);
        }
        let ended = counted.completed.zip(counted.total);
        Self { running: counted.running, desired: counted.desired, ended, updated }
    }

    /// How far it is, of how much.
    pub fn progress(self) -> (u64, u64) {
        self.ended.unwrap_or((self.running.min(self.desired), self.desired))
    }

    /// The same in percent.
    pub fn percent(self) -> u64 {
        let (done, goal) = self.progress();
        if goal == 0 { 100 } else { super::human::percent(done, goal).min(100) }
    }

    /// As many run, or have ended well, as should.
    pub fn is_full(self) -> bool {
        let (done, goal) = self.progress();
        done >= goal
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.running, self.desired)?;
        match self.ended {
            Some((completed, total)) => write!(f, " ({completed}/{total} completed)"),
            None => Ok(()),
        }
    }
}
