//! Is a service up, still on its way, or will it not come up? Pure: the world and `now` in, a verdict with reasons out.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_manager::update::diff::same_container;
use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{Replicas, Service, Task, UpdateProgress};
use berth_proto::spec::ServiceMode;
use berth_proto::state::{HealthState, TaskState};
use berth_proto::time::Timestamp;

use crate::client::resolve::short_task_name;
use crate::client::world::World;
use crate::ui::human::ellipsis;
use crate::ui::progress::Stage;

/// A task that runs for this long without an end is believed to stay up.
const SETTLE: Duration = Duration::from_millis(300);
/// The same, once tasks of the service have failed.
const SETTLE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A node that cannot have a port that a running service now publishes has said so by then.
const HEARD: Duration = Duration::from_secs(1);
/// Tasks that ended badly before the service is given up.
const MAX_FAILURES: usize = 3;
/// Tasks that could not be started at all before the service is given up.
const MAX_REJECTIONS: usize = 2;
/// A task that no node takes for this long, or a slot that nobody fills again, is given up.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest reason that is shown while waiting; the end tells all of it.
const MAX_TROUBLE: usize = 200;

/// What is waited for.
#[derive(Debug, Clone)]
pub struct Goal {
    /// The service.
    pub service: ServiceId,
    /// Its name, should it go away.
    pub name: String,
    /// A rollback was asked for: its end is a good one.
    pub rollback: bool,
    /// When waiting began.
    pub since: Timestamp,
    /// Tasks that were there before; their ends do not count.
    pub before: BTreeSet<TaskId>,
}

impl Goal {
    /// Waits for `service` as it is in `world`, from now on.
    pub fn new(service: &Service, tasks_before: BTreeSet<TaskId>, since: Timestamp) -> Self {
        let name = service.spec.name.to_string();
        Self { service: service.id, name, rollback: false, since, before: tasks_before }
    }
}

/// How a service is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On its way; look again at this time even if nothing happens.
    Waiting(Option<Timestamp>),
    /// As it was asked to be.
    Up,
    /// It will not come up by itself; why.
    Failed(String),
}

/// What to say of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Verdict.
    pub verdict: Verdict,
    /// Tasks.
    pub replicas: Replicas,
    /// A few words.
    pub words: String,
    /// The same for a log, where only what is worth a line counts.
    pub stage: Stage,
}

/// Looks at one service.
pub fn assess(world: &World, goal: &Goal, now: Timestamp) -> Assessment {
    let Some(service) = world.services.get(&goal.service) else {
        let why = "it was removed meanwhile".to_owned();
        let stage = Stage { name: why.clone(), words: why.clone() };
        return Assessment { verdict: Verdict::Failed(why.clone()), replicas: Replicas::default(), words: why, stage };
    };
    let view = View::new(world, service, goal, now);
    let verdict = view.verdict();
    let (words, stage) = (view.words(&verdict), view.stage());
    Assessment { verdict, replicas: view.replicas, words, stage }
}

struct View<'w> {
    world: &'w World,
    service: &'w Service,
    goal: &'w Goal,
    now: Timestamp,
    replicas: Replicas,
    /// Tasks at the current spec.
    current: Vec<&'w Task>,
    /// Tasks made since, that ended badly; oldest first.
    failures: Vec<&'w Task>,
}

impl<'w> View<'w> {
    fn new(world: &'w World, service: &'w Service, goal: &'w Goal, now: Timestamp) -> Self {
        let replicas = Replicas::count(service, world.tasks_of(service.id));
        // A change that is nothing to a container, e.g. of labels, leaves tasks at their old spec version.
        let of_spec = |task: &&Task| {
            let spec = service.spec_at(task.spec_version);
            spec.is_some_and(|spec| same_container(spec, &service.spec))
        };
        let current: Vec<_> = world.tasks_of(service.id).filter(of_spec).collect();
        let bad = |task: &&Task| matches!(task.status.state, TaskState::Failed | TaskState::Rejected);
        let new = |task: &&Task| !goal.before.contains(&task.id);
        let mut failures: Vec<_> = world.tasks_of(service.id).filter(bad).filter(new).collect();
        failures.sort_by_key(|task| task.status.at);
        Self { world, service, goal, now, replicas, current, failures }
    }

    fn verdict(&self) -> Verdict {
        if self.service.pending_delete {
            return Verdict::Failed("it is being removed".to_owned());
        }
        if let Some(verdict) = self.update_verdict() {
            return verdict;
        }
        if self.is_complete() {
            return match self.troubled() {
                Some(task) => self.trouble_verdict(task),
                None => self.settled(),
            };
        }
        match self.hopeless() {
            Some(why) => Verdict::Failed(why),
            None => Verdict::Waiting(self.next_look()),
        }
    }

