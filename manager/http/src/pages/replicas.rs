//! How many tasks of a service run, and how many should; what the command line shows as REPLICAS. Pure.

use std::fmt;

use berth_manager::store::State;
use berth_proto::object::Service;
use berth_proto::spec::ServiceMode;
use berth_proto::state::TaskState;

/// How many tasks of a service run, and how many should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replicas {
    /// Tasks that run and are meant to.
    pub running: u64,
    /// Tasks that should.
    pub desired: u64,
    /// Jobs: tasks of this run that have ended well, and how many have to.
    pub completed: Option<(u64, u64)>,
    /// Tasks of the newest spec that run or have done their work; of how many tasks that are meant to work.
    pub updated: (u64, u64),
}

impl Replicas {
    /// Counts the tasks of `service`.
    pub fn count(state: &State, service: &Service) -> Self {
        let iteration = service.job.map(|job| job.iteration);
        let mut count = Self::default();
        let (mut wanted, mut completed) = (0, 0);
        for task in state.tasks_of_service(service.id) {
            let (observed, works) = (task.status.state, task.desired.wants_work());
            let runs = observed == TaskState::Running && works;
            count.running += u64::from(runs);
            let current = task.job_iteration == iteration;
            completed += u64::from(current && observed == TaskState::Complete);
            wanted += u64::from(works && (!observed.is_terminal() || current && iteration.is_some()));
            let new = task.spec_version == service.spec_version;
            count.updated.0 += u64::from(new && (runs || observed == TaskState::Complete));
            count.updated.1 += u64::from(works);
        }
        match service.spec.mode {
            ServiceMode::Replicated { replicas } => count.desired = replicas,
            ServiceMode::Global => count.desired = wanted,
            ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
                count.desired = max_concurrent.min(total_completions.saturating_sub(completed));
                count.completed = Some((completed, total_completions));
            }
            ServiceMode::GlobalJob => {
                count.desired = wanted.saturating_sub(completed);
                count.completed = Some((completed, wanted.max(completed)));
            }
        }
        count
    }

    /// All that should run do.
    pub fn is_full(&self) -> bool {
        self.running >= self.desired
    }

    /// Share of those that run, in percent; of a job, of those that have ended well.
    pub fn percent(&self) -> u64 {
        match self.completed {
            Some((completed, total)) => super::human::percent(completed, total).min(100),
            None if self.desired == 0 => 100,
            None => super::human::percent(self.running, self.desired).min(100),
        }
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.running, self.desired)?;
        match self.completed {
            Some((completed, total)) => write!(f, " ({completed}/{total} completed)"),
            None => Ok(()),
        }
    }
}
