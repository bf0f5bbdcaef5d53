//! The first page: the nodes as columns, their tasks as tiles, what is reserved and used of each, and who leads.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::object::{Node, Task};
use berth_proto::state::{ApiRole, Availability, NodeRole, NodeState, TaskState};
use serde::Deserialize;

use super::answer::{Answer, render};
use super::figures::Figures;
use super::frame::Frame;
use super::human::count;
use super::look::{self, Shown};
use super::parts::{Meter, Tile, is_there, natural};
use super::replicas::Replicas;
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// Nodes on one page; a filter finds the others.
const MAX_NODES: usize = 400;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/", Needs::Role(ApiRole::Viewer), page)
}

#[derive(Template)]
#[template(path = "cluster.html")]
struct ClusterPage {
    frame: Frame,
    /// What the nodes were filtered by.
    wanted: String,
    nodes: Vec<NodeCard>,
    /// Nodes that are not shown for want of room.
    left_out: usize,
    /// Tasks without a node, and why the first of them has none.
    waiting: Vec<Tile>,
    why: String,
    health: Health,
    /// How many tasks are in each state, in the order of states.
    states: Vec<(Shown, usize)>,
    managers: Vec<Manager>,
}

/// How the cluster is, in a line.
struct Health {
    ready: usize,
    nodes: usize,
    full: usize,
    services: usize,
    tasks: usize,
    leader: Option<String>,
}

/// A manager, and whether the leader hears from it.
struct Manager {
    id: String,
    name: String,
    leads: bool,
    reachable: bool,
    own: bool,
}

/// A node and what is on it.
struct NodeCard {
    id: String,
    name: String,
    state: NodeState,
    shown: Shown,
    /// Where it is not simply active.
    availability: Option<Shown>,
    role: NodeRole,
    leads: bool,
    /// What the filter box looks at besides the tasks.
    words: String,
    meters: Option<(Meter, Meter)>,
    tiles: Vec<Tile>,
}

impl NodeCard {
    fn tasks(&self) -> String {
        count(self.tiles.len(), "task")
    }
}

/// What the page was asked for.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
}

async fn page(State(site): State<Site>, visitor: Visitor, Query(asked): Query<Asked>) -> Answer {
    let state = site.manager.hub.snapshot();
    let figures = site.figures.look(&site);
    let frame = Frame::new(&site, &state, &visitor, "/", "Cluster").live("node,task,service,cluster&figures=true");
    let mut nodes: Vec<&Arc<Node>> =
        state.nodes().filter(|node| asked.q.is_empty() || is_wanted(&state, node, &asked.q)).collect();
    nodes.sort_by_cached_key(|node| natural(&find::host_name(node)));
    let left_out = nodes.len().saturating_sub(MAX_NODES);
    let (waiting, why) = waiting(&state);
    render(&ClusterPage {
        frame,
        nodes: nodes.iter().take(MAX_NODES).map(|node| card(&state, &figures, node)).collect(),
        wanted: asked.q,
        left_out,
        waiting,
        why,
        health: health(&state),
        states: states(&state),
        managers: managers(&state, &site),
    })
}

/// Whether a node, or a task on it, has the words.
fn is_wanted(state: &store::State, node: &Node, wanted: &str) -> bool {
    let words = words(node).to_lowercase();
    let on_it = || state.tasks_on_node(node.id).filter(|task| is_there(task));
    wanted.to_lowercase().split_whitespace().all(|word| {
        let has = |task: &Arc<Task>| task.service_name.contains(word) || look::task(task).word.contains(word);
        word.starts_with('-') || words.contains(word) || on_it().any(has)
    })
}

fn card(state: &store::State, figures: &Figures, node: &Node) -> NodeCard {
    NodeCard {
        id: node.id.to_string(),
        name: find::host_name(node).into_owned(),
        state: node.status.state,
        shown: look::node_state(node.status.state),
        availability: (node.spec.availability != Availability::Active)
            .then(|| look::availability(node.spec.availability)),
        role: node.spec.role,
        leads: node.manager.as_ref().is_some_and(|manager| manager.leader),
        words: words(node),
        meters: meters(state, figures, node),
        tiles: Tile::all(state, state.tasks_on_node(node.id).map(|task| &**task)),
    }
}

/// Cpu and memory of a node that has said what it has.
pub fn meters(state: &store::State, figures: &Figures, node: &Node) -> Option<(Meter, Meter)> {
    let has = &node.description.as_ref()?.resources;
    let (reserved, used) = (state.reserved(node.id), figures.nodes.get(&node.id));
    let cpu = Meter::cpu(has.nano_cpus, reserved.nano_cpus, used.and_then(|used| used.nano_cpus));
    Some((cpu, Meter::memory(has.memory, reserved.memory, used.map(|used| used.memory))))
}

/// Name, states and labels of a node, as a filter reads them.
fn words(node: &Node) -> String {
    let availability = look::availability(node.spec.availability).word;
    let labels = node.spec.labels.iter().map(|(key, value)| format!(" {key}={value}"));
    let name = find::host_name(node);
    format!("{name} {} {availability} {}{}", node.status.state, node.spec.role, labels.collect::<String>())
}

/// Tasks that have no node yet, and what is said of the first that says something.
fn waiting(state: &store::State) -> (Vec<Tile>, String) {
    let early = [TaskState::New, TaskState::Pending];
    let tasks: Vec<&Arc<Task>> = early
        .into_iter()
        .flat_map(|early| state.tasks_in_state(early))
        .filter(|task| task.node.is_none() && task.desired.wants_work())
        .collect();
    let said = tasks.iter().map(|task| match task.status.error.is_empty() {
        true => &task.status.message,
        false => &task.status.error,
    });
    let why = said.into_iter().find(|said| !said.is_empty()).cloned().unwrap_or_default();
    (Tile::all(state, tasks.iter().map(|task| &***task)), why)
}

fn health(state: &store::State) -> Health {
    let services = state.services().filter(|service| !service.pending_delete);
    let (mut full, mut all) = (0, 0);
    for service in services {
        all += 1;
        full += usize::from(Replicas::count(state, service).is_full());
    }
    let leader = state.nodes().find(|node| node.manager.as_ref().is_some_and(|manager| manager.leader));
    Health {
        ready: state.nodes().filter(|node| node.status.state == NodeState::Ready).count(),
        nodes: state.nodes().count(),
        full,
        services: all,
        tasks: state.tasks().filter(|task| is_there(task)).count(),
        leader: leader.map(|node| find::host_name(node).into_owned()),
    }
}

fn states(state: &store::State) -> Vec<(Shown, usize)> {
    let mut counts: BTreeMap<(TaskState, &str), (Shown, usize)> = BTreeMap::new();
    for task in state.tasks().filter(|task| is_there(task)) {
        let shown = look::task(task);
        counts.entry((task.status.state, shown.word)).or_insert((shown, 0)).1 += 1;
    }
    counts.into_values().collect()
}

fn managers(state: &store::State, site: &Site) -> Vec<Manager> {
    let managers = state.nodes().filter_map(|node| {
        let manager = node.manager.as_ref()?;
        Some(Manager {
            id: node.id.to_string(),
            name: find::host_name(node).into_owned(),
            leads: manager.leader,
            reachable: manager.reachable,
            own: node.id == site.manager.node,
        })
    });
    let mut managers: Vec<Manager> = managers.collect();
    managers.sort_by_cached_key(|manager| natural(&manager.name));
    managers
}
