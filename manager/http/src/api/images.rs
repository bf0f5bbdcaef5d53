//! Images, as the nodes have them. Every node is asked, each by itself: what one does not say is said of it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::filter::Known;
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::state::{ApiRole, NodeState};
use futures::StreamExt;
use tonic::Status;

use super::answer::{Answer, shown};
use super::describe::{Api, Op};
use super::list;
use super::model::{Image, ImagePage, SilentNode};
use crate::problem::{Problem, refused};
use crate::site::Site;

/// Nodes that are asked at once.
const AT_ONCE: usize = 32;
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
const FILTERS: [Known; 1] = [("reference", "Part of a reference, or beginning of the id")];
const MORE: [Known; 2] =
    [("node", "Only these nodes, by id, beginning of one, or host name"), ("all", "Also images without a name")];

/// Images.
pub fn api() -> Api {
    let op = Op::new("images", "list_images", "Images, and which nodes have them")
        .filters(&FILTERS)
        .filters(&MORE[..1])
        .flag(MORE[1])
        .paging()
        .answers::<ImagePage>(200, "One page")
        .problems(&[404, 422]);
    Api::default().add(Method::GET, "/api/v1/images", ApiRole::Viewer, list_images, op)
}

async fn list_images(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let (asked, query) = list::read_with(query.as_deref(), &FILTERS, &MORE)?;
    let all = query.flag("all")?;
    let state = site.state(asked.stale).await?;
    let (ready, mut silent) = nodes(&state, query.all("node"))?;
    let asks = ready.into_iter().map(|(id, name)| {
        let site = site.clone();
        async move { (images_of(&site, id, all).await, id, name) }
    });
    let mut answers = futures::stream::iter(asks).buffer_unordered(AT_ONCE);
    let mut images: BTreeMap<String, Image> = BTreeMap::new();
    while let Some((answer, node_id, node)) = answers.next().await {
        match answer {
            Ok(own) => Image::gather(&mut images, (&node, node_id), own),
            Err(error) => silent.push(SilentNode { node, node_id, error }),
        }
    }
    for image in images.values_mut() {
        image.nodes.sort_by(|a, b| (&a.node, a.node_id).cmp(&(&b.node, b.node_id)));
    }
    silent.sort_by(|a, b| (&a.node, a.node_id).cmp(&(&b.node, b.node_id)));
    let wants = |(id, image): &(String, Image)| {
        asked.filters.allow("reference", |wanted| {
            id.starts_with(wanted) || image.references.iter().any(|reference| reference.contains(wanted))
        })
    };
    let page = asked.page(state.index(), images.into_iter(), |(id, _)| id.clone(), wants, |(_, image)| image)?;
    Ok(shown(&ImagePage { items: page.items, index: page.index, next: page.next, silent }))
}

/// A node and its host name.
type Named = (NodeId, String);

/// The nodes to ask, and those that cannot be asked.
fn nodes<'q>(
    state: &store::State,
    words: impl Iterator<Item = &'q str>,
) -> Result<(Vec<Named>, Vec<SilentNode>), Problem> {
    let mut named: Vec<_> = words.map(|word| find::node(state, word).map_err(refused)).collect::<Result<_, _>>()?;
    if named.is_empty() {
        named = state.nodes().collect();
    }
    named.sort_by_key(|node| node.id);
    named.dedup_by_key(|node| node.id);
    let (ready, other): (Vec<_>, Vec<_>) = named.into_iter().partition(|node| node.status.state == NodeState::Ready);
    let silent = other.into_iter().map(|node| SilentNode {
        node: find::host_name(node).into_owned(),
        node_id: node.id,
        error: format!("the node is {}", node.status.state),
    });
    Ok((ready.into_iter().map(|node| (node.id, find::host_name(node).into_owned())).collect(), silent.collect()))
}

async fn images_of(site: &Site, node: NodeId, all: bool) -> Result<Vec<pb::ImageSummary>, String> {
    let mut client = site.node.clone();
    let request = pb::ImageListRequest { all, node_id: node.to_string() };
    match tokio::time::timeout(PATIENCE, client.image_list(request)).await {
        Ok(answer) => {
            answer.map(|answer| answer.into_inner().images).map_err(|status: Status| status.message().to_owned())
        }
        Err(_) => Err(format!("it has not answered within {} s", PATIENCE.as_secs())),
    }
}