    /// What the state of the update settles, if it does.
    fn update_verdict(&self) -> Option<Verdict> {
        let update = self.service.update.as_ref()?;
        if update.target != self.service.spec_version && !self.goal.rollback {
            return None;
        }
        // The manager's message names the task and why.
        let why = |what: &str| {
            Verdict::Failed(match (update.message.is_empty(), self.last_error()) {
                (false, _) => update.message.clone(),
                (true, Some(error)) => format!("{what}: {error}"),
                (true, None) => what.to_owned(),
            })
        };
        match update.progress {
            UpdateProgress::Paused => Some(why("the update is paused")),
            UpdateProgress::RollbackPaused => Some(why("the rollback is paused")),
            UpdateProgress::RollbackCompleted if !self.goal.rollback => {
                let last = self.last_error().map(|error| format!(": {error}")).unwrap_or_default();
                Some(Verdict::Failed(format!("the update failed and was rolled back{last}")))
            }
            UpdateProgress::Updating | UpdateProgress::RollbackStarted => {
                Some(Verdict::Waiting(Some(self.now.after(Duration::from_secs(1)))))
            }
            UpdateProgress::Completed | UpdateProgress::RollbackCompleted => None,
        }
    }

    fn is_complete(&self) -> bool {
        match self.service.mode() {
            ServiceMode::Replicated { replicas } => {
                let running = self.current.iter().filter(|task| is_up(task)).count() as u64;
                running == replicas && self.replicas.running == replicas
            }
            ServiceMode::Global => {
                let waited = self.now.since(self.goal.since) >= Duration::from_millis(500);
                let all_up = self.replicas.running == self.replicas.desired;
                all_up && (self.replicas.desired > 0 || waited)
            }
            ServiceMode::ReplicatedJob { total_completions, .. } => self.replicas.completed >= Some(total_completions),
            ServiceMode::GlobalJob => self.replicas.total > Some(0) && self.replicas.completed == self.replicas.total,
        }
    }

    /// All run: do they stay up?
    fn settled(&self) -> Verdict {
        if self.service.spec.mode.is_job() {
            return Verdict::Up;
        }
        let checked = |task: &&&Task| task.status.health == Some(HealthState::Healthy);
        let settle = if self.failures.is_empty() { SETTLE } else { SETTLE_AFTER_FAILURE };
        let young = self.current.iter().filter(|task| is_up(task) && !checked(task)).map(|task| task.status.at).max();
        let publishes = !self.service.spec.endpoint.ports.is_empty();
        let heard = publishes.then(|| self.goal.since.after(HEARD));
        match young.map(|at| at.after(settle)).max(heard) {
            Some(settled_at) if settled_at > self.now => Verdict::Waiting(Some(settled_at)),
            _ => Verdict::Up,
        }
    }

