//! Images, as the nodes have them.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// An image, and the nodes that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Image {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// What it is called, on any node.
    pub references: BTreeSet<String>,
    /// Manifest digests.
    pub digests: BTreeSet<String>,
    /// When it was built; null when it does not say.
    pub created_at: Option<Timestamp>,
    /// Bytes on a node.
    pub size: u64,
    /// Who has it.
    pub nodes: Vec<ImageHolder>,
}

/// A node that has an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImageHolder {
    /// Host name.
    pub node: String,
    /// Id.
    pub node_id: NodeId,
    /// Tasks of the node that use the image.
    pub in_use: u32,
}

/// A node that did not say what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SilentNode {
    /// Host name.
    pub node: String,
    /// Id.
    pub node_id: NodeId,
    /// Why not.
    pub error: String,
}

/// One page of a list of images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImagePage {
    /// Images, by id.
    pub items: Vec<Image>,
    /// Log index of the state that named the nodes.
    pub index: u64,
    /// Where the next page begins; null on the last one.
    pub next: Option<String>,
    /// Nodes whose images are not in the list.
    pub silent: Vec<SilentNode>,
}

impl Image {
    /// Adds what a node has to what others have.
    pub fn gather(all: &mut BTreeMap<String, Self>, (node, node_id): (&str, NodeId), images: Vec<pb::ImageSummary>) {
        for image in images {
            let holder = ImageHolder { node: node.to_owned(), node_id, in_use: image.in_use };
            let entry = all.entry(image.id.clone()).or_insert_with(|| Self {
                id: image.id,
                references: BTreeSet::new(),
                digests: BTreeSet::new(),
                created_at: Some(Timestamp(image.created_at)).filter(|at| at.0 > 0),
                size: image.size,
                nodes: Vec::new(),
            });
            entry.references.extend(image.references);
            entry.digests.extend(image.digests);
            entry.size = entry.size.max(image.size);
            entry.nodes.push(holder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_of_two_nodes_is_one_image() {
        let summary = |reference: &str, size| pb::ImageSummary {
            id: "sha256:a".to_owned(),
            references: vec![reference.to_owned()],
            size,
            ..pb::ImageSummary::default()
        };
        let mut all = BTreeMap::new();
        Image::gather(&mut all, ("n1", NodeId::from_random(1)), vec![summary("web:1", 5)]);
        Image::gather(&mut all, ("n2", NodeId::from_random(2)), vec![summary("web:2", 7)]);
        let image = &all["sha256:a"];
        assert_eq!((all.len(), image.size, image.created_at), (1, 7, None));
        assert_eq!(image.references, ["web:1", "web:2"].map(str::to_owned).into());
        assert_eq!(image.nodes.iter().map(|holder| holder.node.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    }
}
