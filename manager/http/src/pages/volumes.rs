//! Volumes of the cluster: what they are made with, and which services mount them where.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::store;
use berth_proto::object::{Service, Volume};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::MountKind;
use berth_proto::state::ApiRole;

use super::answer::{Answer, go_to, render};
use super::frame::Frame;
use super::links::{Link, Links};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page, and removing a volume.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/volumes", Needs::Role(ApiRole::Viewer), list).add(
        Method::POST,
        "/volumes/{id}/remove",
        Needs::Role(ApiRole::Operator),
        remove,
    )
}

#[derive(Template)]
#[template(path = "volumes.html")]
struct VolumesPage {
    frame: Frame,
    rows: Vec<Row>,
}

struct Row {
    volume: Arc<Volume>,
    users: Vec<Link>,
    /// Where tasks with it run: there its files are.
    nodes: BTreeSet<Link>,
}

impl Row {
    fn node_links(&self) -> Vec<Link> {
        self.nodes.iter().cloned().collect()
    }
}

async fn list(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let users = users(&state);
    let mut rows: Vec<Row> = state.volumes().map(|volume| row(&state, volume, &users)).collect();
    rows.sort_by(|a, b| a.volume.spec.name.cmp(&b.volume.spec.name));
    let frame = Frame::new(&site, &state, &visitor, "/volumes", "Volumes").live("volume,service,task");
    render(&VolumesPage { frame, rows })
}

async fn remove(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let message = pb::ObjectRemoveRequest { kind: pb::ObjectKind::Volume.into(), ids: vec![word], version: 0 };
    site.control.object_remove(visitor.ask(message)).await?;
    go_to(&visitor, "/volumes")
}

/// The services that mount a volume, by its name.
fn users(state: &store::State) -> BTreeMap<&str, Vec<&Arc<Service>>> {
    let mut users: BTreeMap<&str, Vec<&Arc<Service>>> = BTreeMap::new();
    for service in state.services() {
        let mounts = service.spec.task.container.mounts.iter();
        let names: BTreeSet<&str> = mounts
            .filter_map(|mount| match &mount.kind {
                MountKind::Volume(volume) => volume.name.as_ref().map(|name| name.as_str()),
                MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Image(_) => None,
            })
            .collect();
        names.into_iter().for_each(|name| users.entry(name).or_default().push(service));
    }
    users
}

fn row(state: &store::State, volume: &Arc<Volume>, users: &BTreeMap<&str, Vec<&Arc<Service>>>) -> Row {
    let services = users.get(volume.spec.name.as_str()).map(Vec::as_slice).unwrap_or_default();
    let tasks = services.iter().flat_map(|service| state.tasks_of_service(service.id));
    let running = tasks.filter(|task| !task.status.state.is_terminal());
    let nodes = running.filter_map(|task| task.node).map(|node| Link::node(state, node)).collect();
    let mut links: Vec<Link> = services.iter().map(|service| Link::service(service)).collect();
    links.sort();
    Row { volume: Arc::clone(volume), users: links, nodes }
}