    /// A task that runs and of which its node says that not all is well, e.g. that a published port is taken.
    fn troubled(&self) -> Option<&'w Task> {
        self.current.iter().find(|task| is_up(task) && !task.status.error.is_empty()).copied()
    }

    /// It may pass: whatever holds the port may be about to end.
    fn trouble_verdict(&self, task: &Task) -> Verdict {
        let until = self.goal.since.after(PATIENCE);
        if until > self.now {
            return Verdict::Waiting(Some(until));
        }
        Verdict::Failed(format!("{} runs, but {}", short_task_name(self.world, task), task.status.error))
    }

    /// Why there is no point in waiting on.
    fn hopeless(&self) -> Option<String> {
        let rejected = self.failures.iter().filter(|task| task.status.state == TaskState::Rejected).count();
        let failed = self.failures.len() - rejected;
        if rejected >= MAX_REJECTIONS || failed >= MAX_FAILURES {
            let what = if rejected >= MAX_REJECTIONS { "tasks are rejected" } else { "tasks keep failing" };
            return Some(format!("{what}: {}", self.last_error().unwrap_or_default()));
        }
        let stuck = self.current.iter().find(|task| {
            task.status.state == TaskState::Pending
                && !task.status.error.is_empty()
                && self.now.since(task.meta.created_at.max(self.goal.since)) >= PATIENCE
        });
        if let Some(task) = stuck {
            return Some(format!("no node takes {}: {}", short_task_name(self.world, task), task.status.error));
        }
        let given_up = self.current.iter().find(|task| {
            let replaced = || {
                self.current.iter().any(|other| other.slot == task.slot && other.meta.created_at > task.meta.created_at)
            };
            task.status.state.is_terminal()
                && !self.service.spec.mode.is_job()
                && self.now.since(task.status.at.max(self.goal.since)) >= PATIENCE
                && self.replicas.running < self.replicas.desired
                && !replaced()
        });
        given_up.map(|task| {
            let name = short_task_name(self.world, task);
            format!("{name} ended and is not restarted: {}", end_of(task))
        })
    }

    fn next_look(&self) -> Option<Timestamp> {
        Some(self.now.after(Duration::from_secs(1)))
    }

    fn last_error(&self) -> Option<String> {
        let task = self.failures.last()?;
        Some(format!("{} {}", short_task_name(self.world, task), end_of(task)))
    }

    fn words(&self, verdict: &Verdict) -> String {
        let Replicas { running, desired, .. } = self.replicas;
        let count = self.count();
        match verdict {
            Verdict::Up => count,
            // The command ends with the reason.
            Verdict::Failed(_) => format!("{count}, did not come up"),
            Verdict::Waiting(_) => {
                let phase = match self.rollout() {
                    Some(rollout) => rollout.to_owned(),
                    None if running == desired && desired > 0 => "checking that it stays up".to_owned(),
                    None => self.phase(),
                };
                format!("{count}, {phase}{}", self.trouble())
            }
        }
    }

    /// Counts and the states on the way to running pass by too quickly for a log.
    fn stage(&self) -> Stage {
        let phase = match self.rollout() {
            Some(rollout) => rollout.to_owned(),
            None => match self.slowest() {
                Some(task) if task.status.error.is_empty() && task.status.health.is_none() => match task.status.state {
                    TaskState::Preparing if task.status.message.starts_with("pulling") => "pulling".to_owned(),
                    _ if task.restarts.start_at.is_some_and(|at| at > self.now) => self.phase(),
                    _ => "starting".to_owned(),
                },
                Some(_) => self.phase(),
                // None is there yet, perhaps because of others; or all are as far as they get.
                None if self.current.is_empty() && !self.service.spec.depends_on.is_empty() => self.phase(),
                None => "starting".to_owned(),
            },
        };
        let trouble = self.trouble();
        let words = format!("{}, {phase}{trouble}", self.count());
        // One line for a failure, whatever follows it.
        Stage { name: if trouble.is_empty() { phase } else { trouble }, words }
    }

    fn count(&self) -> String {
        let Replicas { running, desired, completed, total } = self.replicas;
        match (completed, total) {
            (Some(completed), Some(total)) => format!("{completed}/{total} completed"),
            _ => format!("{running}/{desired} running"),
        }
    }

    fn rollout(&self) -> Option<&'static str> {
        let update = self.service.update.as_ref().filter(|_| self.update_verdict().is_some())?;
        Some(if update.progress == UpdateProgress::RollbackStarted { "rolling back" } else { "updating" })
    }

    fn trouble(&self) -> String {
        let said = self.last_error().map(|error| format!("; last failure: {}", ellipsis(&error, MAX_TROUBLE)));
        said.unwrap_or_default()
    }

    /// The task that is furthest from running.
    fn slowest(&self) -> Option<&'w Task> {
        let waits = |task: &&&Task| task.desired.wants_work() && task.status.state < TaskState::Running;
        self.current.iter().filter(waits).min_by_key(|task| task.status.state).copied()
    }

    /// What the slowest task is doing.
    fn phase(&self) -> String {
        match self.slowest() {
            Some(task) if !task.status.error.is_empty() => task.status.error.clone(),
            Some(task) if task.restarts.start_at.is_some_and(|at| at > self.now) => "waiting to restart".to_owned(),
            Some(task) if task.status.health == Some(HealthState::Starting) => "waiting to be healthy".to_owned(),
            Some(task) => task.status.state.to_string(),
            None if !self.service.spec.depends_on.is_empty() && self.current.is_empty() => {
                let names: Vec<&str> = self.service.spec.depends_on.keys().map(|name| name.as_str()).collect();
                format!("waiting for {}", names.join(", "))
            }
            None => "waiting".to_owned(),
        }
    }
}

fn is_up(task: &Task) -> bool {
    task.status.state == TaskState::Running && task.desired.wants_work()
}

