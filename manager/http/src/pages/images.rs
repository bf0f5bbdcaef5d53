//! Images: which nodes have them whole, and what runs from them.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::extract::State;
use axum::http::Method;
use berth_manager::store;
use berth_proto::id::{NodeId, ServiceId};
use berth_proto::state::ApiRole;

use super::answer::{Answer, render};
use super::frame::Frame;
use super::links::{Link, Links};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// Nodes that one line names.
const MOST_NODES: usize = 8;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/images", Needs::Role(ApiRole::Viewer), list)
}

#[derive(Template)]
#[template(path = "images.html")]
struct ImagesPage {
    frame: Frame,
    rows: Vec<Row>,
    nodes: usize,
}

struct Row {
    reference: String,
    /// Nodes that have it, as many as are named.
    nodes: Vec<Link>,
    /// How many have it.
    holders: usize,
    services: Vec<Link>,
    /// Tasks that have not ended.
    tasks: usize,
}

impl Row {
    fn more(&self) -> usize {
        self.holders - self.nodes.len()
    }
}

async fn list(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let frame = Frame::new(&site, &state, &visitor, "/images", "Images").live("node,service,task");
    render(&ImagesPage { frame, rows: rows(&state), nodes: state.nodes().count() })
}

/// Where an image is, and what it is for.
#[derive(Default)]
struct Known {
    nodes: BTreeSet<NodeId>,
    services: BTreeSet<ServiceId>,
    tasks: usize,
}

fn rows(state: &store::State) -> Vec<Row> {
    let mut images: BTreeMap<&str, Known> = BTreeMap::new();
    for node in state.nodes() {
        for reference in node.description.iter().flat_map(|description| &description.images) {
            images.entry(reference).or_default().nodes.insert(node.id);
        }
    }
    for service in state.services() {
        images.entry(&service.spec.task.container.image).or_default().services.insert(service.id);
        for task in state.tasks_of_service(service.id).filter(|task| !task.status.state.is_terminal()) {
            let Some(spec) = service.spec_at(task.spec_version) else { continue };
            images.entry(&spec.task.container.image).or_default().tasks += 1;
        }
    }
    let row = |(reference, known): (&str, Known)| {
        let mut nodes: Vec<Link> = known.nodes.iter().map(|node| Link::node(state, *node)).collect();
        nodes.sort();
        nodes.truncate(MOST_NODES);
        Row {
            reference: reference.to_owned(),
            nodes,
            holders: known.nodes.len(),
            services: known.services.iter().filter_map(|id| state.service(*id)).map(|one| Link::service(one)).collect(),
            tasks: known.tasks,
        }
    };
    images.into_iter().map(row).collect()
}
