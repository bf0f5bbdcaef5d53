//! The page of a service: how far it is, its tasks, its spec, and what can be done with it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::object::Service;
use berth_proto::spec::{FailureAction, UpdateConfig, UpdateOrder};
use berth_proto::state::ApiRole;
use berth_proto::time::duration;

use super::answer::{Answer, render};
use super::frame::Frame;
use super::human::count;
use super::links::found;
use super::parts::{ReplicaBar, TaskTable, Tile, is_there};
use super::replicas::Replicas;
use super::services::{Update, ports, scale};
use super::spec_table::{self, Line};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/services/{id}", Needs::Role(ApiRole::Viewer), page)
}

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage {
    frame: Frame,
    service: Arc<Service>,
    bar: ReplicaBar,
    scale: Option<u64>,
    update: Option<Update>,
    ports: Vec<String>,
    /// Its addresses on its networks: network's name and path, address.
    addresses: Vec<(String, String, String)>,
    tiles: Vec<Tile>,
    tasks: TaskTable,
    spec: Vec<Line>,
}

impl ServicePage {
    fn id(&self) -> String {
        self.service.id.to_string()
    }

    fn image(&self) -> &str {
        &self.service.spec.task.container.image
    }

    fn config(&self) -> &UpdateConfig {
        &self.service.spec.update
    }

    fn delay(&self) -> String {
        duration::format(self.config().delay)
    }

    fn monitor(&self) -> String {
        duration::format(self.config().monitor)
    }

    /// What a rollback goes back to, in a line.
    fn previous(&self) -> Option<String> {
        let previous = &self.service.previous.as_ref()?.spec;
        Some(match previous.task.container.image == self.service.spec.task.container.image {
            true => "The spec before has the same image, and other settings.".to_owned(),
            false => format!("The spec before runs {}.", previous.task.container.image),
        })
    }

    fn tasks_there(&self) -> String {
        count(self.tiles.len(), "task")
    }
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let service = Arc::clone(found(find::service(&state, &word))?);
    let name = service.spec.name.to_string();
    let frame = Frame::new(&site, &state, &visitor, "/services", name).live("service,task,node,network");
    let replicas = Replicas::count(&state, &service);
    let tasks = || state.tasks_of_service(service.id).map(|task| &**task);
    render(&ServicePage {
        bar: ReplicaBar { replicas },
        scale: scale(&service),
        update: Update::of(&service, &replicas),
        ports: ports(&service),
        addresses: addresses(&state, &service),
        tiles: Tile::all(&state, tasks().filter(|task| is_there(task))),
        tasks: TaskTable::new(&state, tasks(), frame.now, "Tasks of this service", false),
        spec: spec_table::lines(&service.spec.without_digests()),
        frame,
        service: Arc::clone(&service),
    })
}

fn addresses(state: &store::State, service: &Service) -> Vec<(String, String, String)> {
    let given = service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips);
    let address = |vip: &berth_proto::object::VirtualIp| {
        let network = state.network(vip.network)?;
        Some((network.spec.name.to_string(), format!("/networks/{}", network.id), vip.ip().to_string()))
    };
    given.filter_map(address).collect()
}
