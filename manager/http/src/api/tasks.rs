//! Tasks: lists, one with its history, and why it is where it is.

use std::cmp::Reverse;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::filter;
use berth_proto::id::NodeId;
use berth_proto::object;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use tonic::Request;

use super::answer::{Answer, shown, tagged};
use super::describe::{Api, Op};
use super::events::history;
use super::input::Word;
use super::list;
use super::model::{Explanation, Task};
use super::query::Query;
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "tasks";

/// Tasks.
pub fn api() -> Api {
    let viewer = ApiRole::Viewer;
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("task");
    Api::default()
        .add(
            Method::GET,
            "/api/v1/tasks",
            viewer,
            list_tasks,
            Op::new(TAG, "list_tasks", "Tasks, also those that have ended").pages::<Task>(&filter::TASK),
        )
        .add(
            Method::GET,
            "/api/v1/tasks/{task}",
            viewer,
            get,
            one("get_task", "One task, with its history").stale().answers_tagged::<Task>("The task"),
        )
        .add(
            Method::GET,
            "/api/v1/tasks/{task}/explain",
            viewer,
            explain,
            one("explain_task", "Why it is where it is, or why no node takes it")
                .answers::<Explanation>(200, "What the scheduler says"),
        )
}

async fn list_tasks(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::TASK)?;
    let state = site.state(asked.stale).await?;
    let name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |node| find::host_name(node).into_owned());
    let wants = |task: &&object::Task| {
        let stack = state.service(task.service).and_then(|service| service.spec.stack.as_deref());
        asked.filters.task(task, stack, name)
    };
    let all = state.tasks().map(|task| &**task);
    Ok(shown(&asked.page(state.index(), all, |task| task.id, wants, |task| Task::new(task, &state))?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let task = find_task(&state, &word)?;
    let mut earlier: Vec<&Arc<object::Task>> = state
        .tasks_in_slot(task.service, task.slot)
        .filter(|other| other.id != task.id && other.meta.created_at <= task.meta.created_at)
        .collect();
    earlier.sort_by_key(|task| Reverse(task.meta.created_at));
    let earlier = Some(earlier.into_iter().map(|task| task.id).collect());
    let shape = Task { history: Some(history(&site.manager.hub, task)), earlier, ..Task::new(task, &state) };
    Ok(tagged(task.meta.version, &shape))
}

/// A task by id, beginning of one or full name; or by `service.slot`: then the newest of the slot that still works, or else
/// the newest.
pub fn find_task<'s>(state: &'s store::State, word: &str) -> Result<&'s Arc<object::Task>, Problem> {
    let refusal = match find::task(state, word) {
        Ok(found) => return Ok(found),
        Err(refusal) => refusal,
    };
    let name = |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |node| find::host_name(node).into_owned());
    let service = word.rsplit_once('.').and_then(|(service, _)| state.service_by_name(service));
    let in_slot = service.into_iter().flat_map(|service| state.tasks_of_service(service.id));
    let best = in_slot.filter(|task| task.short_name(name) == word).max_by_key(|task| {
        (task.desired.wants_work() && !task.status.state.is_terminal(), task.meta.created_at, task.id)
    });
    best.ok_or_else(|| refused(refusal))
}

async fn explain(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    Query::parse(query.as_deref(), &[])?;
    let state = site.state(false).await?;
    let task = find_task(&state, &word)?;
    if task.status.state.is_terminal() {
        return Ok(shown(&Explanation::default()));
    }
    let request = Request::new(pb::TaskExplainRequest { name_or_id: task.id.to_string() });
    Ok(shown(&Explanation::from(site.control.task_explain(request).await?.into_inner())))
}
