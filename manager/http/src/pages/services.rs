//! All services, and how far each is.

use askama::Template;
use axum::extract::State;
use axum::http::Method;
use berth_manager::store;
use berth_proto::object::Service;
use berth_proto::spec::ServiceMode;
use berth_proto::state::ApiRole;

use super::answer::{Answer, render};
use super::frame::Frame;
use super::look::{self, Shown};
use super::parts::{ReplicaBar, natural};
use super::replicas::Replicas;
use super::task_spec::port;
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/services", Needs::Role(ApiRole::Viewer), page)
}

#[derive(Template)]
#[template(path = "services.html")]
struct ServicesPage {
    frame: Frame,
    rows: Vec<Row>,
}

/// A service, as far as a line says.
struct Row {
    id: String,
    name: String,
    stack: Option<String>,
    mode: &'static str,
    bar: ReplicaBar,
    /// The number that a person set, where there is one.
    scale: Option<u64>,
    image: String,
    ports: Vec<String>,
    update: Option<Update>,
    leaving: bool,
}

/// Where the last update is.
pub struct Update {
    /// In a word.
    pub shown: Shown,
    /// Tasks that are as the newest spec says, of how many; while it goes on.
    pub progress: Option<(u64, u64)>,
    /// Why, for people.
    pub message: String,
}

impl Update {
    /// Of a service; `None` when it was never updated.
    pub fn of(service: &Service, replicas: &Replicas) -> Option<Self> {
        use berth_proto::object::UpdateProgress::{Completed, RollbackCompleted};
        let update = service.update.as_ref()?;
        let is_over = matches!(update.progress, Completed | RollbackCompleted);
        Some(Self {
            shown: look::update(update.progress),
            progress: (!is_over).then_some(replicas.updated),
            message: update.message.clone(),
        })
    }
}

/// The number of replicas that a person may set, where there is one.
pub fn scale(service: &Service) -> Option<u64> {
    match service.mode() {
        ServiceMode::Replicated { replicas } => Some(replicas),
        ServiceMode::ReplicatedJob { total_completions, .. } => Some(total_completions),
        ServiceMode::Global | ServiceMode::GlobalJob => None,
    }
}

/// Its published ports; once the allocator has chosen some, with those.
pub fn ports(service: &Service) -> Vec<String> {
    let given = service.endpoint.as_ref().map(|endpoint| &endpoint.ports).filter(|ports| !ports.is_empty());
    given.unwrap_or(&service.spec.endpoint.ports).iter().map(port).collect()
}

async fn page(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let mut rows: Vec<Row> = state.services().map(|service| row(&state, service)).collect();
    rows.sort_by_cached_key(|row| natural(&row.name));
    let frame = Frame::new(&site, &state, &visitor, "/services", "Services").live("service,task");
    render(&ServicesPage { frame, rows })
}

fn row(state: &store::State, service: &Service) -> Row {
    let replicas = Replicas::count(state, service);
    Row {
        id: service.id.to_string(),
        name: service.spec.name.to_string(),
        stack: service.spec.stack.as_ref().map(ToString::to_string),
        mode: service.spec.mode.as_str(),
        scale: scale(service),
        image: service.spec.task.container.image.clone(),
        ports: ports(service),
        update: Update::of(service, &replicas),
        leaving: service.pending_delete,
        bar: ReplicaBar { replicas },
    }
}
