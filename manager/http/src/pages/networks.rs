//! Networks: what there is, and who is attached.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::object::{Network, Service, Task};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::NetworkDriver;
use berth_proto::state::{ApiRole, TaskState};

use super::answer::{Answer, go_to, render};
use super::frame::Frame;
use super::links::{Link, found};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// Tasks of one network that its page shows.
const MOST_TASKS: usize = 1_000;

/// The pages, and removing a network.
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/networks", Needs::Role(ApiRole::Viewer), list)
        .add(Method::GET, "/networks/{id}", Needs::Role(ApiRole::Viewer), page)
        .add(Method::POST, "/networks/{id}/remove", Needs::Role(ApiRole::Operator), remove)
}

#[derive(Template)]
#[template(path = "networks.html")]
struct NetworksPage {
    frame: Frame,
    rows: Vec<Row>,
}

/// A network, as far as a line says.
struct Row {
    network: Arc<Network>,
    driver: &'static str,
    subnets: Vec<String>,
    services: usize,
    tasks: usize,
}

#[derive(Template)]
#[template(path = "network.html")]
struct NetworkPage {
    frame: Frame,
    row: Row,
    is_ingress: bool,
    services: Vec<Attached>,
    tasks: Vec<Member>,
    /// Nodes with an address on the ingress network.
    nodes: Vec<(Link, String)>,
    /// There are more that fit.
    is_cut: bool,
}

impl NetworkPage {
    fn spec(&self) -> &berth_proto::spec::NetworkSpec {
        &self.row.network.spec
    }

    fn remove_path(&self) -> String {
        format!("/networks/{}/remove", self.row.network.id)
    }
}

/// A service on a network.
struct Attached {
    service: Link,
    /// Its virtual addresses there.
    vips: Vec<String>,
    tasks: usize,
}

/// A task on a network.
struct Member {
    task: Link,
    node: Option<Link>,
    state: TaskState,
    addresses: Vec<String>,
    aliases: Vec<String>,
}

async fn list(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let mut rows: Vec<Row> = state.networks().map(|network| Row::new(&state, network)).collect();
    rows.sort_by(|a, b| a.network.spec.name.cmp(&b.network.spec.name));
    let frame = Frame::new(&site, &state, &visitor, "/networks", "Networks").live("network,service,task");
    render(&NetworksPage { frame, rows })
}

async fn page(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let state = site.manager.hub.snapshot();
    let network = found(find::network(&state, &word))?;
    let title = format!("Network {}", network.spec.name);
    let frame = Frame::new(&site, &state, &visitor, "/networks", title).live("network,service,task,node");
    let mut tasks: Vec<Member> = members(&state, network).map(|task| Member::new(&state, network, task)).collect();
    tasks.sort_by(|a, b| a.task.cmp(&b.task));
    let is_cut = tasks.len() > MOST_TASKS;
    tasks.truncate(MOST_TASKS);
    let is_ingress = network.spec.is_ingress();
    let nodes = if is_ingress { entrances(&state) } else { Vec::new() };
    let services = attached(&state, network);
    render(&NetworkPage { frame, row: Row::new(&state, network), is_ingress, services, tasks, nodes, is_cut })
}

async fn remove(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let message = pb::ObjectRemoveRequest { kind: pb::ObjectKind::Network.into(), ids: vec![word], version: 0 };
    site.control.object_remove(visitor.ask(message)).await?;
    go_to(&visitor, "/networks")
}

impl Row {
    fn new(state: &store::State, network: &Arc<Network>) -> Self {
        let pools = network.allocation.iter().flat_map(|allocation| &allocation.pools);
        Self {
            driver: driver(network.spec.driver),
            subnets: pools.map(|(subnet, gateway)| format!("{subnet} (gateway {gateway})")).collect(),
            services: users(state, network).count(),
            tasks: members(state, network).count(),
            network: Arc::clone(network),
        }
    }

    /// What goes from node to node is encrypted.
    fn is_encrypted(&self) -> bool {
        self.network.allocation.as_ref().is_some_and(|allocation| allocation.encrypted)
    }

    fn vni(&self) -> Option<u32> {
        self.network.allocation.as_ref().map(|allocation| allocation.vni).filter(|vni| *vni > 0)
    }
}

impl Member {
    fn new(state: &store::State, network: &Network, task: &Task) -> Self {
        let places = || task.attachments.iter().filter(|attachment| attachment.network == network.id);
        Self {
            task: Link::task(state, task),
            node: task.node.map(|node| Link::node(state, node)),
            state: task.status.state,
            addresses: places().flat_map(|place| place.addresses.iter().map(ToString::to_string)).collect(),
            aliases: places().flat_map(|place| place.aliases.iter().cloned()).collect(),
        }
    }
}

/// Services that are meant to be on the network, or that still have tasks there.
fn users<'s>(state: &'s store::State, network: &'s Network) -> impl Iterator<Item = &'s Arc<Service>> {
    let names = |service: &Service| service.spec.task.networks.iter().any(|one| one.network == network.spec.name);
    let lives: std::collections::BTreeSet<_> = state.services_on_network(network.id).collect();
    state.services().filter(move |service| names(service) || lives.contains(&service.id))
}

/// Tasks on the network that have not ended.
fn members<'s>(state: &'s store::State, network: &'s Network) -> impl Iterator<Item = &'s Arc<Task>> {
    let tasks = state.services_on_network(network.id).flat_map(|service| state.tasks_of_service(service));
    tasks.filter(|task| {
        !task.status.state.is_terminal() && task.attachments.iter().any(|place| place.network == network.id)
    })
}

fn attached(state: &store::State, network: &Network) -> Vec<Attached> {
    let vips = |service: &Service| {
        let all = service.endpoint.iter().flat_map(|endpoint| &endpoint.virtual_ips);
        all.filter(|vip| vip.network == network.id).map(|vip| vip.ip().to_string()).collect()
    };
    let tasks = |service: &Service| members(state, network).filter(|task| task.service == service.id).count();
    let mut attached: Vec<Attached> = users(state, network)
        .map(|service| Attached { service: Link::service(service), vips: vips(service), tasks: tasks(service) })
        .collect();
    attached.sort_by(|a, b| a.service.cmp(&b.service));
    attached
}

/// Where published ports come in.
fn entrances(state: &store::State) -> Vec<(Link, String)> {
    let addresses =
        |node: &berth_proto::object::Node| node.ingress.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let nodes = state.nodes().filter(|node| !node.ingress.is_empty());
    let mut nodes: Vec<_> = nodes.map(|node| (Link::node(state, node.id), addresses(node))).collect();
    nodes.sort();
    nodes
}

fn driver(driver: NetworkDriver) -> &'static str {
    match driver {
        NetworkDriver::Overlay => "overlay",
        NetworkDriver::Bridge => "bridge",
        NetworkDriver::Host => "host",
        NetworkDriver::None => "none",
        NetworkDriver::Macvlan => "macvlan",
    }
}
