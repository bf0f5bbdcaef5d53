//! What tasks write: the place for it on the page of a task, and the page of a service with all its replicas. The lines
//! themselves come from the API, and `logs.js` shows them.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_proto::object::Task;
use berth_proto::state::ApiRole;

use super::answer::{Answer, render};
use super::frame::Frame;
use super::links::{Link, found};
use super::parts::ReplicaBar;
use super::replicas::Replicas;
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page of a service.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/services/{id}/logs", Needs::Role(ApiRole::Viewer), page)
}

/// Where lines are shown.
pub struct LogView {
    /// Where they come from.
    pub path: String,
    /// What a file with them is called.
    pub name: String,
    /// They come from several tasks.
    pub has_names: bool,
}

impl LogView {
    /// Of one task.
    pub fn task(task: &Task, name: &str) -> Self {
        Self { path: format!("/api/v1/tasks/{}/logs", task.id), name: name.to_owned(), has_names: false }
    }
}

#[derive(Template)]
#[template(path = "logs.html")]
struct LogsPage {
    frame: Frame,
    service: Link,
    bar: ReplicaBar,
    logs: LogView,
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let service = found(find::service(&state, &word))?;
    let name = service.spec.name.to_string();
    let frame = Frame::new(&site, &state, &visitor, "/services", format!("Logs of {name}")).live("service,task");
    let bar = ReplicaBar { replicas: Replicas::count(&state, service) };
    let logs = LogView { path: format!("/api/v1/services/{}/logs", service.id), name, has_names: true };
    render(&LogsPage { frame, service: Link::service(service), bar, logs })
}
