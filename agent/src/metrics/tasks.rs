//! Tasks that began and ended on this node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_metrics::{Counter, Counters, Histogram, Registry, Timings, buckets, counters, timings};
use berth_proto::id::TaskId;
use berth_proto::object::TaskStatus;
use berth_proto::state::TaskState;

/// How a task ends.
const ENDS: [TaskState; 4] = [TaskState::Complete, TaskState::Shutdown, TaskState::Failed, TaskState::Rejected];

/// What is counted of tasks; clones count together.
#[derive(Debug, Clone)]
pub struct TaskMetrics {
    started: Counter,
    ended: Counters<1>,
    oom: Counter,
    startup: Histogram,
    /// Time that the runtime takes.
    runtime: Timings<1>,
    /// When tasks that do not run yet were taken on.
    begun: Arc<Mutex<HashMap<TaskId, Instant>>>,
}

impl Default for TaskMetrics {
    fn default() -> Self {
        Self {
            started: Counter::default(),
            ended: counters("outcome", ENDS.map(TaskState::as_str)),
            oom: Counter::default(),
            startup: buckets::slow(),
            runtime: timings("step", ["create", "start"], buckets::fast),
            begun: Arc::default(),
        }
    }
}

impl TaskMetrics {
    /// Shows them.
    pub fn register(&self, registry: &mut Registry) {
        let Self { started, ended, oom, startup, runtime, begun: _ } = self.clone();
        registry.register("berth_agent_tasks_started", "Tasks that came to run on this node", started);
        registry.register("berth_agent_tasks_ended", "Tasks that ended on this node, by how", ended);
        registry.register("berth_agent_oom_kills", "Containers that the kernel ended for want of memory", oom);
        let help = "Time from when this node took a task on until it ran, its image's download included";
        registry.register("berth_agent_task_startup_seconds", help, startup);
        registry.register("berth_agent_container_seconds", "Time that the runtime takes to create and start", runtime);
    }

    /// The runtime took so long for a step.
    pub fn took(&self, step: &'static str, began: Instant) {
        self.runtime.get_or_create(&[("step", step)]).observe(began.elapsed().as_secs_f64());
    }

    /// A task has another status than `before`.
    pub fn status(&self, task: TaskId, before: Option<TaskState>, status: &TaskStatus) {
        let state = status.state;
        if before == Some(state) {
            return;
        }
        let begun = match before {
            None if state < TaskState::Running => {
                self.begun().insert(task, Instant::now());
                None
            }
            // One that ran already in the life before has begun in no time that is known.
            _ if state >= TaskState::Running => self.begun().remove(&task),
            _ => None,
        };
        if state == TaskState::Running && before.is_some() {
            self.started.inc();
            begun.into_iter().for_each(|begun| self.startup.observe(begun.elapsed().as_secs_f64()));
        }
        let is_new_end = state.is_terminal() && !before.is_some_and(TaskState::is_terminal);
        if is_new_end && ENDS.contains(&state) {
            self.ended.get_or_create(&[("outcome", state.as_str())]).inc();
            self.oom.inc_by(u64::from(status.container.as_ref().is_some_and(|container| container.oom_killed)));
        }
    }

    /// Nothing is left of the task.
    pub fn gone(&self, task: TaskId) {
        self.begun().remove(&task);
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<TaskId, Instant>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_metrics::{Format, Scrape};
    use berth_proto::object::ContainerStatus;

    use super::*;

    fn status(state: TaskState, oom_killed: bool) -> TaskStatus {
        let container = Some(ContainerStatus { oom_killed, ..ContainerStatus::default() });
        TaskStatus { state, container, ..TaskStatus::default() }
    }

    async fn lines(metrics: &TaskMetrics) -> Vec<String> {
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let text = Scrape::default().with(Arc::new(registry)).text(Format::Prometheus).await;
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn each_begin_and_end_is_counted_once_and_nothing_is_kept_of_tasks_that_are_gone() {
        use TaskState::{Accepted, Failed, Running, Shutdown};
        let metrics = TaskMetrics::default();
        for number in 0..1_000 {
            let task = TaskId::from_random(number);
            let end = if number % 10 == 0 { Failed } else { Shutdown };
            let mut before = None;
            for state in [Accepted, Accepted, Running, Running, end, end] {
                metrics.status(task, before, &status(state, end == Failed && state == Failed));
                before = Some(state);
            }
            metrics.gone(task);
        }
        // One that another life has started, and one that never came to run.
        metrics.status(TaskId::from_random(2_000), None, &status(Running, false));
        metrics.status(TaskId::from_random(2_001), None, &status(Accepted, false));
        metrics.gone(TaskId::from_random(2_001));
        assert!(metrics.begun().is_empty());
        let lines = lines(&metrics).await;
        for line in [
            "berth_agent_tasks_started_total 1000",
            "berth_agent_tasks_ended_total{outcome=\"failed\"} 100",
            "berth_agent_tasks_ended_total{outcome=\"shutdown\"} 900",
            "berth_agent_tasks_ended_total{outcome=\"rejected\"} 0",
            "berth_agent_oom_kills_total 100",
            "berth_agent_task_startup_seconds_count 1000",
        ] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:#?}");
        }
        assert!(lines.len() < 60, "a thousand tasks made {} series", lines.len());
    }
}
