//! The page of a node: what it is and has, its tasks, and what can be done with it.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_proto::object::Node;
use berth_proto::state::{ApiRole, Availability, NodeRole, NodeState};

use super::answer::{Answer, render};
use super::cluster::meters;
use super::frame::Frame;
use super::human::{cores, count, size};
use super::links::found;
use super::look::{self, Shown};
use super::parts::{Meter, TaskTable, Tile};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/nodes/{id}", Needs::Role(ApiRole::Viewer), page)
}

#[derive(Template)]
#[template(path = "node.html")]
struct NodePage {
    frame: Frame,
    node: Arc<Node>,
    name: String,
    meters: Option<(Meter, Meter)>,
    tiles: Vec<Tile>,
    tasks: TaskTable,
}

impl NodePage {
    fn id(&self) -> String {
        self.node.id.to_string()
    }

    fn state(&self) -> Shown {
        look::node_state(self.node.status.state)
    }

    fn availability(&self) -> Shown {
        look::availability(self.node.spec.availability)
    }

    fn is(&self, availability: Availability) -> bool {
        self.node.spec.availability == availability
    }

    fn is_manager(&self) -> bool {
        self.node.spec.role == NodeRole::Manager
    }

    fn is_down(&self) -> bool {
        self.node.status.state == NodeState::Down
    }

    fn tasks_there(&self) -> String {
        count(self.tiles.len(), "task")
    }

    /// What it has, in a line.
    fn resources(&self) -> Option<String> {
        let has = &self.node.description.as_ref()?.resources;
        let generic = has.generic.iter().map(|(name, number)| format!(", {number} {name}")).collect::<String>();
        Some(format!("{} cpus, {} of memory{generic}", cores(has.nano_cpus), size(has.memory)))
    }
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let node = Arc::clone(found(find::node(&state, &word))?);
    let figures = site.figures.look(&site);
    let name = find::host_name(&node).into_owned();
    let frame = Frame::new(&site, &state, &visitor, "/", name.clone()).live("node,task,service&figures=true");
    let tasks = || state.tasks_on_node(node.id).map(|task| &**task);
    render(&NodePage {
        meters: meters(&state, &figures, &node),
        tiles: Tile::all(&state, tasks()),
        tasks: TaskTable::new(&state, tasks(), frame.now, "Tasks of this node", true),
        frame,
        name,
        node: Arc::clone(&node),
    })
}
