//! The page of a task: how it came to be what it is, why it is where it is, what it runs, what it writes, and a terminal in it.

use std::cmp::Reverse;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::{Refused, find, foresee};
use berth_manager::store::{self, Snapshot};
use berth_proto::id::TaskId;
use berth_proto::object::Task;
use berth_proto::pb;
use berth_proto::pb::task_explain_response::Outcome;
use berth_proto::state::{ApiRole, TaskState};
use berth_proto::time::Timestamp;

use super::answer::{Answer, render};
use super::chronicle::remembered;
use super::frame::Frame;
use super::links::{Link, found};
use super::logs::LogView;
use super::task_history::{Moment, history};
use super::task_spec::{Fact, facts, port};
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/tasks/{id}", Needs::Role(ApiRole::Viewer), page)
}

#[derive(Template)]
#[template(path = "task.html")]
struct TaskPage {
    frame: Frame,
    name: String,
    task: Arc<Task>,
    /// Its service; without a path when that is gone.
    service: Link,
    node: Option<Link>,
    /// Node on which others make way for it.
    nominated: Option<Link>,
    networks: Vec<Joined>,
    ports: Vec<String>,
    moments: Vec<Moment>,
    explained: Explained,
    facts: Vec<Fact>,
    /// Other tasks of its slot, the newest first.
    siblings: Vec<Sibling>,
    logs: LogView,
}

impl TaskPage {
    /// A terminal can be opened: there is a container, and the visitor may.
    fn has_terminal(&self) -> bool {
        self.frame.may_operate() && self.task.status.state == TaskState::Running
    }

    fn exit_code(&self) -> Option<i32> {
        self.task.status.container.as_ref()?.exit_code
    }

    fn is_oom_killed(&self) -> bool {
        self.task.status.container.as_ref().is_some_and(|container| container.oom_killed)
    }
}

/// A network that the task is on.
struct Joined {
    network: Link,
    addresses: Vec<String>,
    aliases: Vec<String>,
}

/// Another task of the same slot.
struct Sibling {
    link: Link,
    state: TaskState,
    node: Option<Link>,
    error: String,
    exit_code: Option<i32>,
    created_at: Timestamp,
}

/// What the scheduler says.
enum Explained {
    Placed(pb::Placed),
    Unplaced(pb::Unplaced),
    /// It says nothing, and why.
    Nothing(String),
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let task = Arc::clone(found(find::task(&state, &word))?);
    let explained = explain(Arc::clone(&state), task.id).await?;
    let name = Link::task(&state, &task).text;
    let commits = remembered(&site.manager.hub);
    let frame = Frame::new(&site, &state, &visitor, "/services", name.clone()).live("task,service,node");
    render(&TaskPage {
        service: service(&state, &task),
        node: task.node.map(|node| Link::node(&state, node)),
        nominated: task.nominated.map(|node| Link::node(&state, node)),
        networks: joined(&state, &task),
        ports: task.host_ports.iter().map(port).collect(),
        moments: history(&state, &task, &commits),
        facts: state.spec_of(&task).map(|spec| facts(spec)).unwrap_or_default(),
        siblings: siblings(&state, &task),
        logs: LogView::task(&task, &name),
        explained,
        frame,
        name,
        task,
    })
}

/// Asks the scheduler, on a thread that may be kept busy: a large cluster takes it a while.
async fn explain(state: Snapshot, task: TaskId) -> Result<Explained, Problem> {
    let now = std::time::SystemTime::now().into();
    let asked = tokio::task::spawn_blocking(move || foresee::explain(&state, &task.to_string(), now)).await;
    let Ok(answer) = asked else { return Ok(Explained::Nothing("the scheduler has given no answer".to_owned())) };
    Ok(match answer {
        Ok(pb::TaskExplainResponse { outcome: Some(Outcome::Placed(placed)) }) => Explained::Placed(placed),
        Ok(pb::TaskExplainResponse { outcome: Some(Outcome::Unplaced(unplaced)) }) => Explained::Unplaced(unplaced),
        Ok(pb::TaskExplainResponse { outcome: None }) => {
            Explained::Nothing("the task holds no place any more".to_owned())
        }
        // Its service has gone, or has no longer the spec: the rest of the page is still worth to be seen.
        Err(refused @ Refused::Lacks(_)) => Explained::Nothing(refused.to_string()),
        Err(refused) => return found(Err(refused)),
    })
}

fn service(state: &store::State, task: &Task) -> Link {
    match state.service(task.service) {
        Some(service) => Link::service(service),
        None => Link { text: task.service_name.to_string(), path: String::new() },
    }
}

fn joined(state: &store::State, task: &Task) -> Vec<Joined> {
    let attachments = task.attachments.iter().map(|attachment| Joined {
        network: match state.network(attachment.network) {
            Some(network) => Link::network(network),
            None => Link { text: attachment.network.to_string(), path: String::new() },
        },
        addresses: attachment.addresses.iter().map(ToString::to_string).collect(),
        aliases: attachment.aliases.to_vec(),
    });
    attachments.collect()
}

fn siblings(state: &store::State, task: &Task) -> Vec<Sibling> {
    let mut others: Vec<_> =
        state.tasks_in_slot(task.service, task.slot).filter(|other| other.id != task.id).cloned().collect();
    others.sort_by_key(|other| Reverse((other.meta.created_at, other.id)));
    let sibling = |other: &Arc<Task>| Sibling {
        link: Link { text: super::human::short(other.id), ..Link::task(state, other) },
        state: other.status.state,
        node: other.node.map(|node| Link::node(state, node)),
        error: other.status.error.clone(),
        exit_code: other.status.container.as_ref().and_then(|container| container.exit_code),
        created_at: other.meta.created_at,
    };
    others.iter().map(sibling).collect()
}
