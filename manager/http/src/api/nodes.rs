//! Nodes: lists, settings, and which part they take.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::filter;
use berth_proto::object;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::NodeSpec;
use berth_proto::state::{ApiRole, Availability, NodeRole};

use super::answer::{Answer, By, WithQuery, declined, nothing, shown, tagged};
use super::describe::{Api, Op};
use super::input::{Condition, Json, Word};
use super::list;
use super::model::{Node, NodeSettings};
use super::query::Query;
use crate::problem::refused;
use crate::site::Site;

const TAG: &str = "nodes";
const FORCE: filter::Known = ("force", "Also a node that is not down, or that is a manager");

/// Nodes.
pub fn api() -> Api {
    let (viewer, operator, admin) = (ApiRole::Viewer, ApiRole::Operator, ApiRole::Admin);
    let one = |id: &str, summary: &str| Op::new(TAG, id, summary).word("node");
    let act = |id: &str, summary: &str| one(id, summary).writes().answers_tagged::<Node>("The node");
    Api::default()
        .add(
            Method::GET,
            "/api/v1/nodes",
            viewer,
            list_nodes,
            Op::new(TAG, "list_nodes", "Machines of the cluster").pages::<Node>(&filter::NODE),
        )
        .add(
            Method::GET,
            "/api/v1/nodes/{node}",
            viewer,
            get,
            one("get_node", "One node").stale().answers_tagged::<Node>("The node"),
        )
        .add(
            Method::PUT,
            "/api/v1/nodes/{node}",
            operator,
            replace,
            act("replace_node", "Set availability and labels").takes::<NodeSettings>(true).if_match(true),
        )
        .add(
            Method::DELETE,
            "/api/v1/nodes/{node}",
            admin,
            remove,
            one("remove_node", "Remove a node that is down")
                .flag(FORCE)
                .if_match(false)
                .writes()
                .answers_nothing("It is not part of the cluster any more"),
        )
        .add(
            Method::POST,
            "/api/v1/nodes/{node}/drain",
            operator,
            drain,
            act("drain_node", "Let its tasks go elsewhere, and give it no others"),
        )
        .add(
            Method::POST,
            "/api/v1/nodes/{node}/activate",
            operator,
            activate,
            act("activate_node", "Let it take tasks"),
        )
        .add(
            Method::POST,
            "/api/v1/nodes/{node}/pause",
            operator,
            pause,
            act("pause_node", "Let it keep its tasks, and give it no others"),
        )
        .add(Method::POST, "/api/v1/nodes/{node}/promote", admin, promote, act("promote_node", "Make it a manager"))
        .add(Method::POST, "/api/v1/nodes/{node}/demote", admin, demote, act("demote_node", "Make it a worker"))
}

async fn list_nodes(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &filter::NODE)?;
    let state = site.state(asked.stale).await?;
    let wants = |node: &&object::Node| asked.filters.node(node);
    let all = state.nodes().map(|node| &**node);
    Ok(shown(&asked.page(state.index(), all, |node| node.id, wants, |node| Node::new(node, &state))?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    answer(&state, find::node(&state, &word).map_err(refused)?)
}

fn answer(state: &store::State, node: &object::Node) -> Answer {
    Ok(tagged(node.meta.version, &Node::new(node, state)))
}

async fn replace(
    State(site): State<Site>,
    Word(word): Word,
    condition: Condition,
    by: By,
    Json(settings): Json<NodeSettings>,
) -> Answer {
    let NodeSettings { availability, labels } = settings;
    let change = |spec: &NodeSpec| NodeSpec { role: spec.role, availability, labels };
    update(&site, &word, &by, |current| condition.required(current), change).await
}

/// Writes a spec that is made from the one that there is; `version` says which it has to be.
async fn update(
    site: &Site,
    word: &str,
    by: &By,
    version: impl FnOnce(u64) -> Result<u64, crate::problem::Problem>,
    change: impl FnOnce(&NodeSpec) -> NodeSpec,
) -> Answer {
    let state = site.state(false).await?;
    let node = find::node(&state, word).map_err(refused)?;
    let (id, version) = (node.id, version(node.meta.version)?);
    // What is not named in the spec stays as it was read, or is refused: the version is that of the state it is from.
    let version = if version == 0 { node.meta.version } else { version };
    let request = pb::NodeUpdateRequest { id: id.to_string(), version, spec: Some((&change(&node.spec)).into()) };
    let done = site.control.node_update(by.asks(request)).await;
    done.map_err(|status| declined(status, || site.manager.hub.snapshot().node(id).map(|node| node.meta.version)))?;
    let state = site.manager.hub.snapshot();
    answer(&state, find::node(&state, &id.to_string()).map_err(refused)?)
}

async fn remove(
    State(site): State<Site>,
    Word(word): Word,
    condition: Condition,
    WithQuery(by): WithQuery,
    RawQuery(query): RawQuery,
) -> Answer {
    let force = Query::parse(query.as_deref(), &[FORCE.0])?.flag(FORCE.0)?;
    let state = site.state(false).await?;
    let node = find::node(&state, &word).map_err(refused)?;
    let (id, version) = (node.id, condition.version(node.meta.version)?);
    let done = site.control.node_remove(by.asks(pb::NodeRemoveRequest { id: id.to_string(), force, version })).await;
    done.map_err(|status| declined(status, || site.manager.hub.snapshot().node(id).map(|node| node.meta.version)))?;
    Ok(nothing())
}

/// Sets one thing, whatever else is changed at the same time.
async fn set(site: &Site, word: &str, by: &By, change: impl Fn(&mut NodeSpec)) -> Answer {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let edit = |spec: &NodeSpec| {
            let mut spec = spec.clone();
            change(&mut spec);
            spec
        };
        match update(site, word, by, |_| Ok(0), edit).await {
            Err(problem) if problem.status == 412 && attempts < ATTEMPTS => {}
            done => return done,
        }
    }
}

/// How often an action is tried again when the node changes under it: agents write to it too.
const ATTEMPTS: usize = 5;

async fn drain(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    set(&site, &word, &by, |spec| spec.availability = Availability::Drain).await
}

async fn activate(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    set(&site, &word, &by, |spec| spec.availability = Availability::Active).await
}

async fn pause(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    set(&site, &word, &by, |spec| spec.availability = Availability::Pause).await
}

async fn promote(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    set(&site, &word, &by, |spec| spec.role = NodeRole::Manager).await
}

async fn demote(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    set(&site, &word, &by, |spec| spec.role = NodeRole::Worker).await
}
