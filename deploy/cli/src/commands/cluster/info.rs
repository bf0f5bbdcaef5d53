//! `berth cluster info`.

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::state::{NodeState, TaskState};
use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::client::world::World;
use crate::ui::{Format, Outcome, listing, terminal};

/// Flags of `cluster info`.
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print as table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
}

/// What is shown. The keys are a promise to scripts.
#[derive(Debug, Serialize)]
struct Info {
    id: String,
    name: String,
    version: String,
    index: u64,
    node_id: String,
    leader_node_id: String,
    nodes: usize,
    nodes_ready: usize,
    services: usize,
    tasks_running: usize,
    encrypt_networks: bool,
}

/// Shows the cluster.
pub async fn run(args: InfoArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let answer = client.info().await?;
    let world = client.world(&[ObjectKind::Node, ObjectKind::Service, ObjectKind::Task]).await?;
    let info = info(answer, &world);
    if args.format != Format::Table {
        return terminal::done(listing::data(&info, args.format)?);
    }
    terminal::done(text(&info))
}

fn info(answer: pb::ClusterInfoResponse, world: &World) -> Info {
    let cluster = answer.cluster.unwrap_or_default();
    let spec = cluster.spec.unwrap_or_default();
    Info {
        id: cluster.id,
        name: spec.name,
        encrypt_networks: spec.encrypt_networks,
        version: answer.version,
        index: answer.index,
        node_id: answer.node_id,
        leader_node_id: answer.leader_node_id,
        nodes: world.nodes.len(),
        nodes_ready: world.nodes.values().filter(|node| node.status.state == NodeState::Ready).count(),
        services: world.services.len(),
        tasks_running: world.tasks.values().filter(|task| task.status.state == TaskState::Running).count(),
    }
}

fn text(info: &Info) -> String {
    let Info {
        id,
        name,
        version,
        index,
        node_id,
        leader_node_id,
        nodes,
        nodes_ready,
        services,
        tasks_running,
        encrypt_networks,
    } = info;
    let encrypted =
        if *encrypt_networks { "encrypted unless they say otherwise" } else { "encrypted where they say so" };
    let leader = if leader_node_id.is_empty() { "none" } else { leader_node_id };
    format!(
        "Cluster:   {name} ({id})\nVersion:   {version}\nIndex:     {index}\nThis node: {node_id}\nLeader:    {leader}\n\
         Nodes:     {nodes}, {nodes_ready} ready\nServices:  {services}\nTasks:     {tasks_running} running\n\
         Networks:  {encrypted}\n"
    )
}
