//! `berth node update`, `activate`, `pause`.

use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::NodeSpec;
use berth_proto::state::{Availability, NodeRole};
use clap::Args;
use tonic::Code;

use super::inspect::find;
use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::value::{parse_label, parse_word};
use crate::ui::{Failure, Outcome, terminal};

/// How often a change is made again when the node was written in between.
const ATTEMPTS: usize = 10;

/// Flags of `node update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Node, by host name or id; `self` is the one that answers
    node: String,
    /// active, pause or drain
    #[arg(long, value_name = "AVAILABILITY", value_parser = parse_word::<Availability>)]
    availability: Option<Availability>,
    /// manager or worker
    #[arg(long, value_name = "ROLE", value_parser = parse_word::<NodeRole>)]
    role: Option<NodeRole>,
    /// Add or change a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
}

/// Nodes to work on.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Nodes, by host name or id; `self` is the one that answers
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

/// Changes a node.
pub async fn run(args: UpdateArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let change = |spec: &mut NodeSpec| {
        spec.availability = args.availability.unwrap_or(spec.availability);
        spec.role = args.role.unwrap_or(spec.role);
        spec.labels.retain(|key, _| !args.label_rm.contains(key));
        spec.labels.extend(args.label_add.iter().cloned());
    };
    amend(&client, &args.node, change).await?;
    terminal::print_line(&args.node)?;
    Ok(0)
}

/// Sets the availability of nodes.
pub async fn set(args: NodesArgs, availability: Availability, context: &Context) -> Outcome {
    let client = context.connect().await?;
    for word in &args.nodes {
        amend(&client, word, |spec| spec.availability = availability).await?;
        terminal::print_line(word)?;
    }
    Ok(0)
}

/// Changes the spec of a node; returns its id.
pub async fn amend(client: &Client, word: &str, change: impl Fn(&mut NodeSpec)) -> Result<NodeId, Failure> {
    let client = &client.stale(false);
    let mut attempt = 1;
    loop {
        let world = client.world(&[ObjectKind::Node]).await?;
        let node = find(client, &world, word).await?;
        let mut spec = node.spec.clone();
        change(&mut spec);
        let request =
            pb::NodeUpdateRequest { id: node.id.to_string(), version: node.meta.version, spec: Some((&spec).into()) };
        match client.control().node_update(request).await {
            Ok(_) => return Ok(node.id),
            Err(status) if status.code() == Code::Aborted && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(refused(&format!("cannot update node {word}"), &status)),
        }
    }
}
