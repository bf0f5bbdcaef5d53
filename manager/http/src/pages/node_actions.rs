//! What is done with a node from its page. Before a drain a page says what will move, and where it could go.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::{find, foresee};
use berth_manager::store::Snapshot;
use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::NodeSpec;
use berth_proto::state::{ApiRole, Availability, NodeRole};
use serde::Deserialize;
use tonic::Code;

use super::answer::{Answer, done, go_to, newest, render};
use super::fields::Fields;
use super::frame::Frame;
use super::links::found;
use super::parts::is_there;
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// How often a change is made again when something else of the node was changed in between.
const ATTEMPTS: usize = 5;

/// The actions.
pub fn routes() -> Routes {
    let (operator, admin) = (Needs::Role(ApiRole::Operator), Needs::Role(ApiRole::Admin));
    Routes::default()
        .add(Method::GET, "/nodes/{id}/drain", operator, ask_drain)
        .add(Method::POST, "/nodes/{id}/drain", operator, drain)
        .add(Method::POST, "/nodes/{id}/pause", operator, pause)
        .add(Method::POST, "/nodes/{id}/activate", operator, activate)
        .add(Method::POST, "/nodes/{id}/promote", admin, promote)
        .add(Method::POST, "/nodes/{id}/demote", admin, demote)
        .add(Method::POST, "/nodes/{id}/remove", admin, remove)
}

#[derive(Template)]
#[template(path = "drain.html")]
struct DrainPage {
    frame: Frame,
    id: NodeId,
    name: String,
    moves: Vec<Moving>,
}

/// What becomes of the tasks of one service that are on the node.
struct Moving {
    service: String,
    /// Its id, for a link.
    id: String,
    tasks: usize,
    /// One task on each node: those here end, and none comes for them.
    ends: bool,
    /// Nodes that get some, with how many.
    to: Vec<(String, u32)>,
    /// Tasks that find no place, and why.
    nowhere: u32,
    why: String,
}

async fn ask_drain(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = newest(&site).await?;
    let node = Arc::clone(found(find::node(&state, &word))?);
    let name = find::host_name(&node).into_owned();
    let moves = moves(Arc::clone(&state), node.id).await?;
    let frame = Frame::new(&site, &state, &visitor, "/", format!("Drain {name}")).live("node,task,service");
    render(&DrainPage { frame, id: node.id, name, moves })
}

/// Asks the scheduler, on a thread that may be kept busy: a large cluster takes it a while.
async fn moves(state: Snapshot, node: NodeId) -> Result<Vec<Moving>, Problem> {
    let planned = tokio::task::spawn_blocking(move || {
        let now = std::time::SystemTime::now().into();
        let foresight = foresee::drain(&state, node, now, &mut rand::random)?;
        Ok(foresight.services.iter().map(|service| moving(&state, node, service)).collect())
    });
    let planned = planned.await.map_err(|_| {
        Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the scheduler has given no answer")
    })?;
    found(planned)
}

fn moving(state: &berth_manager::store::State, node: NodeId, planned: &pb::PlannedService) -> Moving {
    let service = state.service_by_name(&planned.service);
    let on_it = |id| state.tasks_of_service(id).filter(|task| task.node == Some(node) && is_there(task)).count();
    let coming = planned.nodes.iter().filter(|planned| planned.come > 0);
    let refused = planned.refusals.iter().map(|refusal| refusal.replicas).sum();
    let why = planned.refusals.iter().find_map(|refusal| refusal.reason.as_ref());
    let to: Vec<_> = coming.map(|planned| (planned.node.clone(), planned.come)).collect();
    Moving {
        id: service.map(|service| service.id.to_string()).unwrap_or_default(),
        tasks: service.map_or(0, |service| on_it(service.id)),
        ends: to.is_empty() && refused == 0,
        service: planned.service.clone(),
        to,
        nowhere: refused,
        why: why.map(|why| why.text.clone()).unwrap_or_default(),
    }
}

async fn drain(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let node = amend(&site, &visitor, &word, |spec| spec.availability = Availability::Drain).await?;
    go_to(&visitor, &path(&node))
}

async fn pause(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let node = amend(&site, &visitor, &word, |spec| spec.availability = Availability::Pause).await?;
    done(&visitor, &path(&node), &format!("{} keeps its tasks and takes no new ones.", find::host_name(&node)))
}

async fn activate(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let node = amend(&site, &visitor, &word, |spec| spec.availability = Availability::Active).await?;
    done(&visitor, &path(&node), &format!("{} takes tasks again.", find::host_name(&node)))
}

async fn promote(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let node = amend(&site, &visitor, &word, |spec| spec.role = NodeRole::Manager).await?;
    done(&visitor, &path(&node), &format!("{} is to be a manager.", find::host_name(&node)))
}

async fn demote(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let node = amend(&site, &visitor, &word, |spec| spec.role = NodeRole::Worker).await?;
    done(&visitor, &path(&node), &format!("{} is to be a worker.", find::host_name(&node)))
}

/// Whether a node goes that is not down, or that is a manager.
#[derive(Deserialize)]
struct Removal {
    #[serde(default)]
    force: bool,
}

async fn remove(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(Removal { force }): Fields<Removal>,
) -> Answer {
    let state = newest(&site).await?;
    let id = found(find::node(&state, &word))?.id.to_string();
    site.control.node_remove(visitor.ask(pb::NodeRemoveRequest { id, force, version: 0 })).await?;
    go_to(&visitor, "/")
}

/// Changes the spec of a node: only what `change` changes, whatever else was changed meanwhile.
async fn amend(
    site: &Site,
    visitor: &Visitor,
    word: &str,
    change: impl Fn(&mut NodeSpec),
) -> Result<Arc<Node>, Problem> {
    let mut attempt = 1;
    loop {
        let state = newest(site).await?;
        let node = Arc::clone(found(find::node(&state, word))?);
        let mut spec = node.spec.clone();
        change(&mut spec);
        let request =
            pb::NodeUpdateRequest { id: node.id.to_string(), version: node.meta.version, spec: Some((&spec).into()) };
        match site.control.node_update(visitor.ask(request)).await {
            Ok(_) => return Ok(node),
            Err(status) if status.code() == Code::Aborted && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(status.into()),
        }
    }
}

fn path(node: &Node) -> String {
    format!("/nodes/{}", node.id)
}
