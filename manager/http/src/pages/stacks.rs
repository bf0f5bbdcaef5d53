//! Stacks: what belongs to each, how far its services are, and removing one.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use berth_manager::store;
use berth_proto::object::{Object, ObjectKind, Service};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;

use super::answer::{Answer, go_to, render};
use super::frame::Frame;
use super::links::{Link, Links};
use super::parts::ReplicaBar;
use super::replicas::Replicas;
use super::services::{Update, ports};
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The pages, and removing a stack.
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/stacks", Needs::Role(ApiRole::Viewer), list)
        .add(Method::GET, "/stacks/{name}", Needs::Role(ApiRole::Viewer), page)
        .add(Method::POST, "/stacks/{name}/remove", Needs::Role(ApiRole::Operator), remove)
}

#[derive(Template)]
#[template(path = "stacks.html")]
struct StacksPage {
    frame: Frame,
    rows: Vec<Row>,
}

/// A stack, as far as a line says.
struct Row {
    name: String,
    services: Vec<Progress>,
    /// Other objects of it, by kind.
    others: Others,
}

impl Row {
    fn running(&self) -> u64 {
        self.services.iter().map(|service| service.replicas.running).sum()
    }

    fn desired(&self) -> u64 {
        self.services.iter().map(|service| service.replicas.desired).sum()
    }

    /// Services that are as they should be.
    fn settled(&self) -> usize {
        self.services.iter().filter(|service| service.is_settled()).count()
    }

    fn of_kind(&self, kind: &str) -> usize {
        self.others.iter().filter(|(of, _)| of.as_str() == kind).map(|(_, links)| links.len()).sum()
    }
}

type Others = BTreeMap<ObjectKind, Vec<Link>>;

/// How far a service is.
struct Progress {
    service: Arc<Service>,
    link: Link,
    replicas: Replicas,
}

impl Progress {
    fn image(&self) -> &str {
        &self.service.spec.task.container.image
    }

    fn bar(&self) -> ReplicaBar {
        ReplicaBar { replicas: self.replicas }
    }

    fn ports(&self) -> String {
        ports(&self.service).join(", ")
    }

    /// How its last update goes.
    fn update(&self) -> Option<Update> {
        Update::of(&self.service, &self.replicas)
    }

    /// Its replicas run, and no update is under way or has stopped.
    fn is_settled(&self) -> bool {
        use berth_proto::object::UpdateProgress::{Completed, RollbackCompleted};
        let update = self.service.update.as_ref().map(|update| update.progress);
        self.replicas.is_full()
            && !self.service.pending_delete
            && matches!(update, None | Some(Completed | RollbackCompleted))
    }
}

#[derive(Template)]
#[template(path = "stack.html")]
struct StackPage {
    frame: Frame,
    row: Row,
}

impl StackPage {
    fn remove_path(&self) -> String {
        format!("/stacks/{}/remove", self.row.name)
    }
}

async fn list(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let frame =
        Frame::new(&site, &state, &visitor, "/stacks", "Stacks").live("service,task,network,volume,config,secret");
    render(&StacksPage { frame, rows: rows(&state) })
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(name): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let row = rows(&state).into_iter().find(|row| row.name == name);
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("no such stack: {name}"));
    let row = row.ok_or_else(missing)?;
    let frame = Frame::new(&site, &state, &visitor, "/stacks", format!("Stack {name}"))
        .live("service,task,network,volume,config,secret");
    render(&StackPage { frame, row })
}

async fn remove(State(site): State<Site>, visitor: Visitor, Path(stack): Path<String>) -> Answer {
    site.control.stack_remove(visitor.ask(pb::StackRemoveRequest { stack })).await?;
    go_to(&visitor, "/stacks")
}

/// All stacks, by name.
fn rows(state: &store::State) -> Vec<Row> {
    let mut rows: BTreeMap<String, (Vec<Progress>, Others)> = BTreeMap::new();
    for service in state.services() {
        let Some(stack) = &service.spec.stack else { continue };
        let (services, _) = rows.entry(stack.to_string()).or_default();
        services.push(Progress {
            link: Link::service(service),
            replicas: Replicas::count(state, service),
            service: Arc::clone(service),
        });
    }
    for object in state.networks().cloned().map(Object::Network).chain(files(state)) {
        let (stack, link) = match &object {
            Object::Network(one) => (&one.spec.stack, Link::network(one)),
            Object::Volume(one) => (&one.spec.stack, listed(&one.spec.name, "/volumes")),
            Object::Config(one) => (&one.spec.stack, listed(&one.spec.name, "/configs")),
            Object::Secret(one) => (&one.spec.stack, listed(&one.spec.name, "/secrets")),
            _ => continue,
        };
        let Some(stack) = stack else { continue };
        let (_, others) = rows.entry(stack.to_string()).or_default();
        others.entry(object.kind()).or_default().push(link);
    }
    let row = |(name, (mut services, mut others)): (String, (Vec<Progress>, Others))| {
        services.sort_by(|a, b| a.link.cmp(&b.link));
        others.values_mut().for_each(|links| links.sort());
        Row { name, services, others }
    };
    // Volumes outlive their stack: they alone do not make one.
    let lives = |row: &Row| !row.services.is_empty() || row.others.keys().any(|kind| *kind != ObjectKind::Volume);
    rows.into_iter().map(row).filter(lives).collect()
}

fn files(state: &store::State) -> impl Iterator<Item = Object> {
    let volumes = state.volumes().cloned().map(Object::Volume);
    let configs = state.configs().cloned().map(Object::Config);
    volumes.chain(configs).chain(state.secrets().cloned().map(Object::Secret))
}

fn listed(name: &str, path: &str) -> Link {
    Link { text: name.to_owned(), path: path.to_owned() }
}
