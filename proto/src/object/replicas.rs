//! How many tasks of a service run, and how many should. Pure.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Service, Task};
use crate::spec::ServiceMode;
use crate::state::TaskState;

/// How many tasks of a service run, and how many should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct Replicas {
    /// Tasks that run and are meant to.
    pub running: u64,
    /// Tasks that should.
    pub desired: u64,
    /// Jobs: tasks of this run that have ended well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<u64>,
    /// Jobs: how many have to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

impl Replicas {
    /// Counts the tasks of `service` among `tasks`.
    pub fn count<'a>(service: &Service, tasks: impl Iterator<Item = &'a Task>) -> Self {
        let iteration = service.job.map(|job| job.iteration);
        let mut count = Self::default();
        let (mut wanted, mut completed) = (0, 0);
        for task in tasks.filter(|task| task.service == service.id) {
            let works = task.desired.wants_work();
            count.running += u64::from(task.status.state == TaskState::Running && works);
            let current = task.job_iteration == iteration;
            completed += u64::from(current && task.status.state == TaskState::Complete);
            wanted += u64::from(works && !task.status.state.is_terminal() || current && works && iteration.is_some());
        }
        match service.mode() {
            ServiceMode::Replicated { replicas } => count.desired = replicas,
            ServiceMode::Global => count.desired = wanted,
            ServiceMode::ReplicatedJob { max_concurrent, total_completions } => {
                count.desired = max_concurrent.min(total_completions.saturating_sub(completed));
                count.completed = Some(completed);
                count.total = Some(total_completions);
            }
            ServiceMode::GlobalJob => {
                count.desired = wanted.saturating_sub(completed);
                count.completed = Some(completed);
                count.total = Some(wanted.max(completed));
            }
        }
        count
    }
}

impl fmt::Display for Replicas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.running, self.desired)?;
        match (self.completed, self.total) {
            (Some(completed), Some(total)) => write!(f, " ({completed}/{total} completed)"),
            _ => Ok(()),
        }
    }
}