/// How a task ended: its error, or its exit code.
fn end_of(task: &Task) -> String {
    let code = task.status.container.as_ref().and_then(|container| container.exit_code);
    match (task.status.error.as_str(), code) {
        ("", Some(code)) => format!("exited with code {code}"),
        ("", None) => format!("is {}", task.status.state),
        (error, _) => error.replace('\n', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, add_service, add_task, ago, set_update, world};
    use serde_json::json;

    /// A service of two replicas, waited for since ten seconds.
    fn waiting() -> (World, Goal) {
        let mut world = world();
        let service = add_service(&mut world, 1, "web", json!({}));
        let goal = Goal::new(&world.services[&service], BTreeSet::new(), ago(10_000));
        (world, goal)
    }

    fn failed(assessment: Assessment) -> String {
        match assessment.verdict {
            Verdict::Failed(why) => why,
            other => panic!("{other:?}: {}", assessment.words),
        }
    }

    #[test]
    fn it_is_up_when_all_tasks_run_for_a_moment() {
        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 400);
        add_task(&mut world, goal.service, 11, 2, TaskState::Preparing, 400);
        let half = assess(&world, &goal, NOW);
        assert!(matches!(half.verdict, Verdict::Waiting(_)));
        assert_eq!(half.words, "1/2 running, preparing");
        assert_eq!(half.stage.words, "1/2 running, starting");
        add_task(&mut world, goal.service, 11, 2, TaskState::Running, 100);
        assert_eq!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(Some(ago(-200))));
        assert_eq!(assess(&world, &goal, ago(-200)).verdict, Verdict::Up);
    }

    #[test]
    fn a_crash_loop_is_given_up_with_the_reason() {
        let (mut world, goal) = waiting();
        for number in 0..3 {
            add_task(&mut world, goal.service, 20 + number, 1, TaskState::Failed, 500);
        }
        add_task(&mut world, goal.service, 10, 1, TaskState::Starting, 10);
        assert_eq!(failed(assess(&world, &goal, NOW)), "tasks keep failing: web.1 exited with code 3");
    }

    #[test]
    fn failures_from_before_do_not_count() {
        let (mut world, mut goal) = waiting();
        for number in 0..5 {
            add_task(&mut world, goal.service, 20 + number, 1, TaskState::Failed, 500);
        }
        goal.before = world.tasks.keys().copied().collect();
        add_task(&mut world, goal.service, 10, 1, TaskState::Starting, 10);
        assert!(matches!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(_)));
    }

    #[test]
    fn after_a_failure_it_must_run_longer() {
        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 20, 1, TaskState::Failed, 3000);
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 2000);
        add_task(&mut world, goal.service, 11, 2, TaskState::Running, 2000);
        assert_eq!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(Some(ago(-3000))));
    }

    #[test]
    fn what_cannot_be_started_or_placed_is_given_up() {
        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 20, 1, TaskState::Rejected, 900);
        add_task(&mut world, goal.service, 21, 1, TaskState::Rejected, 500);
        let why = failed(assess(&world, &goal, NOW));
        assert!(why.starts_with("tasks are rejected") && why.contains("no such image"), "{why}");

        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 20, 1, TaskState::Pending, 9000);
        let task = world.tasks.values_mut().next().expect("one");
        task.status.error = "1 node is too small".to_owned();
        assert_eq!(failed(assess(&world, &goal, NOW)), "no node takes web.1: 1 node is too small");
    }

    #[test]
    fn a_running_task_with_trouble_is_no_good_end() {
        let (mut world, mut goal) = waiting();
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 9000);
        add_task(&mut world, goal.service, 11, 2, TaskState::Running, 9000);
        for task in world.tasks.values_mut() {
            task.status.error = "port 80 is taken".to_owned();
        }
        assert_eq!(failed(assess(&world, &goal, NOW)), "web.1 runs, but port 80 is taken");
        goal.since = ago(100);
        assert!(matches!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(_)), "it may pass");
    }

    #[test]
    fn a_task_that_is_not_restarted_is_given_up() {
        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 9000);
        add_task(&mut world, goal.service, 11, 2, TaskState::Failed, 9000);
        let why = failed(assess(&world, &goal, NOW));
        assert_eq!(why, "web.2 ended and is not restarted: exited with code 3");
    }

    #[test]
    fn the_state_of_the_update_decides() {
        let (mut world, mut goal) = waiting();
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 9000);
        add_task(&mut world, goal.service, 11, 2, TaskState::Running, 9000);
        set_update(&mut world, goal.service, UpdateProgress::Updating, "");
        assert!(matches!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(_)));
        set_update(&mut world, goal.service, UpdateProgress::Paused, "2 failed");
        assert_eq!(failed(assess(&world, &goal, NOW)), "2 failed");
        set_update(&mut world, goal.service, UpdateProgress::RollbackCompleted, "rolled back");
        assert!(failed(assess(&world, &goal, NOW)).contains("rolled back"));
        goal.rollback = true;
        assert_eq!(assess(&world, &goal, NOW).verdict, Verdict::Up);
        set_update(&mut world, goal.service, UpdateProgress::Completed, "");
        goal.rollback = false;
        assert_eq!(assess(&world, &goal, NOW).verdict, Verdict::Up);
    }

    #[test]
    fn tasks_of_an_older_spec_are_not_yet_what_was_asked_for() {
        let (mut world, goal) = waiting();
        add_task(&mut world, goal.service, 10, 1, TaskState::Running, 9000);
        add_task(&mut world, goal.service, 11, 2, TaskState::Running, 9000);
        world.services.get_mut(&goal.service).expect("a service").spec_version = 9;
        assert!(matches!(assess(&world, &goal, NOW).verdict, Verdict::Waiting(_)));
    }
}
