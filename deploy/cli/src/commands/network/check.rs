//! `berth network check`.

use berth_agent::probe::{Here, Look};
use berth_proto::convert::ConvertError;
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::pb::network_check_request::Peer;
use berth_proto::pb::network_check_response::Part;
use berth_proto::state::NodeState;
use clap::Args;
use futures::StreamExt;

use crate::cli::Context;
use crate::client::world::World;
use crate::client::{Client, resolve};
use crate::ui::{Failure, Format, Outcome, listing, terminal};
use crate::view::network::{CheckReport, NodeSaid};

/// Nodes that look at the same time.
const AT_ONCE: usize = 16;
/// Longer tables show only what is not right.
const MOST_ROWS: usize = 1000;

/// Flags of `network check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Node that looks, by host name or id; `self` is the one that answers. Twice: the ways between the two, in full
    /// [default: every node that is ready]
    #[arg(long, value_name = "NODE")]
    node: Vec<String>,
    /// Print as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
}

/// One node that is to look, and at which; none is all.
struct Order {
    node: NodeId,
    at: Vec<NodeId>,
}

/// Lets nodes look at the ways between them; the exit code is 1 where something is wrong.
pub async fn run(args: CheckArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Node]).await?;
    let orders = orders(&client, &world, &args.node).await?;
    let is_thorough = !args.node.is_empty();
    let said = futures::stream::iter(orders).map(|order| ask(&client, order, is_thorough));
    let said: Vec<NodeSaid> = said.buffer_unordered(AT_ONCE).collect().await;
    let report = CheckReport::new(said, |node| world.node_name(node));
    let text = match args.format {
        Format::Table => report.text(args.node.len() == 2, MOST_ROWS),
        format => listing::data(&report, format)?,
    };
    terminal::print(text)?;
    Ok(u8::from(report.has_problem()))
}

async fn orders(client: &Client, world: &World, words: &[String]) -> Result<Vec<Order>, Failure> {
    let mut nodes = Vec::new();
    for word in words {
        let found = match word.as_str() {
            "self" => resolve::node(world, &client.info().await?.node_id)?,
            word => resolve::node(world, word)?,
        };
        if !nodes.contains(&found.id) {
            nodes.push(found.id);
        }
    }
    match nodes[..] {
        [] => {
            let ready = world.nodes.values().filter(|node| node.status.state == NodeState::Ready);
            Ok(ready.map(|node| Order { node: node.id, at: Vec::new() }).collect())
        }
        [one] if words.len() == 1 => Ok(vec![Order { node: one, at: Vec::new() }]),
        [a, b] => Ok(vec![Order { node: a, at: vec![b] }, Order { node: b, at: vec![a] }]),
        _ => Err(Failure::usage("--node takes one node, or two different ones to look at the ways between them")),
    }
}

/// What one node says; a node that cannot be asked has said why.
async fn ask(client: &Client, order: Order, thorough: bool) -> NodeSaid {
    let peers = order.at.iter().map(|node| Peer { node_id: node.to_string(), address: String::new() });
    let request = pb::NetworkCheckRequest { node_id: order.node.to_string(), peers: peers.collect(), thorough };
    let mut said =
        NodeSaid { node: order.node, here: Here::default(), mended: (0, Vec::new()), looks: Vec::new(), silent: None };
    let mut stream = match client.node().network_check(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return NodeSaid { silent: Some(status.message().to_owned()), ..said },
    };
    loop {
        let taken = match stream.message().await {
            Ok(Some(message)) => take(&mut said, message),
            Ok(None) => return said,
            Err(status) => return NodeSaid { silent: Some(status.message().to_owned()), ..said },
        };
        if let Err(error) = taken {
            return NodeSaid { silent: Some(format!("its answer makes no sense: {error}")), ..said };
        }
    }
}

fn take(said: &mut NodeSaid, message: pb::NetworkCheckResponse) -> Result<(), ConvertError> {
    match message.part {
        Some(Part::Here(here)) => {
            said.mended = (here.mended, here.last_mended.clone());
            said.here = Here::try_from(here)?;
        }
        Some(Part::Look(look)) => said.looks.push(Look::try_from(look)?),
        None => {}
    }
    Ok(())
}
