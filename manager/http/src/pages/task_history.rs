//! How a task came to be what it is: the states that it went through, from the commits that this manager remembers and, for what
//! lies before them, from what the task itself holds. Pure.

use std::sync::Arc;

use berth_manager::store::{Commit, Event, Object, State};
use berth_proto::object::Task;
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;

use super::chronicle::{placed, task_change};

/// One point of a task's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// The state that was entered; `None` where something else happened.
    pub state: Option<TaskState>,
    /// What happened, for a moment without a state.
    pub what: &'static str,
    /// More about it.
    pub detail: String,
    /// Who did it, where that is known.
    pub actor: Option<Arc<str>>,
}

/// The moments of a task, the oldest first.
pub fn history(state: &State, task: &Task, commits: &[Arc<Commit>]) -> Vec<Moment> {
    let mut moments: Vec<Moment> = commits
        .iter()
        .flat_map(|commit| commit.authored())
        .flat_map(|(event, author)| remembered(state, task, event, author.at, &author.actor))
        .collect();
    for held in held(task) {
        let known = moments.iter().any(|moment| (moment.state, moment.what) == (held.state, held.what));
        if !known {
            moments.push(held);
        }
    }
    // A state is entered on the node before it is committed: what the task itself says comes first.
    moments.sort_by_key(|moment| moment.at);
    moments
}

fn remembered(state: &State, task: &Task, event: &Event, at: Timestamp, actor: &Arc<str>) -> Vec<Moment> {
    let of_task = |object: &Object| match object {
        Object::Task(one) if one.id == task.id => Some(Arc::clone(one)),
        _ => None,
    };
    let Some(after) = event.after().and_then(of_task) else { return Vec::new() };
    let moment = |state, what, detail| Moment { at, state, what, detail, actor: Some(Arc::clone(actor)) };
    let Some(before) = event.before().and_then(of_task) else {
        // The loops that work together make it, give it addresses and place it at once.
        let entered = (after.status.state > TaskState::New).then_some(after.status.state);
        let detail = placed(state, None, &after).unwrap_or_default();
        let entered = entered.map(|entered| moment(Some(entered), "", detail));
        return std::iter::once(moment(None, "created", String::new())).chain(entered).collect();
    };
    let (_, detail) = task_change(state, &before, &after);
    let entered = (before.status.state != after.status.state).then_some(after.status.state);
    if entered.is_none() && detail.is_empty() {
        return Vec::new();
    }
    // The node's clock says when the state was entered, the author's when it was known.
    let at = if entered.is_some() && after.status.at > Timestamp::default() { after.status.at } else { at };
    vec![Moment { at, ..moment(entered, "", detail) }]
}

/// What the task itself says of its life.
fn held(task: &Task) -> Vec<Moment> {
    let moment = |at, state, what, detail| Moment { at, state, what, detail, actor: None };
    let status = &task.status;
    let word = if status.error.is_empty() { &status.message } else { &status.error };
    let mut held = vec![moment(task.meta.created_at, None, "created", String::new())];
    if let Some(container) = &status.container {
        held.extend(container.started_at.map(|at| moment(at, None, "process started", String::new())));
        let code = container.exit_code.map(|code| format!("exit code {code}"));
        let oom = container.oom_killed.then(|| "the kernel ended it for want of memory".to_owned());
        let detail = code.into_iter().chain(oom).collect::<Vec<_>>().join(", ");
        held.extend(container.finished_at.map(|at| moment(at, None, "process ended", detail)));
    }
    if status.at > Timestamp::default() {
        held.push(moment(status.at, Some(status.state), "", word.clone()));
    }
    held
}

#[cfg(test)]
mod tests {
    use berth_proto::id::Id;
    use berth_proto::object::{ContainerStatus, Meta, RestartRecord, Slot, TaskStatus};
    use berth_proto::state::DesiredState;

    use super::*;
    use berth_manager::store::{Author, Commit};

    fn task(state: TaskState, at: i64) -> Task {
        Task {
            id: Id::from_random(1),
            meta: Meta { version: 1, created_at: Timestamp(10), updated_at: Timestamp(10) },
            service: Id::from_random(2),
            service_name: "web".parse().expect("a name"),
            spec_version: 1,
            slot: Slot::Replica(1),
            node: None,
            desired: DesiredState::Running,
            status: TaskStatus { state, at: Timestamp(at), ..TaskStatus::default() },
            attachments: Vec::new(),
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        }
    }

    fn update(old: &Task, new: &Task, index: u64) -> Arc<Commit> {
        let event = Event::Updated { old: Object::from(old.clone()), new: Object::from(new.clone()) };
        let author = Author { actor: "agent".into(), at: Timestamp(100), events: 1 };
        Arc::new(Commit { index, events: [event].into(), authors: [author].into() })
    }

    fn told(moments: &[Moment]) -> Vec<(i64, &str)> {
        let word = |moment: &Moment| moment.state.map_or(moment.what, TaskState::as_str);
        moments.iter().map(|moment| (moment.at.0, word(moment))).collect()
    }

    #[test]
    fn what_the_manager_forgot_is_told_by_the_task_itself() {
        let mut ended = task(TaskState::Failed, 50);
        ended.status.error = "exit code 3".to_owned();
        ended.status.container = Some(ContainerStatus {
            exit_code: Some(3),
            started_at: Some(Timestamp(20)),
            finished_at: Some(Timestamp(49)),
            ..ContainerStatus::default()
        });
        let moments = history(&State::default(), &ended, &[]);
        assert_eq!(told(&moments), [(10, "created"), (20, "process started"), (49, "process ended"), (50, "failed")]);
        assert_eq!((moments[2].detail.as_str(), moments[3].detail.as_str()), ("exit code 3", "exit code 3"));
    }

    #[test]
    fn states_come_once_and_in_their_order() {
        let (pending, ready, running) =
            (task(TaskState::Pending, 20), task(TaskState::Ready, 30), task(TaskState::Running, 40));
        let mut stopping = running.clone();
        stopping.desired = DesiredState::Shutdown;
        let other = Task { id: Id::from_random(9), ..ready.clone() };
        let commits = [
            update(&pending, &ready, 2),
            update(&other, &other, 3),
            update(&ready, &running, 4),
            update(&running, &stopping, 5),
        ];
        let moments = history(&State::default(), &stopping, &commits);
        assert_eq!(told(&moments), [(10, "created"), (30, "ready"), (40, "running"), (100, "")]);
        assert_eq!(moments[3].detail, "meant to be shutdown");
    }
}
