//! Agents in a few lines: what an image does is in its name. `run` runs until it is stopped, `run-crash:300:3` fails after
//! 300 ms with code 3, `done:200` ends well after 200 ms, `reject` cannot be started, `hang` never starts.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_manager::orchestrator::{IdSource, SeededIds};
use berth_manager::store::{Observation, State};
use berth_proto::id::TaskId;
use berth_proto::object::{ContainerStatus, Task, TaskStatus};
use berth_proto::state::{DesiredState, NodeState, TaskState};
use berth_proto::time::Timestamp;

pub struct Agents {
    plans: BTreeMap<TaskId, Plan>,
    random: SeededIds,
    /// How long pulling an image takes.
    pub prepare: Duration,
    /// How long a container takes to stop.
    pub stop: Duration,
}

struct Plan {
    seen: (TaskState, DesiredState),
    due: Timestamp,
    next: TaskStatus,
}

impl Agents {
    pub fn new(seed: u64) -> Self {
        let random = SeededIds::new(seed ^ 0xa6e);
        let (prepare, stop) = (Duration::from_millis(20), Duration::from_millis(30));
        Self { plans: BTreeMap::new(), random, prepare, stop }
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        self.plans.values().map(|plan| plan.due).min()
    }

    /// Plans what each task does next.
    pub fn look(&mut self, state: &State, now: Timestamp) {
        self.plans.retain(|id, _| state.task(*id).is_some());
        let reachable = state.nodes().filter(|node| node.status.state == NodeState::Ready);
        let mut seen = Vec::new();
        for task in reachable.flat_map(|node| state.tasks_on_node(node.id)) {
            seen.push(task.id);
            let key = (task.status.state, task.desired);
            if self.plans.get(&task.id).is_some_and(|plan| plan.seen == key) {
                continue;
            }
            let image = state.spec_of(task).unwrap().task.container.image.clone();
            match self.next(task, &image) {
                Some((wait, status)) => {
                    let jitter = Duration::from_micros((self.random.bits() % 2_000) as u64);
                    let due = now.after(wait + jitter);
                    self.plans.insert(task.id, Plan { seen: key, due, next: status });
                }
                None => {
                    self.plans.remove(&task.id);
                }
            }
        }
        seen.sort_unstable();
        self.plans.retain(|id, _| seen.binary_search(id).is_ok());
    }

    /// What is due now.
    pub fn act(&mut self, state: &State, now: Timestamp) -> Vec<Observation> {
        let due: Vec<TaskId> = self.plans.iter().filter(|(_, plan)| plan.due <= now).map(|(id, _)| *id).collect();
        let mut observations = Vec::new();
        for id in due {
            let mut plan = self.plans.remove(&id).unwrap();
            let Some(task) = state.task(id) else { continue };
            plan.next.at = now;
            if let Some(container) = &mut plan.next.container {
                if plan.next.state == TaskState::Running {
                    container.started_at = Some(now);
                } else if plan.next.state.is_terminal() && container.started_at.is_some() {
                    container.finished_at = Some(now);
                }
            }
            let node = task.node.unwrap();
            observations.push(Observation { task: id, node, status: plan.next, host_ports: None });
        }
        observations
    }

    /// What becomes of the task next, and after which time, if nothing else happens to it.
    pub fn next(&self, task: &Task, image: &str) -> Option<(Duration, TaskStatus)> {
        use TaskState as S;
        let state = task.status.state;
        if state.is_terminal() {
            return None;
        }
        let to = |state: S, error: &str| TaskStatus {
            state,
            message: state.to_string(),
            error: error.to_owned(),
            container: task.status.container.clone(),
            ..TaskStatus::default()
        };
        let ms = Duration::from_millis;
        if task.desired >= DesiredState::Shutdown {
            let wait = if state >= S::Starting { self.stop } else { ms(1) };
            return Some((wait, to(S::Shutdown, "")));
        }
        let mut words = image.split(':');
        let (kind, time, code) = (words.next().unwrap(), words.next(), words.next());
        let time = ms(time.and_then(|time| time.parse().ok()).unwrap_or(0));
        match state {
            S::Assigned => Some((ms(1), to(S::Accepted, ""))),
            S::Accepted => Some((ms(0), to(S::Preparing, ""))),
            // Found out while preparing, whether or not it may start yet.
            S::Preparing if kind == "reject" => Some((ms(1), to(S::Rejected, "no such image"))),
            S::Preparing => Some((self.prepare, to(S::Ready, ""))),
            S::Ready if task.desired == DesiredState::Ready => None,
            S::Ready => Some((ms(1), to(S::Starting, ""))),
            S::Starting if kind == "hang" => None,
            S::Starting => {
                let mut status = to(S::Running, "");
                status.container = Some(ContainerStatus { pid: 1, ..ContainerStatus::default() });
                Some((ms(10), status))
            }
            S::Running if kind.ends_with("done") => Some((time, ended(to(S::Complete, ""), 0))),
            S::Running if kind.ends_with("crash") => {
                let code: i32 = code.and_then(|code| code.parse().ok()).unwrap_or(1);
                Some((time, ended(to(S::Failed, "task: non-zero exit"), code)))
            }
            _ => None,
        }
    }
}

fn ended(mut status: TaskStatus, code: i32) -> TaskStatus {
    if let Some(container) = &mut status.container {
        container.exit_code = Some(code);
    }
    status
}
